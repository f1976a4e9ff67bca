"""A recipe's mistakes are found before anything runs, and the error names file, line and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.errors import UsageError
from training.ilql_recipe import ILQLRecipe
from training.ppo_recipe import PPORecipe
from training.recipe import (
    SHIPPED,
    BestOfNRecipe,
    DPORecipe,
    GRPORecipe,
    KTORecipe,
    RewardRecipe,
    RLOORecipe,
    SFTRecipe,
)
from training.yaml_file import load

GOOD = """\
method: ppo
base: runs/base
reward_model: runs/reward
prompts:
  source: starter
ppo:
  learning_rate: 1e-5
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return path


def test_a_number_in_scientific_notation_is_a_number(tmp_path: Path) -> None:
    assert load(write(tmp_path, GOOD), PPORecipe).ppo.learning_rate == 1e-5


def test_an_override_takes_precedence_over_the_file(tmp_path: Path) -> None:
    recipe = load(write(tmp_path, GOOD), PPORecipe, ["ppo.batch_size=4", "lora=null"])
    assert recipe.ppo.batch_size == 4
    assert recipe.lora is None


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "learning_rate",
            "learning_rat",
            r"unknown key 'ppo\.learning_rat'[\s\S]*line 7[\s\S]*did you mean 'learning_rate'",
        ),
        ("base: runs/base", "base: 7", r"wrong value for 'base'[\s\S]*line 2[\s\S]*string"),
        ("1e-5", "fast", r"wrong value for 'ppo\.learning_rate'[\s\S]*line 7[\s\S]*number[\s\S]*fast"),
        ("1e-5", "-1.0", r"greater than 0[\s\S]*-1\.0"),
        ("base: runs/base\n", "", r"'base' is missing"),
        ("reward_model: runs/reward\n", "", r"exactly one of 'reward_model'[\s\S]*none is"),
        ("base:", "reward_url: http://127.0.0.1:9\nbase:", r"exactly one of[\s\S]*reward_model and reward_url are"),
        ("ppo:", "base: twice\nppo:", r"stands twice[\s\S]*line 6"),
        ("ppo:", "ppo: [", r"not valid YAML[\s\S]*line"),
        ("method: ppo", "method: pqo", r"wrong value for 'method'[\s\S]*line 1[\s\S]*pqo"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, old: str, new: str, said: str) -> None:
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UsageError, match=said) as caught:
        load(path, PPORecipe)
    assert str(path) in str(caught.value)


def test_a_mistake_in_an_override_names_the_override(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"ppo\.batch_size[\s\S]*override 'ppo\.batch_size=many'"):
        load(write(tmp_path, GOOD), PPORecipe, ["ppo.batch_size=many"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        load(tmp_path / "none.yaml", PPORecipe)


def test_every_recipe_that_ships_is_valid() -> None:
    kinds = {
        "reward": RewardRecipe,
        "ppo": PPORecipe,
        "sft": SFTRecipe,
        "dpo": DPORecipe,
        "kto": KTORecipe,
        "ilql": ILQLRecipe,
        "best": BestOfNRecipe,
        "rloo": RLOORecipe,
        "grpo": GRPORecipe,
    }
    files = sorted(SHIPPED.glob("*.yaml"))
    assert files
    for file in files:
        load(file, kinds[file.stem.partition("-")[0]])
