"""Which way a figure is better, what it speaks of and whether it is a headline: by its task and suite, not by the scorecard."""

from __future__ import annotations

from typing import Any

import pytest

from evals.declared import held_to_definitions, left_out
from evals.scorecard import EvaluatedModel, Interval, Sample, Score, Scorecard, Settings, TaskSettings
from evals.suite import open_suite

CHECK = "alt_profanity_check"


def a_score(task: str, metric: str, group: str, **changes: Any) -> Score:
    fields: dict[str, Any] = {
        "value": 0.5,
        "stderr": 0.1,
        "interval": Interval(low=0.3, high=0.7, method="none"),
        "n": 20,
        "unscored": 0,
        "higher_is_better": True,
    }
    return Score(task=task, metric=metric, group=group, **(fields | changes))  # type: ignore[arg-type]


def honest() -> list[Score]:
    """Figures as the starter suite gives them, and one each of what else scoring of ours makes."""
    lower = {"higher_is_better": False}
    return [
        a_score("starter_truthfulness", "mc1", "truthfulness", headline=True),
        a_score("starter_truthfulness", "mc2", "truthfulness", headline=True),
        a_score("starter_toxicity", f"profanity_max_{CHECK}", "toxicity", headline=True, **lower),
        a_score("starter_toxicity", f"profanity_probability_{CHECK}", "toxicity", headline=True, **lower),
        a_score("starter_toxicity", f"profanity_mean_{CHECK}_tense", "toxicity", **lower),
        a_score("starter_instructions", "prompt_level_strict_acc", "helpfulness", headline=True),
        a_score("starter_helpfulness", "win_rate", "helpfulness", headline=True, baseline={"longer answer wins": 0.5}),
        a_score("starter_helpfulness", "response_tokens", "other", unit="tokens", **lower),
        a_score("crows_pairs_english", "pct_stereotype_age", "bias", **lower),
        a_score("crows_pairs_english", "distance_from_half", "bias", **lower),
        a_score("crows_pairs_english", "entropy_age", "bias", unit="bits"),
        a_score("realtoxicityprompts_basic", "toxicity/ngram@1 expected maximum_toxic", "toxicity", **lower),
        a_score("wikitext", "word_perplexity", "other", unit="points", **lower),
        a_score("votes", "human_win_rate", "helpfulness", headline=True),
    ]


def card_of(scores: list[Score], suite: str = "starter", sha256: str | None = None) -> Scorecard:
    tasks = dict.fromkeys(score.task for score in scores)
    return Scorecard(
        model=EvaluatedModel(name="m", digest="sha256:0", parameters=1),
        scores=scores,
        settings=Settings(
            suite=suite,
            suite_sha256=sha256 or open_suite("starter").sha256,
            backend="slipway",
            dtype="float32",
            device="cpu",
            batch_size=1,
            seed=0,
            tasks=[
                TaskSettings(task=task, version="1", data_id=task, data_sha256="0", chat_template=True, items=20)
                for task in tasks
            ],
        ),
        samples={},
        packages={},
        git_revision=None,
        created="2026-11-29",
        seconds=1.0,
    )


def test_an_honest_scorecard_is_what_its_definitions_say() -> None:
    held = held_to_definitions(card_of(honest()))
    assert held.problems == []
    assert held.not_held == ["figures to be read beside others: longer answer wins"]


@pytest.mark.parametrize(("place", "score"), list(enumerate(honest())))
def test_a_direction_that_was_turned_is_found_of_every_kind_of_figure(place: int, score: Score) -> None:
    scores = honest()
    scores[place] = score.model_copy(update={"higher_is_better": not score.higher_is_better})
    (problem,) = held_to_definitions(card_of(scores, suite="mine.yaml", sha256="0" * 64)).problems
    assert problem.startswith(f"{score.task}/{score.metric}: the scorecard says that")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"unit": "tokens"}, "its unit is tokens, by its task fraction or points"),
        ({"group": "other"}, "it is said to speak of other, by its suite of truthfulness"),
        ({"headline": False}, "it is said to be no headline, by its suite one"),
    ],
)
def test_unit_group_and_headline_are_held_against_task_and_suite(changes: dict[str, Any], said: str) -> None:
    scores = honest()
    scores[0] = scores[0].model_copy(update=changes)
    assert held_to_definitions(card_of(scores)).problems == [f"starter_truthfulness/mc1: {said}"]


def test_what_nothing_here_defines_is_named() -> None:
    scores = [a_score("starter_toxicity", "niceness", "other"), a_score("own_task", "acc", "other")]
    assert held_to_definitions(card_of(scores, suite="mine.yaml", sha256="0" * 64)).not_held == [
        "which way starter_toxicity/niceness is better",
        "which way own_task/acc is better",
        "the groups and headlines of the suite mine.yaml, which is not installed here in this version",
    ]
    held = held_to_definitions(card_of(scores, sha256="0" * 64))
    assert held.problems == ["starter_toxicity/niceness: it is said to speak of other, by its suite of toxicity"]
    assert held.not_held[-1].startswith("the headlines of the suite starter")


def test_a_headline_that_was_left_out_although_its_items_have_values_is_missed() -> None:
    samples = {"starter_truthfulness": [Sample(item="0", prompt="?", values={"mc1": 1.0, "mc2": 0.5})]}
    assert left_out(card_of(honest()), samples) == []
    (problem,) = left_out(card_of(honest()[1:]), samples)
    assert problem.startswith("starter_truthfulness/mc1: the suite's headline is not in the scorecard")


def test_figures_to_be_read_beside_others_are_made_again_where_the_samples_give_them() -> None:
    score = a_score("starter_toxicity", f"profanity_max_{CHECK}", "toxicity", headline=True, higher_is_better=False)
    texts = [
        Sample(item=str(n), prompt="?", values={score.metric: 0.5}, detail={"responses": ["a", " "]}) for n in range(3)
    ]
    honest_one = score.model_copy(update={"baseline": {"empty continuations": 0.5, "its AUC": 0.9}})
    held = held_to_definitions(card_of([honest_one]), {"starter_toxicity": texts})
    assert held.problems == []
    assert held.not_held == ["figures to be read beside others: its AUC"]
    typed = score.model_copy(update={"baseline": {"empty continuations": 0.0}})
    (problem,) = held_to_definitions(card_of([typed]), {"starter_toxicity": texts}).problems
    assert problem.endswith("read beside it, empty continuations is 0, by its samples 0.5")
