"""Log-likelihoods come from the tree where a model takes it, are lm-eval's for every architecture, and it is said where not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from tree_requests import CONTEXT, Pair, architecture, assert_equal, hf, random_requests

from evals import tree_likelihood
from evals.likelihood_engine import LikelihoodEngine, cut, representative


def with_greedy(model: Any, requests: list[Pair]) -> list[Pair]:
    """The requests, and one that greedy decoding would give."""
    context = requests[0][0][:20]
    ids = torch.tensor([context])
    made = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return [*requests, (context, made[0, len(context) :].tolist())]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["llama", "qwen2", "gpt2", "gpt_neox"])
def test_log_likelihoods_and_greedy_flags_are_those_of_lm_evals_hf_backend(name: str, seed: int) -> None:
    model = architecture(name)
    requests = with_greedy(model, random_requests(seed))
    engine = LikelihoodEngine(model, CONTEXT, 4)
    found = engine.score(requests)
    assert engine.name == "prefix tree"
    assert_equal(found, hf(model, requests), 1e-4)
    assert found[-1][1]


@pytest.mark.parametrize("name", ["gptj", "gemma2", "cohere"])
def test_a_model_with_attention_or_logits_of_its_own_gets_a_mask_and_keeps_its_logits(name: str) -> None:
    model = architecture(name)
    requests = random_requests(1)
    engine = LikelihoodEngine(model, CONTEXT, 4)
    found = engine.score(requests)
    assert engine.name == "prefix tree"
    assert_equal(found, hf(model, requests), 1e-4)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mistral", "its attention slides over 16 tokens"),
        ("bloom", "its forward pass takes no"),
        ("falcon", "ALiBi"),
        ("mamba", "it carries a state"),
    ],
)
def test_a_model_that_cannot_take_a_tree_is_scored_plainly_and_says_why(name: str, reason: str, capsys) -> None:
    model = architecture(name)
    requests = random_requests(2, longest=60)
    engine = LikelihoodEngine(model, CONTEXT, 4)
    found = engine.score(requests)
    assert engine.name.startswith("plain: ")
    assert reason in engine.name
    assert reason in capsys.readouterr().err
    assert_equal(found, hf(model, requests), 1e-4)


def test_requests_within_a_sliding_window_are_scored_over_the_tree() -> None:
    model = architecture("mistral")
    requests = [(before[-6:], after) for before, after in random_requests(0)[:12] if len(after) < 9]
    engine = LikelihoodEngine(model, CONTEXT, 4)
    assert_equal(engine.score(requests), hf(model, requests), 1e-4)
    assert engine.name == "prefix tree"


def test_the_self_check_refuses_a_model_that_ignores_its_mask(monkeypatch) -> None:
    model = architecture("llama")
    monkeypatch.setattr(tree_likelihood, "ancestor_mask", lambda *_: np.ones((1, 1), dtype=bool))
    monkeypatch.setattr(model, "_supports_attention_backend", False)
    requests = random_requests(0)
    engine = LikelihoodEngine(model, CONTEXT, 4)
    found = engine.score(requests)
    assert "nats from plain scoring" in engine.name
    assert_equal(found, hf(model, requests), 1e-4)


def test_the_self_check_takes_two_requests_that_share_and_branch() -> None:
    requests = [([9] * 40, [1]), ([5, 6, 7], [8, 8]), ([4] * 15, [5, 6]), ([4] * 15, [7, 8]), ([4] * 90, [7, 8])]
    assert sorted(representative(requests)) == [2, 3]
    assert representative(requests[:1]) == [0]
    primed = [([*range(100), 7], [1]), ([*range(100), 8, 9], [2])]
    assert cut(primed) == [([*range(84, 100), 7], [1]), ([*range(84, 100), 8, 9], [2])]
