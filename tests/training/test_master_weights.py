"""Weights in bfloat16 learn by steps that bfloat16 cannot hold, and a saved optimizer continues to the bit."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from pydantic import ValidationError
from tiny_model import make_model
from tiny_ppo import PROMPTS, make_ppo, weights
from torch import nn

from training.master_weights import MasterAdamW
from training.policy import ActorCritic
from training.ppo import PPO
from training.ppo_recipe import PPORecipe


def optimizer_of(rate: float = 1e-5) -> tuple[nn.Parameter, nn.Parameter, MasterAdamW]:
    rounded, exact = nn.Parameter(torch.ones(4, dtype=torch.bfloat16)), nn.Parameter(torch.ones(2))
    return rounded, exact, MasterAdamW([{"params": [rounded], "lr": rate}, {"params": [exact], "lr": rate}], 0.0)


def step(weight: nn.Parameter, optimizer: torch.optim.Optimizer) -> None:
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    optimizer.zero_grad()


def test_steps_smaller_than_a_weights_precision_add_up() -> None:
    rounded, _, optimizer = optimizer_of()
    for _ in range(400):
        step(rounded, optimizer)
    assert torch.allclose(rounded.float(), torch.full((4,), 1 - 400e-5), atol=2e-3)
    assert torch.allclose(optimizer.param_groups[0]["params"][0], torch.full((4,), 1 - 400e-5), atol=1e-5)
    lost = nn.Parameter(torch.ones(4, dtype=torch.bfloat16))
    plain = torch.optim.AdamW([lost], lr=1e-5, weight_decay=0.0)
    for _ in range(400):
        step(lost, plain)
    assert (lost == 1).all(), "without copies they vanish"


def test_weights_in_float32_take_the_steps_of_adamw() -> None:
    _, exact, optimizer = optimizer_of(1e-2)
    same = nn.Parameter(torch.ones(2))
    plain = torch.optim.AdamW([same], lr=1e-2, weight_decay=0.0)
    for _ in range(3):
        step(exact, optimizer)
        step(same, plain)
    assert torch.allclose(exact, same, atol=1e-7)
    assert exact.grad is None


def rounded_ppo(**settings: object) -> PPO:
    base = make_ppo()
    changed = base.recipe.ppo.model_copy(update={"master_weights": True, "learning_rate": 1e-3, **settings})
    recipe = base.recipe.model_copy(update={"dtype": "bfloat16", "ppo": changed})
    assert (recipe.rounded_weights, recipe.weights_dtype) == (True, "bfloat16")
    torch.manual_seed(0)
    actor = ActorCritic(make_model().to(torch.bfloat16), None)
    ppo = PPO(recipe, actor, base.tokenizer, base.rewards, PROMPTS, Accelerator(cpu=True))
    torch.manual_seed(1)
    return ppo


def test_a_run_that_continues_from_its_saved_state_takes_the_same_steps(tmp_path) -> None:
    whole = rounded_ppo()
    whole.update()
    torch.save(whole.state(), tmp_path / "state.pt")
    whole.update()
    again = rounded_ppo()
    again.load_state(torch.load(tmp_path / "state.pt", weights_only=True))
    again.update()
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(again)[name]), name
    assert whole.state()["optimizer"]["masters"], "the copies are saved, not only the rounded weights"


def test_copies_of_adapters_are_refused_for_there_is_nothing_to_copy() -> None:
    values = {"method": "ppo", "base": "b", "reward_model": "r", "prompts": {"source": "starter"}}
    with pytest.raises(ValidationError, match="master_weights"):
        PPORecipe(**values, ppo={"master_weights": True})
    assert not PPORecipe(**values, lora=None, dtype="float32", ppo={"master_weights": True}).rounded_weights
