"""How scores, models and samples are written for people: shared by the leaderboard and the model card.

Every figure on a page comes through here from a Scorecard, so that the two cannot tell one number in two ways.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from evals.saved import SavedRun
from evals.scorecard import EvaluatedModel, Interval, Sample, Score

NO_INTERVAL = "no interval"
# Of figures that lm-evaluation-harness names and does not describe.
MEANINGS = {
    "mc1": "share of questions of which the likeliest answer is the true one",
    "mc2": "share of the answers' probability that the true ones have",
    "prompt_level_strict_acc": "share of prompts of which every instruction was followed",
    "inst_level_strict_acc": "share of instructions that were followed",
    "prompt_level_loose_acc": "share of prompts of which every instruction was followed, without markup, first or last line",
    "inst_level_loose_acc": "share of instructions that were followed, without markup, first or last line",
    "pct_stereotype": "share of pairs of which the stereotyped sentence is likelier; a half is even",
    "likelihood_diff": "distance between the log-likelihoods of a pair's two sentences",
    "acc": "share of items that were answered rightly",
    "acc_norm": "share of items that were answered rightly, by likelihood for each byte of an answer",
    "exact_match": "share of answers that are the known one",
}
GROUPS = ("helpfulness", "truthfulness", "toxicity", "bias", "other")
# What is read aloud from these tasks can hurt: their samples are shown behind a click, and masked on a card.
OFFENSIVE_GROUPS = ("toxicity", "bias")


@dataclass(frozen=True)
class Example:
    """A sample worth reading, and the value of the score it is an example of."""

    task: str
    metric: str
    group: str
    value: float
    sample: Sample


def samples_of(run: SavedRun, task: str) -> list[Sample] | None:
    """A task's samples, or None where only the scorecard was kept. Raises UsageError where they are not those scored."""
    return run.samples(task) if task in run.scorecard.samples and run.sample_file(task).is_file() else None


def worst_examples(samples: Sequence[Sample], score: Score, count: int) -> list[Example]:
    """Up to `count` samples with the worst values under the score's metric, in a fixed order; unscored ones are not."""
    scored: list[tuple[float, Sample]] = []
    for sample in samples:
        value = sample.values.get(score.metric)
        if value is not None and math.isfinite(value):
            scored.append((value, sample))
    scored.sort(key=lambda pair: (pair[0] if score.higher_is_better else -pair[0], pair[1].item))
    return [Example(score.task, score.metric, score.group, value, sample) for value, sample in scored[:count]]


def response_shown(sample: Sample, score: Score) -> str | None:
    """The answer to show: of several continuations of one prompt the one with the worst score."""
    responses, scores = sample.detail.get("responses"), sample.detail.get("scores")
    if not (isinstance(responses, list) and isinstance(scores, list) and len(responses) == len(scores) and responses):
        return sample.response
    order = min if score.higher_is_better else max
    return str(responses[order(range(len(scores)), key=lambda position: float(scores[position]))])


def metric_label(metric: str, scorer: str | None) -> str:
    """The metric without the scorer's name at its end, where the scorer is told beside it."""
    name = re.sub(r"[^a-z0-9]+", "_", (scorer or "").partition(" ")[0].lower())
    # Only a tool's own name, such as alt-profanity-check: of "reward model 9f2c", mean_reward keeps its reward.
    return metric.removesuffix(f"_{name}") if "_" in name else metric


def metric_meaning(metric: str, description: str) -> str:
    """What a figure is, in a line: what its task says of it, else what is known of its name, else nothing."""
    return description or MEANINGS.get(metric, "")


def model_name(model: EvaluatedModel) -> str:
    """The last part of the model's name, without the place where it lay; a directory `checkpoint` is named by its run."""
    parts = [part for part in PurePosixPath(model.name.replace("\\", "/")).parts if part not in ("/", ".", "..")]
    while len(parts) > 1 and parts[-1] == "checkpoint":
        parts.pop()
    return parts[-1] if parts else "model"


def run_name(run: SavedRun) -> str:
    """What people know the checkpoint by: its Hub id where it is published, else its model's name."""
    return run.published_as or model_name(run.scorecard.model)


def short_digest(digest: str) -> str:
    """The first 12 hexadecimal digits, which are enough to tell checkpoints apart by eye."""
    return digest.removeprefix("sha256:")[:12]


def short_digests(text: str) -> str:
    """A text with every digest in it cut to what tells it apart by eye."""
    return re.sub(r"sha256:([0-9a-f]{12})[0-9a-f]{52}", r"\1", text)


def figure(value: float, unit: str) -> str:
    """A value for people: fractions in per cent with one decimal, anything else with two."""
    if not math.isfinite(value):
        return "no value"
    return f"{100 * value:.1f}%" if unit == "fraction" else f"{value:.2f}"


def interval(score: Score) -> str:
    """The 95% interval in the unit of `figure`, without repeating a per-cent sign: [42.1, 52.5]."""
    return between(score.interval, lambda end: figure(end, score.unit).removesuffix("%"))


def between(ends: Interval, written: Callable[[float], str]) -> str:
    """[low, high], each end as `written`; "no interval" where the items do not give one."""
    if not (math.isfinite(ends.low) and math.isfinite(ends.high)):
        return NO_INTERVAL
    return f"[{written(ends.low)}, {written(ends.high)}]"


def overlap(one: Score, other: Score) -> bool:
    """Whether two 95% intervals share a point. A paired comparison is sharper; this needs no pairs."""
    return one.interval.low <= other.interval.high and other.interval.low <= one.interval.high


def direction(score: Score) -> str:
    return "higher is better" if score.higher_is_better else "lower is better"


def headlines(scores: Sequence[Score]) -> list[Score]:
    """The headline scores, in the order of the groups; all scores where a scorecard marks none."""
    chosen = [score for score in scores if score.headline] or list(scores)
    return sorted(chosen, key=lambda score: GROUPS.index(score.group))


def parameter_count(number: int | None) -> str:
    """134,515,008 as 134.5 M; of a model behind an endpoint nobody says it."""
    if number is None:
        return "size unknown"
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.1f} {unit}"
    return str(number)


def markdown_text(text: str) -> str:
    """Text that markdown leaves as it is: every character that could begin markup becomes an entity."""
    flat = " ".join(text.split())
    return re.sub(r"[\\`*{}\[\]<>#|~$!&@]|(?<![^\W_])_|_(?![^\W_])", lambda found: f"&#{ord(found.group())};", flat)
