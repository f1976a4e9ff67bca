"""ILQL of a tiny model on answers of two letters."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator
from tiny_model import make_model, make_tokenizer

from training.ilql import ILQL
from training.ilql_data import Rewarded, Transitions, tokenize
from training.ilql_heads import ValuedPolicy
from training.ilql_recipe import ILQLRecipe, ILQLSettings
from training.recipe import DataSettings, LoraSettings

QUESTION = [{"role": "user", "content": "?"}]


def make_ilql(lora: bool = False, rows: list[Transitions] | None = None, **settings: Any) -> ILQL:
    values = {
        "total_steps": 60,
        "batch_size": 32,
        "learning_rate": 3e-3,
        "head_learning_rate": 1e-2,
        "polyak_rate": 0.2,
        **settings,
    }
    recipe = ILQLRecipe(
        method="ilql",
        base="unused",
        data=DataSettings(source="unused"),
        dtype="float32",
        lora=LoraSettings(r=4, lora_alpha=8) if lora else None,
        ilql=ILQLSettings(**values),
    )
    torch.manual_seed(0)
    policy = ValuedPolicy(make_model(), recipe.lora, recipe.ilql.head_size)
    tokenizer = make_tokenizer()
    found = rows if rows is not None else tokenize(tokenizer, coin_flips(), 64)[0]
    return ILQL(recipe, policy, tokenizer.pad_token_id, found, Accelerator(cpu=True))


def coin_flips() -> list[Rewarded]:
    """Two letters each, "a" or "b"; the behaviour says each as often, and only "b" first and "a" then is worth something."""
    return [Rewarded(QUESTION, answer, float(answer == "ba")) for answer in ("aa", "ab", "ba", "bb")] * 8
