"""The gate on what training cost: no figure that the policy guards is significantly worse than the parent's."""

from __future__ import annotations

from typing import Any

from release.gates.candidate import Candidate, passed, refused, skipped
from release.gates.evidence import EVALUATE
from release.records import Verdict


def no_regression(candidate: Candidate) -> Verdict:
    """Compare the headline figures of the policy's groups with the parent's, item by item.

    One-sided sign-flip tests, corrected over the compared figures by Holm's method; `tolerance` is how much of a
    significant loss the policy accepts.
    """
    from evals.compare import compare, regressions

    gate, rules = "no_regression", candidate.policy.no_regression
    remedy = EVALUATE.format(run=candidate.run.as_posix())
    if candidate.baseline is None or candidate.scorecard is None:
        return _without_scores(candidate, remedy)
    parent, measured = candidate.parent_digest, candidate.baseline.model.digest
    if parent is not None and measured != parent:
        return refused(
            gate,
            f"the baseline was measured on {measured}, the run's parent is {parent}",
            remedy=remedy,
            baseline=measured,
            parent=parent,
        )
    comparison = compare(candidate.bundle / "baseline", candidate.bundle)
    rows = [row for row in comparison.rows if row.group in rules.groups and row.headline]
    evidence: dict[str, Any] = {
        "baseline": measured,
        "alpha": rules.alpha,
        "tolerance": rules.tolerance,
        "correction": "Holm",
        "compared": [
            {
                "figure": f"{row.task}/{row.metric}",
                "before": row.before,
                "after": row.after,
                "interval": [row.interval.low, row.interval.high],
                "p_worse": row.p_worse,
                "items": row.n,
            }
            for row in rows
        ],
        "not_compared": comparison.not_compared,
    }
    without = [group for group in rules.groups if not any(row.group == group for row in rows)]
    if without:
        return refused(
            gate,
            f"no headline figure of {' and '.join(without)} can be compared with the parent's",
            remedy=remedy,
            **evidence,
        )
    worse = [
        loss for loss in regressions(comparison, rules.groups, rules.alpha) if abs(loss.difference) > rules.tolerance
    ]
    if worse:
        losses = [
            f"{loss.task}/{loss.metric} went from {loss.before:.3f} to {loss.after:.3f} "
            f"(95% interval of the difference {loss.interval.low:+.3f} to {loss.interval.high:+.3f}, "
            f"corrected p {loss.p_holm:.2g}, {loss.n} items)"
            for loss in worse
        ]
        return refused(
            gate,
            f"worse than the parent: {'; '.join(losses)}",
            remedy="train less, with a larger kl_coef, or from another reward model; then evaluate again",
            worse=[loss.model_dump(mode="json") for loss in worse],
            **evidence,
        )
    figures = ", ".join(f"{row.task}/{row.metric} {row.before:.3f} -> {row.after:.3f}" for row in rows)
    return passed(gate, f"no significant loss: {figures}", **evidence)


def _without_scores(candidate: Candidate, remedy: str) -> Verdict:
    """What it means that there is nothing to compare: the policy's decision, but for a base, which has no parent."""
    gate, record = "no_regression", candidate.run_record
    what = "there is no scorecard.json" if candidate.scorecard is None else "there is no baseline/scorecard.json"
    if record is not None and record.method == "base":
        return skipped(gate, "a base model has no parent to be compared with")
    if candidate.policy.no_regression.baseline == "optional":
        return skipped(gate, f"{what}, and the policy does not ask for one")
    return refused(gate, f"{what}, so nothing says what training cost", remedy=remedy)
