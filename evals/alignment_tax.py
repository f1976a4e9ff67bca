"""`python -m evals tax`: what alignment cost on tasks that it was not for, as paired changes against the parent.

    python -m evals tax runs/base runs/ppo --tasks gsm8k hellaswag

InstructGPT's alignment tax (Ouyang et al. 2022, section 4.2) is a loss on public tasks such as these. It is `compare` on them
alone: its pairs, intervals and tests, corrected over these rows only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.compare import UNDIRECTED, Comparison, Row, by_reason, compare, decided
from evals.saved import SavedRun
from evals.scorecard import Scorecard
from evals.show import comparison_table
from training.command import Result
from training.counted import shortened
from training.errors import UsageError

GROUP = "other"  # of figures that speak of none of what alignment is for


def alignment_tax(parent: Path, child: Path, tasks: Sequence[str] = ()) -> Comparison:
    """The comparison of these tasks, or of all in the group "other" where none is named.

    Raises UsageError where the two scorecards do not both have them, and what `compare` raises.
    """
    whole = compare(parent, child)
    rows = _directed(whole, SavedRun.open(parent).scorecard)
    wanted = set(tasks) or {row.task for row in rows if row.group == GROUP}
    missing = sorted(wanted - {row.task for row in rows})
    if missing or not wanted:
        raise UsageError(
            "the scorecards do not both have figures of " + (shortened(missing) or f"a task in the group {GROUP}"),
            where=f"{parent} and {child}",
            expected=f"one of {shortened(sorted({row.task for row in rows}), most=12)}, which both have",
            found=shortened(by_reason(whole.not_compared), lines=True) or "no such figure in either",
            next_step="evaluate both with a suite that has gsm8k, hellaswag and the like, or name tasks with --tasks",
        )
    kept = decided([row for row in rows if row.task in wanted], set())
    return whole.model_copy(update={"rows": kept, "not_compared": {}})


def tax_rows(whole: Comparison, card: Scorecard) -> list[Row]:
    """The rows of a comparison that are in the group "other", corrected over these alone; none where there are none."""
    return decided([row for row in _directed(whole, card) if row.group == GROUP], set())


def _directed(whole: Comparison, card: Scorecard) -> list[Row]:
    """Without figures that are neither better nor worse for being higher, such as a length."""
    undirected = {(score.task, score.metric) for score in card.scores if score.unit in UNDIRECTED}
    return [row for row in whole.rows if (row.task, row.metric) not in undirected]


def run_tax(parent: Path, child: Path, tasks: Sequence[str]) -> Result:
    found = alignment_tax(parent, child, tasks)
    worse = [f"{row.task}/{row.metric}" for row in found.rows if row.verdict == "worse"]
    told = f"tax on {', '.join(worse)}" if worse else "no figure is significantly worse than the parent's"
    return {"summary": f"{comparison_table(found)}\n\n{told}", "worse": worse, **found.model_dump(mode="json")}
