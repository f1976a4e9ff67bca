"""What sampling keeps is what a whole pass over the same responses computes, and PPO learns from it as well."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from tiny_model import make_model
from tiny_ppo import PROMPTS, classifier_of, make_ppo, weights

from training.policy import ActorCritic
from training.ppo import PPO
from training.recipe import LoraSettings

UPPER = LoraSettings(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], layers_to_transform=[1])


@pytest.mark.parametrize("adapters", [None, UPPER], ids=["full", "upper layer"])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_what_is_kept_is_what_a_second_pass_computes(adapters, temperature, tmp_path) -> None:
    model = make_model()
    reward = classifier_of(model, tmp_path)
    base = make_ppo(lora=adapters is not None)
    generation = base.recipe.generation.model_copy(update={"temperature": temperature})
    prompts = [prompt[: 2 + place % 3] for place, prompt in enumerate(PROMPTS)]  # padded on the left
    bias = torch.zeros(model.config.vocab_size)
    bias[base.tokenizer.eos_token_id] = 4.5  # so that rows end at different steps
    model.lm_head.bias = torch.nn.Parameter(bias, requires_grad=False)
    actor = ActorCritic(model, adapters)
    with torch.no_grad():
        actor.value_head.weight.normal_()
    found = []
    for keep in (True, False):
        settings = base.recipe.ppo.model_copy(update={"keep_from_sampling": keep})
        recipe = base.recipe.model_copy(update={"ppo": settings, "generation": generation})
        ppo = PPO(recipe, actor, base.tokenizer, reward, PROMPTS, Accelerator(cpu=True))
        assert ppo.trunk_is_shared == (adapters is not None)
        torch.manual_seed(4)
        found.append(ppo.rollout(prompts))
    kept, computed = found
    mask = computed.responses.mask
    assert torch.equal(kept.responses.input_ids, computed.responses.input_ids)
    assert len(set(mask.sum(dim=1).tolist())) > 2, "rows end at different steps, so some leave the batch early"
    for name in ("logprobs", "values", "ref_logprobs"):
        ours, theirs = getattr(kept, name)[mask], getattr(computed, name)[mask]
        assert torch.allclose(ours, theirs, atol=1e-4), name
    assert torch.allclose(kept.scores, computed.scores, atol=1e-4), "the last token was read, too"
    if adapters is not None:
        read = computed.responses.attention_mask.bool()
        assert torch.allclose(kept.trunk[read], computed.trunk[read], atol=1e-4)


def test_ppo_learns_from_what_was_kept() -> None:
    ppo = make_ppo(keep_from_sampling=True)
    log = [ppo.update() for _ in range(14)]
    first = torch.tensor(log[0]["scores"] + log[1]["scores"])
    last = torch.tensor(log[-2]["scores"] + log[-1]["scores"])
    error = (first.var() / len(first) + last.var() / len(last)).sqrt()
    assert last.mean() - first.mean() > 2 * error


def test_a_mini_batch_in_eight_pieces_gives_the_step_of_one_piece_from_what_was_kept() -> None:
    found = []
    for pieces in (1, 8):
        ppo = make_ppo(keep_from_sampling=True, gradient_accumulation_steps=pieces)
        ppo.update()
        found.append(weights(ppo))
    for name, tensor in found[0].items():
        assert torch.allclose(tensor, found[1][name], atol=1e-5), name
