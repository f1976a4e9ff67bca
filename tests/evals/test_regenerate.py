"""A figure is what its samples and its task make of it, whatever the scorecard says that it is."""

from __future__ import annotations

import pytest
from scored_runs import a_score, scored

from evals.regenerate import CLOSE, NOT_FROM_VALUES, NOT_INSTALLED, OTHER_STREAM, Regenerated, again
from evals.scorecard import Interval, Sample
from evals.scoring import AGGREGATED
from evals.statistics import estimate_with
from evals.task_definition import installed_aggregation

AGGREGATION = "bootstrap over items, 1,000 resamples of the aggregation"
HALF = [Sample(item=str(place), prompt="?", values={"acc": float(place % 2)}) for place in range(20)]


def test_a_typed_in_figure_is_found_whatever_its_method_says() -> None:
    typed = scored("starter_truthfulness", "acc", HALF).model_copy(
        update={"value": 0.97, "interval": Interval(low=0.95, high=0.99, method=AGGREGATION)}
    )
    assert again(typed, HALF, seed=0).problem is not None
    assert again(typed.model_copy(update={"task": "a_task_of_nobody"}), HALF, seed=0).problem is not None
    assert again(typed, [one.model_copy(update={"values": {}}) for one in HALF], seed=0).problem is not None
    distance = typed.interval.model_copy(
        update={"method": f"{AGGREGATION}, of the share whose distance from a half it is"}
    )
    none_is_right = [one.model_copy(update={"values": {"acc": 0.0}}) for one in HALF]
    claimed = typed.model_copy(update={"value": 0.5, "interval": distance})
    assert "the samples give 0" in (again(claimed, none_is_right, seed=0).problem or "")


def test_an_aggregation_of_lm_eval_is_made_again_from_what_it_takes_of_each_item() -> None:
    given = [[float(place % 3 == 0), float(place % 2), 1.0, True] for place in range(40)]
    name, aggregate = installed_aggregation("bbq", "disamb_bias_score") or ("", max)
    assert name == "agg_disamb_bias_scores"
    made = estimate_with(given, aggregate, seed=0)
    score = a_score("bbq", "disamb_bias_score", made.value, stderr=made.stderr, interval=made.interval, n=40)
    kept = [
        Sample(item=str(place), prompt="?", values={score.metric: None}, detail={AGGREGATED: {score.metric: one}})
        for place, one in enumerate(given)
    ]
    better = score.model_copy(update={"value": 0.4})
    narrow = score.model_copy(update={"interval": made.interval.model_copy(update={"high": made.value})})
    for slack in (CLOSE, OTHER_STREAM):
        assert again(score, kept, 0, slack) == Regenerated(score)
        assert "the value is 0.4" in (again(better, kept, 0, slack).problem or "")
        assert "the interval's upper end" in (again(narrow, kept, 0, slack).problem or "")
    assert again(better, [one.model_copy(update={"detail": {}}) for one in kept], seed=0).impossible == NOT_FROM_VALUES
    assert again(better.model_copy(update={"task": "a_task_of_nobody"}), kept, seed=0).impossible == NOT_INSTALLED


def test_no_figure_is_made_of_chosen_repeated_or_weighted_items() -> None:
    """True samples, of which some were left out, sent twice or made to count less, each with the figure that they then give."""
    right = [one for one in HALF if one.values["acc"]]
    dropped = [one if one in right else one.model_copy(update={"values": {}}) for one in HALF]
    assert "10 of 20 items say nothing of it" in (again(scored("t", "acc", right), dropped, 0, items=20).problem or "")
    assert "10 items, the task's settings say 20" in (
        again(scored("t", "acc", right), right, 0, items=20).problem or ""
    )
    twice = [*HALF, *right]
    assert "10 of its samples" in (again(scored("t", "acc", twice), twice, 0, items=30).problem or "")
    weighted = [one.model_copy(update={"detail": {"weights": {"acc": 0.001}}}) for one in HALF if one not in right]
    assert "are weighted" in (again(scored("t", "acc", right), [*right, *weighted], 0, items=20).problem or "")
    assert again(scored("t", "acc", HALF), HALF, 0, items=20).problem is None
    stratum = [
        one.model_copy(update={"values": {**one.values, "acc_even": one.values["acc"]}, "detail": {"stratum": "even"}})
        if one not in right
        else one.model_copy(update={"detail": {"stratum": "odd"}})
        for one in HALF
    ]
    of_even = [one for one in stratum if "acc_even" in one.values]
    assert again(scored("t", "acc_even", of_even, n=10), stratum, 0, items=20).problem is None
    fewer = [*stratum[1:], stratum[0].model_copy(update={"values": {"acc": 0.0}})]
    assert "are no stratum's" in (again(scored("t", "acc_even", of_even[1:]), fewer, 0, items=20).problem or "")


@pytest.mark.parametrize("name", ["../../../tmp/mine", "/tmp/mine", "a_task_of_nobody", "starter_truthfulness"])
def test_only_an_installed_task_says_how_a_metric_is_made(name: str) -> None:
    assert installed_aggregation(name, "win_rate") is None
