"""What a TRL trainer saved with its model whole, as one under FSDP2 reads it, and the other way round.

    last = for_layout("fsdp2", trainer, Path("checkpoint-50"))      # every process calls it; returns the directory to continue from

transformers writes whole weights and the optimizer's state by the parameters' numbers; under FSDP2 it lets accelerate write
parts, by the parameters' names, in PyTorch's own format, which is read for any number of processes.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHTS, OPTIMIZER = "pytorch_model_fsdp_0", "optimizer_0"  # accelerate's directories of parts
WHOLE_OPTIMIZER = "optimizer.pt"
WHOLE_WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"


def for_layout(now: str, trainer: Any, saved: Path) -> Path:
    """`saved`, or beside it a copy in the form that the layout `now`, "whole" or "fsdp2", is read in.

    The trainer has not begun: its model is whole, and takes the saved weights on the way.
    """
    if (saved / WEIGHTS).is_dir() == (now == "fsdp2"):
        return saved
    target = saved.parent / f"as-{now}" / saved.name
    if trainer.accelerator.is_main_process:
        shutil.rmtree(target, ignore_errors=True)
        parts = (WEIGHTS, OPTIMIZER, WHOLE_WEIGHTS, WHOLE_OPTIMIZER, ADAPTER)
        shutil.copytree(saved, target, ignore=shutil.ignore_patterns(*parts))
        (_into_parts if now == "fsdp2" else _put_together)(trainer, saved, target)
    trainer.accelerator.wait_for_everyone()
    return target


def _into_parts(trainer: Any, saved: Path, target: Path) -> None:
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    model = trainer.model
    if (saved / ADAPTER).is_file():
        weights = load_file(saved / ADAPTER)
    else:
        model.load_state_dict(load_file(saved / WHOLE_WEIGHTS), strict=False)  # tied weights stand there once
        weights = model.state_dict()
    state = torch.load(saved / WHOLE_OPTIMIZER, map_location="cpu", weights_only=True)
    names = _names(trainer)
    named = {
        "state": {names[number]: values for number, values in state["state"].items()},
        "param_groups": [
            {**each, "params": [names[number] for number in each["params"]]} for each in state["param_groups"]
        ],
    }
    for directory, values in ((WEIGHTS, {"model": weights}), (OPTIMIZER, {"optimizer": named})):
        save(values, storage_writer=FileSystemWriter(target / directory), no_dist=True)


def _put_together(trainer: Any, saved: Path, target: Path) -> None:
    from peft import PeftModel

    weights = _whole(saved / WEIGHTS, target)["model"]
    if isinstance(trainer.model, PeftModel):
        save_file(weights, target / ADAPTER)
        trainer.model.peft_config["default"].save_pretrained(target)
    else:
        save_file({name: value.clone() for name, value in weights.items()}, target / WHOLE_WEIGHTS)
    named = _whole(saved / OPTIMIZER, target)["optimizer"]
    numbers = {name: number for number, name in enumerate(_names(trainer))}
    state = {
        "state": {numbers[name]: values for name, values in named["state"].items()},
        "param_groups": [
            {**each, "params": [numbers[name] for name in each["params"]]} for each in named["param_groups"]
        ],
    }
    torch.save(state, target / WHOLE_OPTIMIZER)


def _whole(parts: Path, folder: Path) -> dict[str, Any]:
    """What PyTorch's distributed checkpoint holds, on one process."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    file = folder / "whole.pt"
    dcp_to_torch_save(parts, file)
    found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    file.unlink()
    return found


def _names(trainer: Any) -> list[str]:
    """Names of the learned parameters by their numbers in the optimizer: transformers puts those that decay first."""
    decaying = set(trainer.get_decay_parameter_names(trainer.model))
    names = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    return sorted(names, key=lambda name: name not in decaying)
