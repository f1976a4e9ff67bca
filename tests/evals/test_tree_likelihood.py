"""Neither packs, budgets, slices nor kept prefixes change a log-likelihood, and each distinct token is computed once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from tree_requests import CONTEXT, VOCABULARY, architecture, assert_equal, hf, random_requests

from evals import tree_likelihood
from evals.asked_tokens import log_probabilities
from evals.likelihood_engine import LikelihoodEngine
from evals.tree_likelihood import TreeScorer


@pytest.mark.parametrize(("pack", "logits"), [(1, 1), (7, 3 * VOCABULARY), (64, 10 * VOCABULARY), (10**6, 10**9)])
def test_neither_packs_nor_chunks_of_logits_change_a_number(pack: int, logits: int) -> None:
    model, requests = architecture("llama"), random_requests(5)
    scorer = TreeScorer(model, CONTEXT)
    scorer.pack, scorer.logits, scorer.block = pack, logits, 8
    assert_equal(scorer.score(requests), hf(model, requests), 1e-4)
    distinct = {
        tuple([*before, *after][-CONTEXT - 1 : -1][: length + 1])
        for before, after in requests
        for length in range(min(CONTEXT, len(before) + len(after) - 1))
    }
    assert scorer.tokens_computed == len(distinct), "each distinct token once"


def test_no_more_logits_are_held_than_the_budget_allows(monkeypatch) -> None:
    model, requests = architecture("llama"), random_requests(6)
    held: list[tuple[int, int]] = []

    def watched(parts, *rest):
        seen = (held.append((first, part.numel())) or (first, part) for first, part in parts)
        return log_probabilities(seen, *rest)

    monkeypatch.setattr(tree_likelihood, "log_probabilities", watched)
    scorer = TreeScorer(model, CONTEXT)
    scorer.pack, scorer.logits = 16, 1000
    scorer.score(requests)
    assert max(numbers for _, numbers in held) <= 1000
    assert {first for first, _ in held} > {0}, "the vocabulary comes in parts"
    distinct = {tuple([*before, *after][:place]) for before, after in requests for place in _asked(before, after)}
    assert sum(numbers for _, numbers in held) == len(distinct) * VOCABULARY, (
        "one row of logits for each token after which something is asked"
    )


def _asked(before: list[int], after: list[int]) -> range:
    return range(max(len(before), len(before) + len(after) - CONTEXT), len(before) + len(after))


def test_a_tree_larger_than_what_is_held_at_once_is_scored_in_slices(monkeypatch) -> None:
    model, requests = architecture("llama"), random_requests(7)
    whole = TreeScorer(model, CONTEXT)
    expected = whole.score(requests)
    monkeypatch.setattr(tree_likelihood, "TREE_TOKENS", 100)
    sliced = TreeScorer(model, CONTEXT)
    assert_equal(sliced.score(requests), expected, 1e-4)
    assert sliced.tokens_computed < 1.5 * whole.tokens_computed, "slices share the path between them"


def test_a_request_does_not_depend_on_the_others() -> None:
    model, requests = architecture("llama"), random_requests(8)
    together = TreeScorer(model, CONTEXT).score(requests)
    assert_equal([TreeScorer(model, CONTEXT).score([request])[0] for request in requests], together, 1e-4)
    assert_equal(TreeScorer(model, CONTEXT).score(requests[::-1])[::-1], together, 0)


def test_a_kept_prefix_is_computed_once_and_calls_do_not_depend_on_calls_before_them() -> None:
    model, primer = architecture("llama"), list(range(10, 60))
    groups = [[([*primer, 100 + n, 7], [5, n + 3, 9]) for n in range(start, start + 4)] for start in (0, 4, 8)]
    scorer = TreeScorer(model, CONTEXT)
    scorer.keep(primer)
    in_order = [scorer.score(group) for group in groups]
    assert scorer.tokens_computed == len(primer) + 12 * 4
    again = TreeScorer(model, CONTEXT)
    again.keep(primer)
    assert again.score(groups[2]) == in_order[2], "to the last bit, or an interrupted run would end differently"
    for group, found in zip(groups, in_order, strict=True):
        assert_equal(found, hf(model, group), 1e-4)
    inside = [(primer[:9], primer[9:12]), ([4], [5])]  # asks within the kept prefix, and beside it
    assert_equal(scorer.score(inside), hf(model, inside), 1e-4)


def test_bfloat16_is_summed_in_float32() -> None:
    model, requests = architecture("llama").to(torch.bfloat16), random_requests(9)
    engine = LikelihoodEngine(model, CONTEXT, 4)
    found = engine.score(requests)
    assert engine.name == "prefix tree"
    assert_equal(found, hf(model.float(), requests), 5.0)  # the sums are of -100 to -600 nats


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_first_of_equal_logits_is_greedy_in_whatever_parts_the_vocabulary_comes(size: int) -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 3.0, 0.0], [2.0, 0.0, 2.0, 1.0, 2.0]], dtype=torch.bfloat16)
    parts = ((first, logits[:, first : first + size].clone()) for first in range(0, 5, size))
    places, tokens = np.array([0, 0, 0, 1, 1, 1]), np.array([1, 2, 3, 0, 2, 4])
    scores, likeliest = log_probabilities(parts, places, tokens, torch.device("cpu"))
    assert likeliest.tolist() == [True, False, False, True, False, False]
    expected = logits.float().log_softmax(1)[places, tokens].numpy()
    np.testing.assert_allclose(scores, expected, rtol=1e-6)
