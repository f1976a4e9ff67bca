"""What a scorecard says of its figures beside their values, held against the definitions of their tasks and suite.

    found = held_to_definitions(scorecard)
    found.problems        # ["starter_truthfulness/mc2: the scorecard says that lower is better, its task says higher"]
    found.not_held        # figures of tasks that are not installed here, and what a suite that is not at hand would say

Which way is better, what a figure speaks of and whether it is a headline decide what a comparison asks of it, so a word
changed there lets a worse model pass. The definitions are those that are installed here; nothing is taken from the scorecard.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from evals.bias import DISTANCE, ENTROPY
from evals.helpfulness import WIN_RATE
from evals.human_votes import METRICS as VOTES
from evals.preferences import METRIC as JUDGED
from evals.scorecard import Sample, Score, Scorecard
from evals.stated_task import stated_suite
from evals.suite import SuiteTask
from evals.task_definition import installed_direction
from evals.truthfulness import BOTH, INFORMATIVE, TRUE

CLOSE = 1e-9
ITEMS = ("fraction", "points")  # units of figures that a task itself makes of its items


@dataclass(frozen=True)
class Held:
    """`problems`: where the scorecard says something else than a definition. `not_held`: what no definition here speaks of."""

    problems: list[str] = field(default_factory=list)
    not_held: list[str] = field(default_factory=list)


# Figures that scoring of ours makes, whatever the task: pattern of the metric -> (higher is better, units).
_LEVEL = r"(?:_.+)?"  # of a stratum, or of a turn
_OURS: tuple[tuple[str, bool, Sequence[str]], ...] = (
    (r"response_tokens", False, ("tokens",)),
    (r"reward_mean", True, ("reward",)),
    (rf"(?:{'|'.join([WIN_RATE, JUDGED, *VOTES.values()])}){_LEVEL}", True, ("fraction",)),
    (rf"(?:{'|'.join([TRUE, INFORMATIVE, BOTH])})", True, ("fraction",)),
    (rf"{ENTROPY}{_LEVEL}", True, ("bits",)),
    (rf"{DISTANCE}{_LEVEL}", False, ("fraction",)),
    (rf".+ (?:expected maximum|probability|mean){_LEVEL}", False, ("fraction",)),  # of scorers of toxicity
    (r"profanity_(?:max|probability|mean)_.+", False, ("fraction",)),
)


def held_to_definitions(card: Scorecard, samples: Mapping[str, Sequence[Sample]] | None = None) -> Held:
    """Direction and unit of every figure by its task; group and headlines by the suite, where that is one of ours; and of figures
    to be read beside others those that `samples`, by task, can make again."""
    problems: list[str] = []
    not_held: list[str] = []
    exact, group_of = _suite(card), _groups(card)
    for score in card.scores:
        name = f"{score.task}/{score.metric}"
        defined = _defined(score)
        if defined is None:
            not_held.append(f"which way {name} is better")
        else:
            problems += [f"{name}: {problem}" for problem in _wrong(score, *defined)]
        group = "other" if score.metric == "response_tokens" else group_of.get(score.task, score.group)
        if score.group != group:
            problems.append(f"{name}: it is said to speak of {score.group}, by its suite of {group}")
        if exact and (task := exact.get(score.task)) and score.headline != (score.metric in task.headline):
            said = "a headline, by its suite none" if score.headline else "no headline, by its suite one"
            problems.append(f"{name}: it is said to be {said}")
    if exact is None:
        what = "headlines" if group_of else "groups and headlines"
        not_held.append(f"the {what} of the suite {card.settings.suite}, which is not installed here in this version")
    names = {name for score in card.scores for name in score.baseline}
    if beside := sorted(names - _MADE.keys() if samples is not None else names):
        not_held.append(f"figures to be read beside others: {', '.join(beside)}")
    problems += [problem for score in card.scores for problem in _beside(score, (samples or {}).get(score.task, ()))]
    return Held(problems, not_held)


def left_out(card: Scorecard, samples: Mapping[str, Sequence[Sample]]) -> list[str]:
    """Headlines of a suite of ours of which the samples, by task, have values and the scorecard has no figure."""
    there = {(score.task, score.metric) for score in card.scores}
    return [
        f"{name}/{metric}: the suite's headline is not in the scorecard, and its samples have values for it"
        for name, task in (_suite(card) or {}).items()
        for metric in task.headline
        if (name, metric) not in there and any(one.values.get(metric) is not None for one in samples.get(name, ()))
    ]


def _empty(_: Score, samples: Sequence[Sample]) -> float | None:
    """Share of blank continuations, over all of every prompt."""
    texts = [text for sample in samples for text in sample.detail.get("responses", ())]
    return sum(not str(text).strip() for text in texts) / len(texts) if texts else None


def _fair_coin(score: Score, _: Sequence[Sample]) -> float | None:
    """The expected distance from a half of as many throws."""
    return math.sqrt(1 / (2 * math.pi * score.n)) if score.n else None


# Figures to be read beside others that the samples of the run alone give: name -> how.
_MADE: Mapping[str, Callable[[Score, Sequence[Sample]], float | None]] = {
    "empty continuations": _empty,
    "of a fair coin": _fair_coin,
}


def _beside(score: Score, samples: Sequence[Sample]) -> list[str]:
    """Where a figure to be read beside this one is not what the samples give."""
    made = {name: _MADE[name](score, samples) for name in score.baseline if name in _MADE and samples}
    return [
        f"{score.task}/{score.metric}: read beside it, {name} is {score.baseline[name]:.6g}, by its samples {value:.6g}"
        for name, value in made.items()
        if value is not None and not math.isclose(value, score.baseline[name], abs_tol=CLOSE)
    ]


def _suite(card: Scorecard) -> dict[str, SuiteTask] | None:
    """The tasks of the suite of ours that the scorecard was made by, byte for byte; None where it is another."""
    suite = stated_suite(card, None)
    if isinstance(suite, str) or suite.sha256 != card.settings.suite_sha256:
        return None
    return {task.task: task for task in suite.suite.tasks}


def _groups(card: Scorecard) -> dict[str, str]:
    """What each task speaks of by the suite of ours of that name, whatever its version; {} where it is none of ours."""
    suite = stated_suite(card, None)
    return {} if isinstance(suite, str) else {task.task: task.group for task in suite.suite.tasks}


def _defined(score: Score) -> tuple[bool, Sequence[str]] | None:
    """Whether higher is better, and the units that the figure may have; None where nothing here defines it."""
    metric = score.metric
    while metric:  # figures of a stratum have the metric's name and the stratum's behind it
        if (higher := installed_direction(score.task, metric)) is not None:
            return higher, ITEMS
        metric = metric.rpartition("_")[0]
    found = (of for of in _OURS if re.fullmatch(of[0], score.metric, re.DOTALL))
    return next(((higher, units) for _, higher, units in found), None)


def _wrong(score: Score, higher: bool, units: Sequence[str]) -> list[str]:
    words = {True: "higher", False: "lower"}
    said, defined = words[score.higher_is_better], words[higher]
    problems = [f"the scorecard says that {said} is better, its task says {defined}"] if said != defined else []
    if score.unit not in units:
        problems.append(f"its unit is {score.unit}, by its task {' or '.join(units)}")
    return problems
