"""Two scorecards, item by item: is B better or worse than A, and how sure is that?

    comparison = compare(Path("runs/base"), Path("runs/ppo"))
    regressions(comparison, groups=["truthfulness", "toxicity"])   # [] where nothing got significantly worse

Only what was measured under equal settings is compared, and only over the items that both have a value for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from evals.presentation import short_digest
from evals.saved import SavedRun, reported_differences, require_comparable
from evals.scorecard import Interval, Sample, Score, against_others
from evals.statistics import holm, paired_difference
from training.counted import counted, shortened
from training.errors import UsageError
from training.records import Record

ALPHA = 0.05
UNDIRECTED = frozenset({"tokens"})  # units: an answer is not better for its length
METHOD = (
    "B - A over the items that both have, 95% interval by paired bootstrap, p by sign-flip permutation (two-sided), "
    "corrected over all rows by Holm's method; a verdict needs a corrected p below 0.05"
)


class Row(Record):
    """One metric: before is A, after is B. `p_worse` is one-sided: small where B is worse in the metric's direction."""

    task: str
    metric: str
    group: str
    headline: bool
    higher_is_better: bool
    before: float
    after: float
    difference: float
    stderr: float
    interval: Interval
    p_value: float
    p_holm: float
    p_worse: float
    test: str
    n: int
    unpaired: int  # items that only one of the two has a value for
    verdict: Literal["better", "worse", "differs", "no difference"]  # "differs" where neither direction is good


class Comparison(Record):
    """Every metric that both scorecards have."""

    schema_version: int = 1
    a_digest: str
    b_digest: str
    a_name: str
    b_name: str
    rows: list[Row]
    not_compared: dict[str, str]  # task or task/metric -> why
    settings_differ: list[str]  # what differs without forbidding the comparison
    method: str = METHOD


class Regression(Record):
    """A metric that got significantly worse: the one-sided p, corrected over all that were asked about."""

    task: str
    metric: str
    group: str
    before: float
    after: float
    difference: float
    interval: Interval
    p_holm: float
    n: int


def compare(a: Path, b: Path) -> Comparison:
    """Compare two runs (directories, or paths of scorecard.json), B against A.

    Raises UsageError where they were evaluated under different settings, judged by different scorers, share nothing,
    where samples are missing or altered, or a figure is not what they give.
    """
    before, after = SavedRun.open(a), SavedRun.open(b)
    for run in (before, after):
        run.require_own_checkpoint()
    require_comparable(before.scorecard.settings, after.scorecard.settings, where=f"{a} and {b}")
    not_compared: dict[str, str] = {}
    pairs: list[tuple[Score, Score]] = []
    theirs = {(score.task, score.metric): score for score in after.scorecard.scores}
    for score in before.scorecard.scores:
        other = theirs.pop((score.task, score.metric), None)
        if other is None:
            not_compared[f"{score.task}/{score.metric}"] = "only A has it"
        elif against_others(score, other):
            not_compared[f"{score.task}/{score.metric}"] = (
                f"A's is against {short_digest(score.against or '')}, B's against {short_digest(other.against or '')}"
            )
        elif score.unit != other.unit:
            not_compared[f"{score.task}/{score.metric}"] = f"A's is in {score.unit}, B's in {other.unit}"
        elif score.scorer != other.scorer:
            raise UsageError(
                f"{score.task}/{score.metric} was scored by different scorers, so the figures are not comparable",
                where=f"{a} and {b}",
                expected=f"A: {score.scorer}",
                found=f"B: {other.scorer}",
                next_step="evaluate both with the same scorer, or the same --judge",
            )
        else:
            pairs.append((score, other))
    not_compared.update({f"{task}/{metric}": "only B has it" for task, metric in theirs})
    rows: list[Row] = []
    loaded: dict[str, tuple[list[Sample], list[Sample]]] = {}
    for score, other in pairs:
        if score.task not in loaded:
            loaded[score.task] = (before.samples(score.task), after.samples(score.task))
        row = paired_row(score, *loaded[score.task], seed=before.scorecard.settings.seed)
        if row is None:
            not_compared[f"{score.task}/{score.metric}"] = "no item has a value of its own in both"
        elif not all(
            _is_mean(run, figure, samples)
            for run, figure, samples in zip((before, after), (score, other), loaded[score.task], strict=True)
        ):
            not_compared[f"{score.task}/{score.metric}"] = "it is no mean of its items' values"
        else:
            rows.append(row)
    if not rows:
        raise UsageError(
            "the two scorecards share no figure",
            where=f"{a} and {b}",
            found=shortened(by_reason(not_compared), lines=True) or "no scores",
            next_step="evaluate both with the same suite",
        )
    return Comparison(
        a_digest=before.scorecard.model.digest,
        b_digest=after.scorecard.model.digest,
        a_name=before.scorecard.model.name,
        b_name=after.scorecard.model.name,
        rows=decided(rows, {(score.task, score.metric) for score, _ in pairs if score.unit in UNDIRECTED}),
        not_compared=not_compared,
        settings_differ=reported_differences(before.scorecard, after.scorecard),
    )


def by_reason(not_compared: dict[str, str]) -> list[str]:
    """What is not compared and why, a line for a task's figures of one reason: "ifeval, 4 figures: only B has it"."""
    together: dict[tuple[str, str], list[str]] = {}
    for name, why in not_compared.items():
        together.setdefault((name.partition("/")[0], why), []).append(name)
    of = {at: names[0] if len(names) == 1 else f"{at[0]}, {len(names)} figures" for at, names in together.items()}
    return [f"{of[at]}: {at[1]}" for at in together]


def regressions(
    comparison: Comparison, groups: Sequence[str], alpha: float = ALPHA, headline_only: bool = True
) -> list[Regression]:
    """What got significantly worse among the headline metrics of these groups: one-sided, Holm-corrected among them."""
    asked = [row for row in comparison.rows if row.group in groups and (row.headline or not headline_only)]
    adjusted = holm([row.p_worse for row in asked])
    return [
        Regression(
            task=row.task,
            metric=row.metric,
            group=row.group,
            before=row.before,
            after=row.after,
            difference=row.difference,
            interval=row.interval,
            p_holm=p,
            n=row.n,
        )
        for row, p in zip(asked, adjusted, strict=True)
        if p < alpha
    ]


def _is_mean(run: SavedRun, score: Score, samples: Sequence[Sample]) -> bool:
    """Whether a figure is the mean of its items' values, as every row here is. Raises UsageError where it ought to be, and
    the scorecard says another."""
    from evals.regenerate import CLOSE, again

    scored = [sample for sample in samples if sample.values.get(score.metric) is not None]
    weights = [float(sample.detail.get("weights", {}).get(score.metric, 1)) for sample in scored]
    total = sum(w * (sample.values[score.metric] or 0.0) for w, sample in zip(weights, scored, strict=True))
    mean = total / sum(weights)
    if math.isclose(mean, score.value, rel_tol=CLOSE, abs_tol=CLOSE):
        return True
    found = again(score, samples, run.scorecard.settings.seed)
    if found.problem is None:
        return False
    raise UsageError(
        f"{score.task}/{score.metric} of the scorecard is not what its samples say",
        where=str(run.folder / "scorecard.json"),
        expected=f"{mean:.6g}, the mean of {counted(len(scored), 'item')}",
        found=f"{score.value:.6g}",
        next_step="run the evaluation again: figures are measured, never typed in",
    )


def paired_row(score: Score, before: Sequence[Sample], after: Sequence[Sample], seed: int) -> Row | None:
    """The paired difference of one metric over the items that both have a value for; None where there are none."""
    metric = score.metric
    mine = {sample.item: sample for sample in before if sample.values.get(metric) is not None}
    their = {sample.item: sample for sample in after if sample.values.get(metric) is not None}
    shared = [item for item in mine if item in their]
    if not shared:
        return None
    a = [float(mine[item].values[metric] or 0.0) for item in shared]
    b = [float(their[item].values[metric] or 0.0) for item in shared]
    weights = [float(mine[item].detail.get("weights", {}).get(metric, 1)) for item in shared]
    test = paired_difference(a, b, seed=seed, weights=weights, bounded=score.unit == "fraction")
    total = sum(weights)
    return Row(
        task=score.task,
        metric=metric,
        group=score.group,
        headline=score.headline,
        higher_is_better=score.higher_is_better,
        before=sum(w * v for w, v in zip(weights, a, strict=True)) / total,
        after=sum(w * v for w, v in zip(weights, b, strict=True)) / total,
        difference=test.difference,
        stderr=test.stderr,
        interval=test.interval,
        p_value=test.p_two_sided,
        p_holm=1.0,
        p_worse=test.p_lower if score.higher_is_better else test.p_upper,
        test=test.test,
        n=test.n,
        unpaired=len(mine) + len(their) - 2 * len(shared),
        verdict="no difference",
    )


def decided(rows: Sequence[Row], undirected: set[tuple[str, str]]) -> list[Row]:
    """The rows with p corrected over all of them, and their verdicts; `undirected` are neither better nor worse."""
    found: list[Row] = []
    for row, p in zip(rows, holm([row.p_value for row in rows]), strict=True):
        better = (row.difference > 0) == row.higher_is_better
        verdict = "no difference"
        if p < ALPHA and row.difference != 0:
            known = (row.task, row.metric) not in undirected
            verdict = ("better" if better else "worse") if known else "differs"
        found.append(row.model_copy(update={"p_holm": p, "verdict": verdict}))
    return found
