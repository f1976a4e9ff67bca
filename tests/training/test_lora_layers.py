"""Adapters go on layers that the base has, and a recipe's share of them is of any base's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main
from training.errors import UsageError
from training.lora_layers import with_chosen_layers
from training.ppo_recipe import PPORecipe
from training.recipe import SHIPPED, LoraSettings, SFTRecipe
from training.run_directory import RunDirectory
from training.yaml_file import load

NAMES = ["q_proj", "v_proj"]


def recipe(base: Path, **lora: Any) -> SFTRecipe:
    settings = LoraSettings(target_modules=NAMES, **lora)
    return SFTRecipe(method="sft", base=str(base), data={"source": "starter"}, lora=settings)  # type: ignore[arg-type]


def layers(found: SFTRecipe) -> list[int] | None:
    return found.lora.layers_to_transform if found.lora else None


def with_layers(folder: Path, tiny: Path, count: int) -> Path:
    """The tiny checkpoint's config, of a base with so many layers."""
    folder.mkdir()
    config = json.loads((tiny / "config.json").read_text()) | {"num_hidden_layers": count}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("count", "share", "wanted"), [(30, 0.33, range(20, 30)), (16, 0.5, range(8, 16)), (2, 0.1, [1]), (2, 1.0, None)]
)
def test_the_upper_share_is_of_the_layers_that_the_base_has(
    tmp_path: Path, tiny: Path, count: int, share: float, wanted: Any
) -> None:
    base = with_layers(tmp_path / "base", tiny, count)
    found = with_chosen_layers(recipe(base, upper_layers=share), tmp_path / "run")
    assert layers(found) == (None if wanted is None else list(wanted))


def test_layers_that_the_base_has_not_are_refused_before_it_is_loaded(tmp_path: Path, tiny: Path, capsys) -> None:
    with pytest.raises(UsageError, match="no such layers") as refused:
        with_chosen_layers(recipe(tiny, layers_to_transform=[1, 2, 15]), tmp_path / "run")
    assert refused.value.expected == "layers from 0 to 1, for it has 2"
    assert refused.value.found == "2, 15"
    command = ["sft", "--recipe", "sft-starter", "--out", str(tmp_path / "out"), f"base={tiny}"]
    assert main([*command, "lora.layers_to_transform=[15]"]) == 2
    assert "no such layers" in capsys.readouterr().err


def test_named_layers_count_where_a_starter_recipe_says_a_share(tmp_path: Path, tiny: Path) -> None:
    starter = load(SHIPPED / "ppo-starter.yaml", PPORecipe, [f"base={tiny}"])
    assert starter.lora is not None
    assert with_chosen_layers(starter, tmp_path / "run").lora.layers_to_transform == [1]  # type: ignore[union-attr]
    named = load(SHIPPED / "ppo-starter.yaml", PPORecipe, [f"base={tiny}", "lora.layers_to_transform=[0]"])
    assert with_chosen_layers(named, tmp_path / "run").lora.layers_to_transform == [0]  # type: ignore[union-attr]


def test_a_run_goes_on_with_the_layers_that_it_was_begun_with_wherever_its_base_is(tmp_path: Path, tiny: Path) -> None:
    begun = with_chosen_layers(recipe(tiny, upper_layers=0.5), tmp_path / "run")
    RunDirectory.open(tmp_path / "run", begun)
    assert layers(with_chosen_layers(recipe(tmp_path / "gone", upper_layers=0.5), tmp_path / "run")) == [1]
