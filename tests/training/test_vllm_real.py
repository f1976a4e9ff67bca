"""Rollouts by vLLM itself, where it can be imported; test_vllm_rollouts.py has the same by a stand-in, everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import greedy_answer, make_config, make_tokenizer
from tiny_ppo import PROMPTS

from training.decoding import Decoding
from training.policy import ActorCritic
from training.recipe import LoraSettings
from training.vllm_rollouts import VLLMRollouts

pytest.importorskip("vllm", reason="vLLM is not installed: docs/ppo.md says how, in an environment of its own")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.filterwarnings("default")]
LORA = LoraSettings(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"])
AGREE = 1e-3  # nats, between two engines' kernels in float32


def model_of(seed: int, tied: bool) -> Any:
    """A Llama with heads of a size that vLLM's kernels have."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    config = make_config(head_dim=32)
    config.tie_word_embeddings = tied
    return LlamaForCausalLM(config)


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("vllm") / "base"
    model_of(0, request.param).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VLLM_CPU_KVCACHE_SPACE", "1")
        yield VLLMRollouts(folder, "float32", 32, 0.3), request.param


def said(engine: VLLMRollouts, prompt: list[int]) -> torch.Tensor:
    """vLLM's log-probabilities of a prompt's tokens but the first, by the weights that it was given last."""
    from vllm import SamplingParams

    settings = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
    (found,) = engine.llm.generate([{"prompt_token_ids": prompt}], sampling_params=[settings], use_tqdm=False)
    pairs = zip(found.prompt_logprobs[1:], prompt[1:], strict=True)
    return torch.tensor([each[token].logprob for each, token in pairs])


@torch.no_grad()
def computed(policy: Any, prompt: list[int]) -> torch.Tensor:
    ids = torch.tensor([prompt])
    logprobs = torch.log_softmax(policy(ids).logits[0, :-1].float(), dim=-1)
    return logprobs.gather(1, ids[0, 1:, None])[:, 0]


@pytest.mark.parametrize("adapters", [None, LORA], ids=["full", "lora"])
def test_after_each_change_of_the_weights_vllm_says_and_writes_what_the_policy_would(
    engine: Any, adapters: LoraSettings | None
) -> None:
    rollouts, tied = engine
    prompts = [*PROMPTS[:5], [1, 50], [1, 60, 61, 62, 63, 64]]
    actor = ActorCritic(model_of(1, tied), adapters).eval()  # of other weights than the engine's checkpoint
    policy, uniforms = actor.language_model, torch.rand(len(prompts), 12)
    before = None
    for change in range(3):
        greedy = rollouts.answers(policy, prompts, uniforms, Decoding(12), [2])
        asked = [prompt + answer for prompt, answer in zip(prompts, greedy, strict=True)]
        by_vllm = torch.cat([said(rollouts, ids) for ids in asked])
        by_policy = torch.cat([computed(policy, ids) for ids in asked])
        print(
            f"tied {tied}, adapters {adapters is not None}, change {change}: {(by_vllm - by_policy).abs().max():.2e} nats"
        )
        assert torch.allclose(by_vllm, by_policy, rtol=0, atol=AGREE)
        for prompt, answer in zip(prompts, greedy, strict=True):
            assert answer == greedy_answer(policy, prompt, 12, 2)
        assert greedy != before
        before = greedy
        with torch.no_grad():
            for weight in (each for each in policy.parameters() if each.requires_grad):
                weight.add_(torch.randn_like(weight), alpha=0.3 if adapters else 0.05)


def test_sampled_answers_are_the_same_again_by_their_seeds_and_stop_where_told(engine: Any) -> None:
    rollouts, tied = engine
    policy, settings = model_of(2, tied).eval(), Decoding(12, temperature=1.0)
    uniforms = torch.rand(6, 12, generator=torch.Generator().manual_seed(0))
    same = [PROMPTS[0]] * 6
    free = rollouts.answers(policy, same, uniforms, settings, [])
    assert len({tuple(answer) for answer in free}) == 6
    assert {len(answer) for answer in free} == {12}
    assert rollouts.answers(policy, same[:1], uniforms[2:3], settings, []) == [free[2]]
    stop = free[0][3]
    for answer, whole in zip(rollouts.answers(policy, same, uniforms, settings, [stop]), free, strict=True):
        assert answer == (whole[: whole.index(stop) + 1] if stop in whole else whole)
