"""The gates on what a release costs: no figure that the policy guards is significantly worse than the parent's, or than
the last release's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from release.gates.advice import evaluate_again
from release.gates.candidate import Candidate, passed, refused, skipped
from release.last_release import FOLDER, read
from release.policy import RegressionRules
from release.records import Verdict
from training.counted import counted
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.compare import Comparison


def no_regression(candidate: Candidate) -> Verdict:
    """Compare the headline figures of the policy's groups with the parent's, item by item.

    One-sided sign-flip tests, corrected over the compared figures by Holm's method; `tolerance` is how much of a
    significant loss the policy accepts.
    """
    from evals.compare import compare

    gate, rules = "no_regression", candidate.policy.no_regression
    remedy = evaluate_again(candidate)
    if candidate.baseline is None or candidate.scorecard is None:
        return _without_scores(candidate, remedy)
    measured = candidate.baseline.model.digest
    base = candidate.run_record.parent("base") if candidate.run_record else None
    if base is None:
        lacks = "run.json names no base" if candidate.run_record else "there is no run.json"
        return refused(
            gate,
            f"baseline/ has the scores of {candidate.baseline.model.name}, and nothing says that training began from it: {lacks}",
            remedy="take baseline/ out of the run; `python -m evals beside` puts other models' scores on a card",
            baseline=measured,
        )
    if measured != base.digest:
        return refused(
            gate,
            f"the baseline was measured on {measured}, the run's parent is {base.digest}",
            remedy=remedy,
            baseline=measured,
            parent=base.digest,
        )
    comparison = compare(candidate.bundle / "baseline", candidate.bundle)
    return _judged(gate, comparison, rules, "the parent", remedy, baseline=measured)


def no_regression_since_release(candidate: Candidate) -> Verdict:
    """The same against the last release of the repository, which `last-release` has fetched beside the run."""
    from evals.compare import compare

    gate, rules = "no_regression_since_release", candidate.policy.no_regression_since_release
    last = read(candidate.run, candidate.repo_id)
    fetch = f"python -m release last-release --run {candidate.run.as_posix()} --repo {candidate.repo_id}"
    if last is None:
        said = "nobody has looked what the repository's last release is"
        return _missing(gate, said, rules, remedy=f"{fetch}, then plan again")
    if last.tag is None:
        return passed(gate, f"{last.repo_id} has no release yet", endpoint=last.endpoint)
    evidence = {"tag": last.tag, "commit": last.commit, "released": last.checkpoint_digest}
    if last.checkpoint_digest == candidate.digest:
        return passed(gate, f"the last release, {last.tag}, has these bytes", **evidence)
    before, remedy = candidate.run / FOLDER, evaluate_again(candidate)
    if candidate.scorecard is None or not (before / "scorecard.json").is_file():
        lacking = "this checkpoint" if candidate.scorecard is None else f"the last release, {last.tag},"
        return _missing(gate, f"{lacking} has no scores", rules, remedy=remedy, **evidence)
    try:
        comparison = compare(before, candidate.bundle)
    except UsageError as error:
        said = f"the scores of {last.tag} cannot be compared: {error.what}"
        return _missing(gate, said, rules, remedy=f"score both with one suite: {remedy}", **evidence)
    return _judged(gate, comparison, rules, f"the last release, {last.tag},", remedy, **evidence)


def _judged(
    gate: str, comparison: Comparison, rules: RegressionRules, whom: str, remedy: str, **evidence: Any
) -> Verdict:
    """The verdict on a comparison with `whom`."""
    from evals.compare import regressions

    rows = [row for row in comparison.rows if row.group in rules.groups and row.headline]
    evidence |= {
        "alpha": rules.alpha,
        "tolerance": rules.tolerance,
        "correction": "Holm",
        "compared": [
            {
                "figure": f"{row.task}/{row.metric}",
                "before": row.before,
                "after": row.after,
                "interval": row.interval.ends,
                "p_worse": row.p_worse,
                "items": row.n,
            }
            for row in rows
        ],
        "not_compared": comparison.not_compared,
    }
    without = [group for group in rules.groups if not any(row.group == group for row in rows)]
    if without:
        said = f"no headline figure of {' and '.join(without)} can be compared with that of {whom}".rstrip(",")
        return refused(gate, said, remedy=remedy, **evidence)
    worse = [
        loss for loss in regressions(comparison, rules.groups, rules.alpha) if abs(loss.difference) > rules.tolerance
    ]
    if worse:
        losses = [
            f"{loss.task}/{loss.metric} went from {loss.before:.3f} to {loss.after:.3f} "
            f"(95% interval of the difference {loss.interval.low:+.3f} to {loss.interval.high:+.3f}, "
            f"corrected p {loss.p_holm:.2g}, {counted(loss.n, 'item')})"
            for loss in worse
        ]
        return refused(
            gate,
            f"worse than {whom.rstrip(',')}: {'; '.join(losses)}",
            remedy="train less, with a larger kl_coef, or from another reward model; then evaluate again",
            worse=[loss.model_dump(mode="json") for loss in worse],
            **evidence,
        )
    figures = ", ".join(f"{row.task}/{row.metric} {row.before:.3f} -> {row.after:.3f}" for row in rows)
    return passed(gate, f"no significant loss: {figures}", **evidence)


def _missing(gate: str, said: str, rules: RegressionRules, *, remedy: str, **evidence: Any) -> Verdict:
    """Nothing to compare with: the policy's decision."""
    if rules.baseline == "optional":
        return skipped(gate, f"{said}, and the policy does not ask for it", **evidence)
    return refused(gate, said, remedy=remedy, **evidence)


def _without_scores(candidate: Candidate, remedy: str) -> Verdict:
    """What it means that there is nothing to compare: the policy's decision, but for a base, which has no parent."""
    gate, record = "no_regression", candidate.run_record
    what = "there is no scorecard.json" if candidate.scorecard is None else "there is no baseline/scorecard.json"
    if record is not None and record.method == "base":
        return skipped(gate, "a base model has no parent to be compared with")
    if candidate.policy.no_regression.baseline == "optional":
        return skipped(gate, f"{what}, and the policy does not ask for one")
    return refused(gate, f"{what}, so nothing says what training cost", remedy=remedy)
