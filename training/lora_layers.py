"""Which layers get adapters: those that a recipe names, or the upper share of them, by how many the base has.

recipe = with_chosen_layers(recipe, out)      # lora.upper_layers: 0.33 of 30 layers -> lora.layers_to_transform: [20, ..., 29]
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from training.checkpoint import Checkpoint
from training.errors import UsageError
from training.model_shape import shape_of
from training.packaged import PACKAGED
from training.pretrained import found_checkpoint
from training.run_directory import RunDirectory
from training.yaml_file import Settings

R = TypeVar("R", bound=Settings)


def with_chosen_layers(recipe: R, out: Path) -> R:
    """The recipe with the layers of its adapters named; as it is where all layers have them, or nothing does.

    Raises UsageError where a layer is named that the base has not. A run that was begun keeps the layers that it was begun with.
    """
    lora = getattr(recipe, "lora", None)
    if lora is None or (lora.layers_to_transform is None and lora.upper_layers in (None, 1.0)):
        return recipe
    directory = RunDirectory(out, {})
    begun = (directory.begun() or {}).get("lora") or {}
    if lora.layers_to_transform is None and begun.get("layers_to_transform") is not None:
        return _with(recipe, begun["layers_to_transform"])
    base: str = recipe.base  # type: ignore[attr-defined]
    if directory.complete or base in PACKAGED or base.endswith(".gguf"):  # the run says what is to be done with these
        return recipe
    checkpoint = found_checkpoint(base)
    count = shape_of(checkpoint.config).layers
    if lora.layers_to_transform is None:
        return _with(recipe, _upper(lora.upper_layers, count, checkpoint))
    unknown = [layer for layer in lora.layers_to_transform if not 0 <= layer < count]
    if count and unknown:
        raise UsageError(
            "the base has no such layers to put adapters on",
            where=f"lora.layers_to_transform, of the base {base}",
            expected=f"layers from 0 to {count - 1}, for it has {count}",
            found=", ".join(map(str, unknown)),
            next_step="lora.layers_to_transform=null lora.upper_layers=0.33 behind the command takes the upper third of any base",
        )
    return recipe


def _upper(share: float, count: int, checkpoint: Checkpoint) -> list[int]:
    """The upper `share` of the layers, at least one."""
    if not count:
        raise UsageError(
            "how many layers the base has is not in its config, so their upper share cannot be told",
            where=str(checkpoint.path / "config.json"),
            next_step="name them in lora.layers_to_transform, or lora.upper_layers=null for all",
        )
    return list(range(count - max(1, round(share * count)), count))


def _with(recipe: R, layers: list[int]) -> R:
    lora = recipe.lora.model_copy(update={"layers_to_transform": layers})  # type: ignore[attr-defined]
    return recipe.model_copy(update={"lora": lora})
