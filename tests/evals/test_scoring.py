"""Values of items become figures; what could not be scored is missing, and too much of it refuses the figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from evals.evaluated import find
from evals.prepare import Choices, Prepared, prepare
from evals.scoring import Figure, as_number, as_scores, score_by_task
from evals.suite import open_suite


@pytest.fixture(scope="module")
def tasks(models: Path) -> dict[str, Prepared]:
    ready, _ = prepare(open_suite("starter"), find(str(models / "parent")), Choices(limit=8, seed=0, batch_size=None))
    return {one.spec.task: one for one in ready}


def text(answer: str) -> list[dict[str, object]]:
    return [{"text": answer, "tokens": 5, "stopped": "end"}]


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (True, (1.0, 1)),
        (0.25, (0.25, 1)),
        ([True, False, True], (2 / 3, 3)),
        (float("nan"), (None, 1)),
        (None, (None, 1)),
        (("text", "text"), (None, 1)),
        ([], (None, 1)),
    ],
)
def test_a_value_is_a_number_a_list_of_them_or_missing(value: object, number: tuple[float | None, int]) -> None:
    assert as_number(value) == number


def test_multiple_choice_is_scored_by_hand_computed_masses(tasks: dict[str, Prepared]) -> None:
    """Every choice at log-likelihood -1 but the best answer at 0: mc1 is 1, mc2 the true answers' share of e^ll."""
    import math

    one = tasks["starter_truthfulness"]
    answers = []
    for request in one.requests:
        best = request.document["mc1_targets"]["choices"][0]
        answers.append([[0.0 if choice.strip() == best else -1.0, False] for choice in request.choices])
    samples, figures = score_by_task(one, answers)
    assert [figure.metric for figure in figures] == ["mc1", "mc2"]
    for request, sample in zip(one.requests, samples, strict=True):
        labels = request.document["mc2_targets"]["labels"]
        true = 1 + (sum(labels) - 1) * math.exp(-1)
        assert sample.values["mc1"] == 1.0
        assert sample.values["mc2"] == pytest.approx(true / (1 + (len(labels) - 1) * math.exp(-1)))
        assert sample.response == sample.target == request.document["mc1_targets"]["choices"][0]
        assert sample.detail["stratum"] == request.document["category"]


def test_ifeval_gives_its_four_accuracies_with_instructions_as_weights(tasks: dict[str, Prepared]) -> None:
    one = tasks["starter_instructions"]
    samples, figures = score_by_task(one, [text("")] * len(one.requests))
    assert [figure.metric for figure in figures] == [
        "prompt_level_strict_acc",
        "inst_level_strict_acc",
        "prompt_level_loose_acc",
        "inst_level_loose_acc",
    ]
    for request, sample in zip(one.requests, samples, strict=True):
        count = len(request.document["instruction_id_list"])
        assert sample.detail.get("weights", {}).get("inst_level_strict_acc", 1) == count
        assert sample.values["prompt_level_strict_acc"] in (0.0, 1.0)
    scores, refused = as_scores(one, samples, figures, seed=0)
    by_name = {score.metric: score for score in scores}
    weights = [len(request.document["instruction_id_list"]) for request in one.requests]
    followed = sum(
        weight * (sample.values["inst_level_strict_acc"] or 0) for weight, sample in zip(weights, samples, strict=True)
    )
    assert by_name["inst_level_strict_acc"].value == pytest.approx(followed / sum(weights))
    assert by_name["inst_level_strict_acc"].n == len(one.requests)
    assert refused == []


def test_an_instruction_that_is_followed_counts_and_one_that_is_not_does_not(tasks: dict[str, Prepared]) -> None:
    one = tasks["starter_instructions"]
    request = SimpleNamespace(
        document={
            "key": 1,
            "prompt": "Answer in lower case, without commas.",
            "instruction_id_list": ["change_case:english_lowercase", "punctuation:no_comma"],
            "kwargs": [{}, {}],
        },
        instances=one.requests[0].instances,
    )
    both = one.task.values(request, ["the sea is wide and blue today"])
    half = one.task.values(request, ["the sea, wide and blue"])
    assert both["prompt_level_strict_acc"] is True
    assert both["inst_level_strict_acc"] == [True, True]
    assert half["prompt_level_strict_acc"] is False
    assert half["inst_level_strict_acc"] == [True, False]


def test_an_answer_in_an_uncertain_language_is_scored_the_same_every_time(tasks: dict[str, Prepared]) -> None:
    one = tasks["starter_instructions"]
    request = SimpleNamespace(
        document={
            "key": 1,
            "prompt": "In lower case.",
            "instruction_id_list": ["change_case:english_lowercase"],
            "kwargs": [{}],
        },
        instances=one.requests[0].instances,
    )
    for text in ("banana apple orange", "the sea", "rain in may", "a kiwi, a mango, a fig"):
        found = {one.task.values(request, [text])["prompt_level_strict_acc"] for _ in range(30)}
        assert len(found) == 1, text


def failing(one: Prepared, items: set[str]) -> Prepared:
    """The same task whose scorer fails on these items."""

    class Task:
        def __getattr__(self, name: str) -> object:
            return getattr(one.task, name)

        def values(self, request, responses):
            if request.item in items:
                raise LookupError("Resource punkt_tab not found.\nmore lines")
            return one.task.values(request, responses)

    return replace(one, task=Task())  # type: ignore[arg-type]


def test_an_item_whose_scorer_fails_is_missing_with_its_reason_and_takes_no_other(tasks: dict[str, Prepared]) -> None:
    one = tasks["starter_instructions"]
    bad = one.requests[2].item
    broken = failing(replace(one, spec=one.spec.model_copy(update={"minimum_coverage": 0.5})), {bad})
    samples, figures = score_by_task(broken, [text("")] * 8)
    assert samples[2].values == dict.fromkeys(samples[2].values, None)
    assert samples[2].detail["unscored"] == "LookupError: Resource punkt_tab not found."
    scores, refused = as_scores(broken, samples, figures, seed=0)
    assert refused == []
    assert {(score.n, score.unscored) for score in scores} == {(7, 1)}
    others = [sample.values["prompt_level_strict_acc"] for sample in samples if sample.item != bad]
    assert scores[0].value == pytest.approx(sum(others) / 7), "missing, not zero"


def test_too_few_scored_items_refuse_the_figure_and_say_so(tasks: dict[str, Prepared]) -> None:
    one = tasks["starter_instructions"]
    broken = failing(one, {one.requests[0].item})
    assert one.spec.minimum_coverage == 1.0
    scores, refused = as_scores(broken, *score_by_task(broken, [text("")] * 8), seed=0)
    assert scores == []
    assert refused[0] == ("prompt_level_strict_acc: only 7 of 8 items could be scored, and minimum_coverage is 1")
    assert len(refused) == 4


def test_nothing_scored_is_no_figure_even_where_no_coverage_is_asked_for(tasks: dict[str, Prepared]) -> None:
    one = tasks["starter_instructions"]
    spec = one.spec.model_copy(update={"minimum_coverage": 0.0})
    broken = failing(replace(one, spec=spec), {request.item for request in one.requests})
    scores, refused = as_scores(broken, *score_by_task(broken, [text("")] * 8), seed=0)
    assert scores == []
    assert len(refused) == 4


def test_a_custom_aggregation_counts_its_own_items(tasks: dict[str, Prepared]) -> None:
    one = tasks["starter_truthfulness"]
    samples, _ = score_by_task(one, [[[-1.0, False]] * len(request.choices) for request in one.requests])
    figure = Figure("mc1", True, aggregate=max, items=(0.1, 0.4, 0.2, 0.3, 0.3, 0.3, 0.3, 0.3))
    scores, _ = as_scores(one, samples, [figure], seed=0)
    assert (scores[0].value, scores[0].n) == (0.4, 8)
    assert scores[0].interval.method == "bootstrap over items, 1,000 resamples of the aggregation"
