"""The leaderboard's values as HTML, markdown and CSV. What comes from a scorecard is text, never markup.

The page is one file without the network: a content security policy admits only the style and the script written here,
by their hashes, so nothing in a model's name or answer can run even if it were not escaped.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import math
from collections.abc import Sequence
from importlib import resources
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from evals.presentation import (
    OFFENSIVE_GROUPS,
    Example,
    between,
    direction,
    figure,
    headlines,
    interval,
    markdown_text,
    metric_label,
    metric_meaning,
    parameter_count,
    response_shown,
    run_name,
    samples_of,
    short_digest,
    short_digests,
    worst_examples,
)
from evals.saved import SavedRun
from evals.scorecard import Sample, Score, Scorecard

if TYPE_CHECKING:
    from evals.leaderboard import Board, Cell, Column, Leaderboard

EXAMPLES_A_SCORE = 2
LONGEST_TEXT = 1200  # characters of a prompt or an answer on the page; the whole text is in samples/
STANDING = {"best": "best", "tied": "not told apart from the best", "behind": "", "alone": ""}
PLOT_WIDTH = 112  # of the interval's drawing, in pixels; the style gives it the same size
PLOT_MARGIN = 6
CSV_COLUMNS = (
    *("table", "model", "digest", "group", "task", "metric", "value", "stderr", "low", "high"),
    *("n", "unscored", "unit", "higher_is_better", "standing", "created", "unchecked"),
)


def as_html(board: Leaderboard, entries: Sequence[Sequence[SavedRun]]) -> str:
    """The whole page. Raises UsageError where samples are not those that were scored."""
    pages = resources.files("evals.pages")
    style = (pages / "leaderboard.css").read_text(encoding="utf-8")
    script = (pages / "leaderboard.js").read_text(encoding="utf-8")
    tables = [_table(table, number) for number, table in enumerate(board.boards, 1)]
    return (
        page_environment()
        .get_template("leaderboard.html.jinja")
        .render(
            board=board,
            tables=tables,
            details=[
                _detail(entry, page_name(number, entry.scorecard.model.digest))
                for number, table in enumerate(entries, 1)
                for entry in sorted(table, key=lambda entry: _position(board.boards[number - 1], entry.scorecard))
            ],
            suites=sorted({row.suite for table in board.boards for row in table.rows}),
            checkpoints=len({row.digest for table in board.boards for row in table.rows}),
            unpinned=sum(row.endpoint is not None for table in board.boards for row in table.rows),
            style=style,
            script=script,
            style_hash=csp_hash(style),
            script_hash=csp_hash(script),
        )
    )


def page_name(table: int, digest: str) -> str:
    """Of a model within a table: its place on the page, and its own page in models/."""
    return f"t{table}-{short_digest(digest).replace(':', '-')}"


def page_environment() -> Environment:
    """Jinja with what the pages write figures by; everything that comes from a scorecard is escaped."""
    environment = Environment(
        loader=PackageLoader("evals", "pages"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        figure=figure,
        interval=interval,
        direction=direction,
        short_digest=short_digest,
        standing=STANDING,
        count=parameter_count,
        label=metric_label,
        meaning=metric_meaning,
    )
    environment.filters.update(cut=_cut, breakable=_breakable, short_digests=short_digests)
    return environment


def as_markdown(board: Leaderboard) -> str:
    """The tables as GitHub-flavoured markdown: figures with 95% intervals, the best in bold, ties with a wavy sign."""
    lines = [
        "# Leaderboard",
        "",
        "Figures with 95% intervals. **Bold**: the best. ≈: its interval overlaps the best one's.",
    ]
    for number, table in enumerate(board.boards, 1):
        lines.append("")
        if len(board.boards) > 1:
            lines += [f"## Table {number}", ""]
        if table.why_separate:
            lines += [markdown_text(table.why_separate), ""]
        heads = [
            f"{markdown_text(metric_label(column.metric, column.scorer))} {'↑' if column.higher_is_better else '↓'}"
            for column in table.columns
        ]
        groups = [_column_remark(column) for column in table.columns]
        lines.append("| " + " | ".join(["Checkpoint", *heads]) + " |")
        lines.append("|" + "---|" * (1 + len(heads)))
        lines.append("| " + " | ".join(["", *(f"*{text}*" for text in groups)]) + " |")
        for row in table.rows:
            cells = [_markdown_cell(row.cells.get(column.id), column) for column in table.columns]
            name = f"{markdown_text(row.name)} `{short_digest(row.digest)}`"
            lines.append("| " + " | ".join([name, *cells]) + " |")
    reasons = {cell.unchecked for table in board.boards for row in table.rows for cell in row.cells.values()} - {None}
    if reasons:
        lines += ["", f"† Not held against the samples that it was made of: {'; '.join(sorted(map(str, reasons)))}."]
    if board.not_shown:
        lines += ["", *(f"* {markdown_text(line)}" for line in board.not_shown)]
    lines += ["", f"Newest scorecard: {board.newest_scorecard}. ↑ higher is better, ↓ lower is better.", ""]
    return "\n".join(lines)


def as_csv(board: Leaderboard) -> str:
    """One line a figure, unrounded. Text that a spreadsheet would run as a formula is kept text by an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for number, table in enumerate(board.boards, 1):
        for row in table.rows:
            for column in table.columns:
                cell = row.cells.get(column.id)
                if cell is not None:
                    values: list[Any] = [number, row.name, row.digest, column.group, column.task, column.metric]
                    values += [cell.value, cell.stderr, cell.interval.low, cell.interval.high, cell.n, cell.unscored]
                    values += [column.unit, column.higher_is_better, cell.standing, row.created, cell.unchecked or ""]
                    writer.writerow([_no_formula(value) for value in values])
    return out.getvalue()


def _table(table: Board, number: int) -> dict[str, Any]:
    groups = [(name, len(list(run))) for name, run in itertools.groupby(table.columns, key=lambda column: column.group)]
    axes = {
        column.id: _axis([row.cells[column.id] for row in table.rows if column.id in row.cells])
        for column in table.columns
    }
    starts = {}
    position = 0
    for _, width in groups:
        starts[table.columns[position].id] = True
        position += width
    rows = []
    for row in table.rows:
        cells = []
        for column in table.columns:
            cell = row.cells.get(column.id)
            cells.append(
                {
                    "column": column,
                    "cell": cell,
                    "plot": _plot(cell, axes[column.id]) if cell else None,
                    "starts": column.id in starts,
                }
            )
        rows.append({"row": row, "cells": cells, "anchor": page_name(number, row.digest)})
    return {"number": number, "board": table, "groups": groups, "axes": axes, "starts": starts, "rows": rows}


def _axis(cells: Sequence[Cell]) -> tuple[float, float]:
    """The ends of a column's axis: every interval fits, with a little air; never of no length."""
    ends = [end for cell in cells for end in (cell.interval.low, cell.interval.high, cell.value) if math.isfinite(end)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    air = 0.06 * (high - low) or 0.05 * abs(high) or 0.05
    return low - air, high + air


def _plot(cell: Cell, axis: tuple[float, float]) -> dict[str, float] | None:
    """Pixels of dot and whiskers in a drawing of PLOT_WIDTH; no whiskers without an interval, None without a figure."""
    if not math.isfinite(cell.value):
        return None

    def place(value: float) -> float:
        return round(PLOT_MARGIN + (PLOT_WIDTH - 2 * PLOT_MARGIN) * (value - axis[0]) / (axis[1] - axis[0]), 1)

    ends = {"low": cell.interval.low, "high": cell.interval.high}
    return {"x": place(cell.value)} | {name: place(end) for name, end in ends.items() if math.isfinite(end)}


def _detail(entry: SavedRun, anchor: str) -> dict[str, Any]:
    card = entry.scorecard
    examples: list[dict[str, Any]] = []
    missing: list[str] = []
    for score in headlines(card.scores):
        if score.task in (shown["score"].task for shown in examples):
            continue  # its other metrics speak of the same answers
        samples = samples_of(entry, score.task)
        if samples is None:
            missing.append(score.task)
            continue
        worst = worst_examples(samples, score, EXAMPLES_A_SCORE)
        if worst:
            examples.append(
                {
                    "score": score,
                    "worst": [_readable(one, score) for one in worst],
                    "offensive": score.group in OFFENSIVE_GROUPS,
                }
            )
    return {
        "card": card,
        "name": run_name(entry),
        "anchor": anchor,
        "scores": sorted(card.scores, key=lambda score: (not score.headline, score.group, score.task, score.metric)),
        "examples": examples,
        "missing": sorted(set(missing)),
    }


def _readable(example: Example, score: Score) -> dict[str, Any]:
    sample = example.sample
    return {
        "item": sample.item,
        "value": example.value,
        "parts": readable_parts(sample, score),
    }


def readable_parts(sample: Sample, score: Score) -> list[tuple[str, str]]:
    """What there is to read of a sample, each part with its label."""
    parts = (("Prompt", sample.prompt), ("Expected", sample.target), ("Answer", response_shown(sample, score)))
    return [(label, text) for label, text in parts if text]


def _position(table: Board, card: Scorecard) -> int:
    return [row.digest for row in table.rows].index(card.model.digest)


def _cut(text: str) -> str:
    left = len(text) - LONGEST_TEXT
    return text if left <= 0 else f"{text[:LONGEST_TEXT]} … ({left} more characters in samples/)"


def _breakable(name: str) -> Markup:
    """A name in which a line may break after an underscore, so that long metrics do not widen their column."""
    return Markup("_<wbr>").join(escape(part) for part in name.split("_"))


def _markdown_cell(cell: Cell | None, column: Column) -> str:
    if cell is None:
        return "–"
    value = figure(cell.value, column.unit)
    ends = between(cell.interval, lambda end: figure(end, column.unit).removesuffix("%"))
    text = f"**{value}**" if cell.standing == "best" else value
    return f"{text} {ends}" + (" ≈" if cell.standing == "tied" else "") + (" †" if cell.unchecked else "")


def _column_remark(column: Column) -> str:
    judged = f", by {column.scorer}" if column.scorer else ""
    return markdown_text(f"{column.group}, {column.task}{judged}")


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def csp_hash(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
