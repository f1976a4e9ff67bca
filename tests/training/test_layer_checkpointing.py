"""Gradient checkpointing changes what is kept for the backward pass, and nothing that is learned."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from tiny_ilql import make_ilql
from tiny_model import make_model
from tiny_ppo import PROMPTS, make_ppo, weights
from torch.autograd.graph import saved_tensors_hooks

from training.errors import UsageError
from training.grouped_attention import GROUPED, use_grouped_attention
from training.ilql import ILQL, LOSSES
from training.ilql_heads import ValuedPolicy
from training.layer_checkpointing import checkpoint_layers
from training.policy import ActorCritic
from training.ppo import PPO
from training.recipe import LoraSettings

UPPER = LoraSettings(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], layers_to_transform=[1])


def actor(checkpointed: bool, lora: LoraSettings | None, dtype: torch.dtype = torch.float32) -> ActorCritic:
    torch.manual_seed(0)
    model = make_model().to(dtype)
    use_grouped_attention(model)
    assert model.config._attn_implementation == GROUPED
    return ActorCritic(model, lora, gradient_checkpointing=checkpointed)


@pytest.mark.parametrize("lora", [None, LoraSettings(r=4), UPPER], ids=["full", "lora", "upper layers"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def test_less_is_kept_for_the_backward_pass_and_the_gradients_are_the_same(
    lora: LoraSettings | None, dtype: torch.dtype
) -> None:
    kept: list[int] = []
    gradients = []
    ids = torch.arange(4 * 32).view(4, 32) % 90 + 5
    mask = torch.ones_like(ids)
    mask[0, :7] = 0  # padded on the left
    for checkpointed in (False, True):
        one = actor(checkpointed, lora, dtype)
        sizes: dict[int, int] = {}
        with saved_tensors_hooks(lambda t, s=sizes: (s.__setitem__(t.data_ptr(), t.nbytes), t)[1], lambda t: t):
            logprobs, values, _ = one(ids, mask, 16, 1.0, one.trunk_states(ids, mask))
        (logprobs.sum() + values.sum()).backward()
        kept.append(sum(sizes.values()))
        gradients.append({name: p.grad for name, p in one.named_parameters() if p.grad is not None})
    assert kept[1] < 0.7 * kept[0], kept
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        assert torch.equal(gradient, gradients[1][name]), name


def test_ppo_takes_the_same_steps_to_the_bit() -> None:
    found = []
    for checkpointed in (False, True):
        ppo = make_ppo(lora=True)
        recipe = ppo.recipe.model_copy(update={"lora": UPPER})
        ppo = PPO(recipe, actor(checkpointed, UPPER), ppo.tokenizer, ppo.rewards, PROMPTS, Accelerator(cpu=True))
        torch.manual_seed(1)
        lines = [ppo.update() for _ in range(2)]
        found.append(([(line["kl"], line["policy_loss"], line["grad_norm"]) for line in lines], weights(ppo)))
    assert found[0][0] == found[1][0]
    for name, tensor in found[0][1].items():
        assert torch.equal(tensor, found[1][1][name]), name


def test_ilql_takes_the_same_steps_to_the_bit() -> None:
    found = []
    for checkpointed in (False, True):
        ilql = make_ilql(lora=True)
        torch.manual_seed(0)
        policy = ValuedPolicy(make_model(), ilql.recipe.lora, None, gradient_checkpointing=checkpointed)
        ilql = ILQL(ilql.recipe, policy, ilql.pad, ilql.rows, Accelerator(cpu=True))
        torch.manual_seed(1)
        found.append([[line[name] for name in (*LOSSES, "grad_norm")] for line in (ilql.step() for _ in range(3))])
    assert found[0] == found[1]


def test_a_model_whose_layers_cannot_be_checkpointed_is_refused() -> None:
    with pytest.raises(UsageError, match="cannot be checkpointed"):
        checkpoint_layers(torch.nn.Sequential(torch.nn.Linear(2, 2)))
