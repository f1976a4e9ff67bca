"""Requests that share tokens in every way, tiny models of many architectures, and lm-eval's numbers for both."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from tiny_model import make_model, make_tokenizer

VOCABULARY, CONTEXT = 259, 128
Pair = tuple[list[int], list[int]]


def random_requests(seed: int, longest: int = CONTEXT) -> list[Pair]:
    """Contexts that branch at several depths, several continuations each, duplicates, prefixes, and what is too long."""
    rng = random.Random(seed)

    def tokens(most: int, least: int = 1) -> list[int]:
        return [rng.randrange(3, VOCABULARY) for _ in range(rng.randint(least, most))]

    primer = tokens(30, 10)
    requests: list[Pair] = []
    for _ in range(8):
        question = primer[: rng.choice([0, 5, len(primer)])] + tokens(12)
        requests += [(question, tokens(8)) for _ in range(rng.randint(1, 4))]
    context, continuation = requests[0]
    requests.append((context, continuation))  # twice the same
    requests.append((context, continuation[:1]))  # a prefix of another
    requests.append(([*context, *continuation], tokens(3)))  # another is its context
    requests.append(([2], tokens(4)))  # an empty context, as lm-eval writes it
    requests.append((tokens(longest, longest - 20), tokens(20, 15)))  # longer than the model's context, so cut
    rng.shuffle(requests)
    return requests


def architecture(name: str) -> Any:
    import transformers as t

    torch.manual_seed(3)
    shared = {"vocab_size": VOCABULARY, "initializer_range": 0.2}
    small = {**shared, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    places = {"max_position_embeddings": CONTEXT}
    made = {
        "llama": lambda: make_model(3, CONTEXT),
        "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**small, **places, num_key_value_heads=2)),
        "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**shared, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT)),
        "gpt_neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**small, **places)),
        "gptj": lambda: t.GPTJForCausalLM(
            t.GPTJConfig(**shared, n_embd=32, n_layer=2, n_head=4, n_positions=CONTEXT, rotary_dim=4)
        ),
        "gemma2": lambda: t.Gemma2ForCausalLM(
            t.Gemma2Config(**small, **places, num_key_value_heads=2, head_dim=8, sliding_window=CONTEXT)
        ),
        "cohere": lambda: t.CohereForCausalLM(t.CohereConfig(**small, **places, num_key_value_heads=2)),
        "mistral": lambda: t.MistralForCausalLM(
            t.MistralConfig(**small, **places, num_key_value_heads=2, sliding_window=16)
        ),
        "bloom": lambda: t.BloomForCausalLM(t.BloomConfig(**shared, hidden_size=32, n_layer=2, n_head=4)),
        "falcon": lambda: t.FalconForCausalLM(
            t.FalconConfig(**shared, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, alibi=True)
        ),
        "mamba": lambda: t.MambaForCausalLM(
            t.MambaConfig(**shared, hidden_size=32, num_hidden_layers=2, state_size=4, use_mambapy=False)
        ),
    }
    return made[name]().eval()


def hf(model: Any, requests: Sequence[Pair], batch_size: int = 4) -> list[tuple[float, bool]]:
    """lm-eval's own backend on token ids."""
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=model, tokenizer=make_tokenizer(), batch_size=batch_size, max_length=CONTEXT)
    return lm._loglikelihood_tokens([(None, *pair) for pair in requests], disable_tqdm=True)


def assert_equal(found: Sequence[tuple[float, bool]], expected: Sequence[tuple[float, bool]], atol: float) -> None:
    np.testing.assert_allclose([score for score, _ in found], [score for score, _ in expected], atol=atol, rtol=1e-6)
    assert [greedy for _, greedy in found] == [greedy for _, greedy in expected]
