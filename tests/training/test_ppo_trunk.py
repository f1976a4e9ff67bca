"""Frozen layers are computed once: for the policy and its reference, and for a reward model of the same base."""

from __future__ import annotations

import pytest
import torch
from accelerate import Accelerator
from tiny_model import make_model
from tiny_ppo import PROMPTS, classifier_of, make_ppo, weights
from transformers import Gemma2Config, Gemma2ForCausalLM, Olmo3Config, Olmo3ForCausalLM

from training.frozen_trunk import frozen_layers, same_layers
from training.policy import ActorCritic
from training.ppo import PPO
from training.recipe import LoraSettings


def test_layers_below_the_lowest_adapter_are_computed_once_and_give_the_same_steps() -> None:
    adapters = LoraSettings(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], layers_to_transform=[1])
    found = []
    for cut in (True, False):
        torch.manual_seed(0)
        actor = ActorCritic(make_model(), adapters)
        assert actor.frozen_layers == 1
        if not cut:
            actor.frozen_layers = 0
        ppo = make_ppo(lora=True)
        recipe = ppo.recipe.model_copy(update={"lora": adapters})
        ppo = PPO(recipe, actor, ppo.tokenizer, ppo.rewards, PROMPTS, Accelerator(cpu=True))
        torch.manual_seed(1)
        for _ in range(2):
            log = ppo.update()
        found.append((log["kl"], log["grad_norm"], weights(ppo)))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-4)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-4)
    for name, tensor in found[0][2].items():
        assert torch.allclose(tensor, found[1][2][name], atol=1e-5), name


OF_TWO_KINDS = {
    "gemma2": lambda shape: Gemma2ForCausalLM(Gemma2Config(**shape)),
    "olmo3": lambda shape: Olmo3ForCausalLM(
        Olmo3Config(**shape, layer_types=["full_attention", "sliding_attention", "sliding_attention", "full_attention"])
    ),
}


@pytest.mark.parametrize("lowest", [2, 3])
@pytest.mark.parametrize("kind", OF_TWO_KINDS)
def test_where_some_layers_see_the_last_tokens_only_the_layers_above_a_cut_still_see_what_they_did(
    kind: str, lowest: int
) -> None:
    torch.manual_seed(0)
    shape = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "initializer_range": 0.2, "sliding_window": 12, "eos_token_id": 1,
    }  # fmt: skip
    adapters = LoraSettings(r=4, target_modules=["q_proj", "v_proj"], layers_to_transform=list(range(lowest, 4)))
    actor = ActorCritic(OF_TWO_KINDS[kind](shape).eval(), adapters)
    assert actor.frozen_layers == lowest
    ids = torch.randint(0, 64, (2, 40))
    mask = torch.ones_like(ids)
    kinds = list(actor.language_model.config.layer_types)
    with torch.no_grad():
        whole = actor(ids, mask, 10, 1.0)[0]
        cut = actor(ids, mask, 10, 1.0, actor.trunk_states(ids, mask))[0]
    assert torch.allclose(cut, whole, atol=1e-5)
    assert actor.language_model.config.layer_types == kinds
    assert actor.language_model.config.sliding_window == 12


def test_a_reward_model_of_the_same_base_reads_the_frozen_layers_states_and_gives_the_same_scores(tmp_path) -> None:
    adapters = LoraSettings(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], layers_to_transform=[1])
    model = make_model()
    reward = classifier_of(model, tmp_path)
    ppo = make_ppo(lora=True)
    ppo = PPO(ppo.recipe, ActorCritic(model, adapters), ppo.tokenizer, reward, PROMPTS, Accelerator(cpu=True))
    assert ppo.trunk_is_shared
    prompts = [prompt[: 2 + place % 3] for place, prompt in enumerate(PROMPTS)]  # padded on the left
    experience = ppo.rollout(prompts)
    whole = [prompt + answer for prompt, answer in zip(prompts, experience.responses.tokens(), strict=True)]
    assert len({len(sequence) for sequence in whole}) > 2
    assert torch.allclose(experience.scores, reward.score_ids(whole), atol=1e-5)


def test_a_reward_model_that_differs_by_one_weight_or_by_its_config_reads_tokens_instead(tmp_path) -> None:
    model = make_model()
    reward = classifier_of(model, tmp_path)
    assert same_layers(model, reward.model, 1)
    assert not same_layers(model, reward.model, 2), "nothing would be left above"
    reward.model.model.layers[0].mlp.up_proj.weight[3, 3] += 1e-4
    assert not same_layers(model, reward.model, 1)
    reward = classifier_of(model, tmp_path)
    reward.model.model.rotary_emb.inv_freq.mul_(0.5)
    assert not same_layers(model, reward.model, 1)


def test_a_model_that_cannot_be_cut_is_computed_whole() -> None:
    model = make_model()
    model.requires_grad_(False)
    model.model.layers[1].self_attn.q_proj.weight.requires_grad_(True)
    assert frozen_layers(model) == 1
    scaled = model.model.forward
    # Gemma's kind: the embeddings are scaled inside the base model, whoever gives them.
    model.model.forward = lambda input_ids=None, inputs_embeds=None, **more: scaled(
        inputs_embeds=3 * (model.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds), **more
    )
    assert frozen_layers(model) == 0
    model.lm_head.weight.requires_grad_(True)
    del model.model.forward
    assert frozen_layers(model) == 0
