"""A leaderboard's table as one SVG picture: for each headline figure a bar for each checkpoint, with its 95% interval.

as_svg(board.boards[0])        # for a README or a card; no fonts, scripts or files beside it
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from evals.presentation import figure, metric_label, short_digests

if TYPE_CHECKING:
    from evals.leaderboard import Board, Column, Row

WIDTH, NAME, VALUE, ROW, HEAD, GAP = 720, 190, 150, 22, 30, 14  # pixels
BAR = WIDTH - NAME - VALUE
MOST_ROWS = 24
LONGEST_NAME = 26
READ = "Lines are 95% intervals; ≈ marks one that overlaps the best one’s"
STYLE = """
text { font: 13px system-ui, "Liberation Sans", sans-serif; fill: #17191d; }
.head { font-weight: 650; } .soft { fill: #5b616b; font-size: 12px; }
.ground { fill: #fcfcfa; } .axis { stroke: #d5d6d1; } .bar { fill: #9dbfe6; } .best { fill: #57b28b; } .whisker { stroke: #17191d; }
@media (prefers-color-scheme: dark) {
  text, .whisker { fill: #eceef1; stroke-opacity: 1; } .whisker { stroke: #eceef1; } .soft { fill: #a3abb7; }
  .ground { fill: #101317; } .axis { stroke: #2b313a; } .bar { fill: #37618f; } .best { fill: #1f6f50; }
}
"""


def as_svg(board: Board) -> str:
    """The picture of one table; figures that a checkpoint lacks have no bar, and only the first 24 rows are drawn."""
    rows = board.rows[:MOST_ROWS]
    parts: list[str] = []
    top = GAP
    for column in board.columns:
        drawn = [row for row in rows if column.id in row.cells and math.isfinite(row.cells[column.id].value)]
        if drawn:
            parts += _column(column, drawn, top)
            top += HEAD + ROW * len(drawn) + GAP
    left = f", {len(board.rows) - len(rows)} more checkpoints are not drawn" if len(board.rows) > len(rows) else ""
    parts.append(f'<text class="soft" x="{GAP}" y="{top + 12}">{READ}{left}.</text>')
    height = top + 26
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
        f'aria-label="Scores with 95% intervals"><style>{STYLE}</style>'
        f'<rect class="ground" width="{WIDTH}" height="{height}"/>{"".join(parts)}</svg>\n'
    )


def _column(column: Column, rows: list[Row], top: int) -> list[str]:
    cells = [row.cells[column.id] for row in rows]
    ends = [end for cell in cells for end in (cell.interval.low, cell.interval.high, cell.value) if math.isfinite(end)]
    low, high = (0.0, 1.0) if column.unit == "fraction" and min(ends) >= 0 else (min(0.0, *ends), max(0.0, *ends))
    span = high - low or 1.0

    def x(value: float) -> float:
        return round(NAME + BAR * (min(max(value, low), high) - low) / span, 1)

    better = "higher is better" if column.higher_is_better else "lower is better"
    label = metric_label(column.metric, column.scorer)
    judged = f", by {short_digests(column.scorer)}" if column.scorer else ""
    told = f"{column.task}{judged}, {better}"
    found = [
        f'<text x="{GAP}" y="{top + 16}"><tspan class="head">{escape(label)}</tspan>'
        f'<tspan class="soft" dx="8">{escape(told)}</tspan></text>'
    ]
    for place, (row, cell) in enumerate(zip(rows, cells, strict=True)):
        middle = top + HEAD + ROW * place + ROW / 2
        start, stop = sorted((x(0.0), x(cell.value)))
        name = row.name if len(row.name) <= LONGEST_NAME else f"{row.name[: LONGEST_NAME - 1]}…"
        kind = "best" if cell.standing == "best" else "bar"
        shown = f"{figure(cell.value, column.unit)}{' ≈' if cell.standing == 'tied' else ''}"
        found += [
            f'<text x="{GAP}" y="{middle + 4}">{escape(name)}</text>',
            f'<line class="axis" x1="{NAME}" x2="{NAME + BAR}" y1="{middle}" y2="{middle}"/>',
            f'<rect class="{kind}" x="{start}" y="{middle - 7}" width="{round(stop - start, 1)}" height="14" rx="2"/>',
            f'<text x="{NAME + BAR + 12}" y="{middle + 4}">{escape(shown)}</text>',
        ]
        if math.isfinite(cell.interval.low) and math.isfinite(cell.interval.high):
            found.append(
                f'<line class="whisker" x1="{x(cell.interval.low)}" x2="{x(cell.interval.high)}" '
                f'y1="{middle}" y2="{middle}" stroke-width="2"/>'
            )
    return found
