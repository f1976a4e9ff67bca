"""Scorecards side by side: one page for people, and the same figures as markdown, JSON and CSV.

    python -m evals leaderboard runs/base runs/ppo --out board
    write([Path("runs/base"), Path("runs/ppo")], Path("board"))     # board/index.html, models/, leaderboard.md, .json, .csv

Scores stand in one table only where everything that moves them is equal; otherwise there are several tables, each saying
what differs. Within a column, a checkpoint whose 95% interval overlaps the best one's is marked as not told apart.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from evals.leaderboard_tables import group, not_shown, why_separate
from evals.presentation import headlines, overlap, run_name, short_digest
from evals.regenerate import unchecked
from evals.saved import SavedRun
from evals.scorecard import Interval, Score, Scorecard
from training.errors import UsageError
from training.records import Record, write_atomically

FILES = ("index.html", "leaderboard.svg", "leaderboard.md", "leaderboard.json", "leaderboard.csv")


class Column(Record):
    """One headline score that the rows of a table are compared by."""

    id: str  # task/metric
    task: str
    metric: str
    group: str
    unit: str
    higher_is_better: bool
    scorer: str | None
    description: str


class Cell(Record):
    """One checkpoint's figure in a column, and how it stands to the best one there.

    `tied`: its 95% interval overlaps the best one's (the best is itself tied where another overlaps it).
    `unchecked`: why the figure was not held against its samples; None where it is what they give.
    """

    value: float
    stderr: float
    interval: Interval
    n: int
    unscored: int
    baseline: dict[str, float]
    standing: Literal["best", "tied", "behind", "alone"]
    unchecked: str | None = None


class Row(Record):
    """One checkpoint, by its digest."""

    name: str
    digest: str
    parameters: int | None  # None, as below an address, where an endpoint served the model
    endpoint: str | None
    suite: str
    backend: str
    dtype: str
    seed: int
    created: str
    failed_tasks: dict[str, str]
    cells: dict[str, Cell]  # column id -> figure; a score that the scorecard lacks is absent, not zero


class Board(Record):
    """A table within which every column is comparable."""

    why_separate: str | None  # None for the first table
    columns: list[Column]
    rows: list[Row]


class Leaderboard(Record):
    """Everything on the page but the samples."""

    schema_version: int = 1
    newest_scorecard: str
    not_shown: list[str] = []  # older scorecards of checkpoints that are in a table
    boards: list[Board]


def write(paths: Sequence[Path], out: Path, published_as: Sequence[str | None] | None = None) -> dict[str, Any]:
    """Write index.html, a page for each model, leaderboard.svg, .md, .json and .csv into `out`.

    `published_as`: each one's Hub id, where it came from there.
    Every figure is made again from the samples that lie beside its scorecard. Raises UsageError for a path without a scorecard,
    samples that are not those that were scored, or a figure that they do not give.
    """
    # The pages need jinja2; a program that only reads a leaderboard.json does not.
    from evals.leaderboard_pages import as_csv, as_html, as_markdown, page_name
    from evals.leaderboard_picture import as_svg
    from evals.model_pages import as_model_page

    if not paths:
        raise UsageError(
            "there is nothing to put on the leaderboard", expected="run directories or scorecard.json files"
        )
    names = published_as or [None] * len(paths)
    entries = [SavedRun.open(path, name) for path, name in zip(paths, names, strict=True)]
    grouped = group(entries)
    board = leaderboard(grouped).model_copy(update={"not_shown": not_shown(entries, grouped)})
    write_atomically(out / "leaderboard.csv", as_csv(board).encode())
    write_atomically(out / "leaderboard.md", as_markdown(board).encode())
    write_atomically(out / "leaderboard.svg", as_svg(board.boards[0]).encode())
    models = []
    for number, table in enumerate(grouped, 1):
        for entry in table:
            name = page_name(number, entry.scorecard.model.digest)
            models.append(out / "models" / f"{name}.html")
            write_atomically(models[-1], as_model_page(entry, name).encode())
    write_atomically(out / "index.html", as_html(board, grouped).encode())
    board.write(out / "leaderboard.json")
    rows = [row for table in board.boards for row in table.rows]
    tables = f"{len(board.boards)} tables" if len(board.boards) > 1 else "one table"
    counted = f"{len({row.digest for row in rows})} checkpoints in {tables}: {out / 'index.html'}"
    return {
        "summary": "\n".join([counted, *board.not_shown, *_not_checked(rows)]),
        "files": [str(out / name) for name in FILES] + [str(model) for model in models],
        "checkpoints": sorted({row.digest for row in rows}),
        "dropped_duplicates": len(entries) - len(rows),
        "leaderboard": board.model_dump(mode="json"),
    }


def leaderboard(tables: Sequence[Sequence[SavedRun]]) -> Leaderboard:
    """The tables as values."""
    first = tables[0]
    return Leaderboard(
        newest_scorecard=max(entry.scorecard.created for table in tables for entry in table),
        boards=[
            Board(
                why_separate=None if table is first else why_separate(first[0].scorecard, table[0].scorecard),
                columns=_columns([entry.scorecard for entry in table]),
                rows=_rows(table),
            )
            for table in tables
        ],
    )


def _columns(cards: Sequence[Scorecard]) -> list[Column]:
    names = _names(cards)
    by_id: dict[str, Score] = {}
    for card in cards:
        for score in headlines(card.scores):
            by_id.setdefault(names(score), score)
    return [
        Column(
            id=names(score),
            task=score.task,
            metric=score.metric,
            group=score.group,
            unit=score.unit,
            higher_is_better=score.higher_is_better,
            scorer=_judged(score, names(score)),
            description=score.description,
        )
        for score in headlines(list(by_id.values()))
    ]


def _names(cards: Sequence[Scorecard]) -> Callable[[Score], str]:
    """The name of a score's column: task/metric, and against whom where win rates of these cards are against several."""
    against: dict[str, set[str | None]] = defaultdict(set)
    for card in cards:
        for score in card.scores:
            against[f"{score.task}/{score.metric}"].add(score.against)

    def name(score: Score) -> str:
        plain = f"{score.task}/{score.metric}"
        several = len(against[plain] - {None}) > 1
        return f"{plain} against {short_digest(score.against or 'another')}" if several else plain

    return name


def _judged(score: Score, name: str) -> str | None:
    """Who judged, and against whom where the column's name says so."""
    against = name.removeprefix(f"{score.task}/{score.metric}").strip()
    return ", ".join(part for part in (score.scorer, against) if part) or None


def _rows(table: Sequence[SavedRun]) -> list[Row]:
    """The rows, best first by the first column that a row has a figure in."""
    cards = [entry.scorecard for entry in table]
    columns = _columns(cards)
    names = _names(cards)
    scores = [{names(score): score for score in card.scores} for card in cards]
    rows = []
    for entry, card, own in zip(table, cards, scores, strict=True):
        why = unchecked(entry)
        cells = {
            column.id: _cell(
                own[column.id],
                [other[column.id] for other in scores if column.id in other],
                why.get((column.task, column.metric)),
            )
            for column in columns
            if column.id in own
        }
        rows.append(
            Row(
                name=run_name(entry),
                digest=card.model.digest,
                parameters=card.model.parameters,
                endpoint=card.model.endpoint,
                suite=card.settings.suite,
                backend=card.settings.backend,
                dtype=card.settings.dtype,
                seed=card.settings.seed,
                created=card.created,
                failed_tasks=card.failed_tasks,
                cells=cells,
            )
        )
    if columns:
        first = columns[0]
        sign = -1 if first.higher_is_better else 1
        rows.sort(key=lambda row: (first.id not in row.cells, sign * _value(row, first.id), row.name, row.digest))
    return rows


def _value(row: Row, column: str) -> float:
    return row.cells[column].value if column in row.cells else 0.0


def _not_checked(rows: Sequence[Row]) -> list[str]:
    """A line for each checkpoint with figures that could not be held against samples."""
    lines = []
    for row in rows:
        why = {name: cell.unchecked for name, cell in row.cells.items() if cell.unchecked}
        lines += [
            f"{row.name}: not checked ({reason}): {', '.join(name for name, one in why.items() if one == reason)}"
            for reason in dict.fromkeys(why.values())
        ]
    return lines


def _cell(score: Score, all_in_column: Sequence[Score], why_unchecked: str | None) -> Cell:
    known = [other for other in all_in_column if math.isfinite(other.value)]
    standing: Literal["best", "tied", "behind", "alone"]
    best = (max if score.higher_is_better else min)(known, key=lambda other: other.value, default=None)
    near = [other for other in known if best is not None and overlap(other, best)]
    if len(known) < 2:
        standing = "alone"
    elif score not in near:
        standing = "behind"
    else:
        standing = "best" if len(near) == 1 else "tied"
    return Cell(
        value=score.value,
        stderr=score.stderr,
        interval=score.interval,
        n=score.n,
        unscored=score.unscored,
        baseline=score.baseline,
        standing=standing,
        unchecked=why_unchecked,
    )
