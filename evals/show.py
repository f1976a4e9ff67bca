"""Scorecards and comparisons as tables for a terminal, in plain text."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from evals.compare import UNDIRECTED, by_reason
from evals.presentation import between
from evals.scorecard import Scorecard

if TYPE_CHECKING:
    from evals.compare import Comparison


def scorecard_table(card: Scorecard, out: Path) -> str:
    """Every figure with its interval; headline figures are starred."""
    rows = [
        [
            "*" if score.headline else "",
            score.task,
            score.metric,
            number(score.value),
            between(score.interval, number),
            str(score.n) + (f" (+{score.unscored} unscored)" if score.unscored else ""),
            "neither" if score.unit in UNDIRECTED else "higher" if score.higher_is_better else "lower",
        ]
        for score in card.scores
    ]
    lines = [
        f"{card.model.name}  {card.model.digest}",
        f"suite {card.settings.suite}, {card.settings.dtype}, seed {card.settings.seed}, {card.seconds:.0f} s",
        "",
        *table(["", "task", "metric", "value", "95% interval", "n", "better"], rows),
    ]
    for score in card.scores:
        lines += [f"  beside {score.metric}: {name} {number(value)}" for name, value in score.baseline.items()]
    lines += [failed(task, why) for task, why in card.failed_tasks.items()]
    return "\n".join([*lines, "", f"written: {out / 'scorecard.json'}"])


def failed(task: str, why: str) -> str:
    """A task that has no scores, and why, over as many lines as the reason has."""
    return f"failed: {task}\n{textwrap.indent(why, '  ')}"


def comparison_table(comparison: Comparison) -> str:
    """Every paired difference, the decided ones first to the eye by their word."""
    rows = [
        [
            row.task,
            row.metric,
            number(row.before),
            number(row.after),
            f"{row.difference:+.4f}",
            between(row.interval, signed_number),
            f"{row.p_value:.4f}",
            f"{row.p_holm:.4f}",
            str(row.n),
            row.verdict,
        ]
        for row in comparison.rows
    ]
    head = ["task", "metric", "A", "B", "B - A", "95% interval", "p", "p (Holm)", "pairs", "verdict"]
    lines = [f"A {comparison.a_digest}", f"B {comparison.b_digest}", "", *table(head, rows)]
    lines += [f"not compared: {line}" for line in by_reason(comparison.not_compared)]
    lines += [f"differs: {line}" for line in comparison.settings_differ]
    return "\n".join([*lines, "", comparison.method])


def number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.1f}"


def signed_number(value: float) -> str:
    return f"{value:+.4f}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns as wide as they must be; those of numbers on the right."""
    if not rows:
        return ["nothing"]
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    right = [all(row[column][:1] in "+-0123456789" for row in rows) for column in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if flush and not first else cell.ljust(width)
            for cell, width, flush, first in zip(row, widths, right, [False] * len(row), strict=True)
        ).rstrip()
        for row in [list(head), *rows]
    ]
