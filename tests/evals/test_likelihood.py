"""Our log-likelihoods are those of lm-eval's hf backend, and of the definition."""

from __future__ import annotations

import pytest
import torch
from tiny_model import make_model, make_tokenizer

from evals.backends import ChoiceScorer, load_lm
from evals.likelihood import log_likelihoods
from evals.task_definition import Overrides, load_task

CONTEXT = 1024


@pytest.fixture(scope="module")
def model():
    return make_model(seed=5, context=CONTEXT).eval()


@torch.no_grad()
def by_definition(model, before: list[int], after: list[int]) -> tuple[float, bool]:
    logits = model(torch.tensor([before + after])).logits[0, len(before) - 1 : -1]
    chosen = torch.log_softmax(logits, -1).gather(1, torch.tensor(after)[:, None])
    return float(chosen.sum()), bool((logits.argmax(-1) == torch.tensor(after)).all())


PAIRS = [([5, 6, 7, 8, 9], [10, 11]), ([4], [90, 91, 92, 93, 94, 95]), ([50, 51], [60]), ([70] * 30, [71] * 3)]


@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_they_equal_one_forward_pass_a_continuation(model, batch_size: int) -> None:
    greedy = model.generate(
        torch.tensor([[5, 6]]), attention_mask=torch.ones(1, 2), max_new_tokens=4, do_sample=False, eos_token_id=None
    )[0, 2:].tolist()
    pairs = [*PAIRS, ([5, 6], greedy)]
    found = log_likelihoods(model, pairs, batch_size, CONTEXT)
    for (value, is_greedy), pair in zip(found, pairs, strict=True):
        expected, expected_greedy = by_definition(model, *pair)
        assert value == pytest.approx(expected, abs=1e-4)
        assert is_greedy == expected_greedy
    assert found[-1][1]
    assert not found[0][1]


def test_what_does_not_fit_loses_its_beginning(model) -> None:
    long = list(range(3, 203))
    short = log_likelihoods(model, [(long[-8:], [9, 10])], 1, CONTEXT)
    cut = log_likelihoods(model, [(long, [9, 10])], 1, 9)
    assert cut[0][0] == pytest.approx(short[0][0], abs=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_they_equal_lm_evals_hf_backend(dtype: torch.dtype) -> None:
    from lm_eval.models.huggingface import HFLM

    model, tokenizer = make_model(seed=5, context=CONTEXT).eval().to(dtype), make_tokenizer()
    requests = load_task("starter_truthfulness", Overrides()).requests(range(0, 140, 10), None)
    ours = ChoiceScorer(load_lm(model, tokenizer, batch_size=8))(requests)
    theirs = iter(
        HFLM(pretrained=model, tokenizer=tokenizer, batch_size=8, softmax_dtype="float32").loglikelihood(
            [instance for request in requests for instance in request.instances], disable_tqdm=True
        )
    )
    tolerance = {"rel": 1e-5} if dtype == torch.float32 else {"rel": 0.005}
    for request, answers in zip(requests, ours, strict=True):
        assert len(answers) == len(request.choices) >= 4
        for value, greedy in answers:
            expected = next(theirs)
            assert value == pytest.approx(expected[0], **tolerance)
            assert greedy == expected[1]


def test_the_starter_suite_scores_each_choice_once() -> None:
    """mc1 and mc2 share their choices: as many requests as distinct choices."""
    task = load_task("starter_truthfulness", Overrides())
    for request in task.requests([0, 1, 2], None):
        both = [*request.document["mc1_targets"]["choices"], *request.document["mc2_targets"]["choices"]]
        assert [choice.strip() for choice in request.choices] == list(dict.fromkeys(both))
