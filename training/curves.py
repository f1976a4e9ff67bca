"""Curves as SVG: one panel of one or more series with axes, ticks and labels, as text. Pure functions of numbers.

    svg = panel("Reward", [Series("reward_mean", [(16, 0.1), (32, 0.4)], band=[0.2, 0.2])], "episodes")

Colours come from the page's style (`.c0`, `.c1`, ...), so that it can change them for a dark ground.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 12, 40
COLOURS = 4
SMALLEST = 1e-300  # numbers that are closer are one: between them nothing could be divided
DOTS_UP_TO = 200  # points that get a dot with its numbers in a tooltip; more are a line only


@dataclass(frozen=True)
class Series:
    """Named points (x, y), and how far a band reaches to either side of each, if there is one."""

    name: str
    points: list[tuple[float, float]]
    band: list[float] = field(default_factory=list)


def panel(title: str, series: Sequence[Series], x_label: str) -> str:
    """An SVG element. Every series needs at least one point, all of finite numbers."""
    xs = [x for one in series for x, _ in one.points]
    ys = [y for one in series for _, y in one.points]
    ys += [y + sign * b for one in series for (_, y), b in zip(one.points, one.band, strict=False) for sign in (-1, 1)]
    x_ticks, y_ticks = ticks(min(xs), max(xs), 6), ticks(min(ys), max(ys), 5)
    x_low, x_high = min(xs), max(xs) if max(xs) > min(xs) else min(xs) + 1.0
    y_low, y_high = min(*ys, y_ticks[0]), max(*ys, y_ticks[-1])

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        up = (y - y_low) / (y_high - y_low) * (HEIGHT - TOP - BOTTOM)
        return round(LEFT + across, 1), round(HEIGHT - BOTTOM - up, 1)

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(_told(title, series))}">']
    for tick in y_ticks:
        _, y = at(x_low, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{_short(tick)}</text>')
    for tick in x_ticks:
        if x_low <= tick <= x_high:
            x, _ = at(tick, y_low)
            parts.append(
                f'<text class="tick" x="{x}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(tick)}</text>'
            )
    parts.append(f'<text class="tick" x="{WIDTH - RIGHT}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_label)}</text>')
    for number, one in enumerate(series):
        colour = f"c{number % COLOURS}"
        if one.band:
            edges = list(zip(one.points, one.band, strict=True))
            outline = [at(x, y + b) for (x, y), b in edges] + [at(x, y - b) for (x, y), b in reversed(edges)]
            parts.append(f'<polygon class="band {colour}" points="{_joined(outline)}"/>')
        places = [at(x, y) for x, y in one.points]
        parts.append(f'<polyline class="curve {colour}" points="{_joined(places)}"/>')
        if len(places) <= DOTS_UP_TO:
            for (x, y), (left, top) in zip(one.points, places, strict=True):
                told = f"{one.name} {y:.6g} at {x_label} {x:g}"
                parts.append(
                    f'<circle class="dot {colour}" cx="{left}" cy="{top}" r="2.6"><title>{escape(told)}</title></circle>'
                )
    return "".join([*parts, "</svg>"])


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` + 1 round numbers (1, 2 or 5 times a power of ten apart) that lie around low to high."""
    if high - low <= SMALLEST:
        wide = abs(low) * 0.1 or 1.0
        low, high = low - wide, high + wide
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _told(title: str, series: Sequence[Series]) -> str:
    """The panel for those who cannot see it."""
    return f"{title}. " + " ".join(
        f"{one.name} goes from {one.points[0][1]:.4g} to {one.points[-1][1]:.4g}, "
        f"lowest {min(y for _, y in one.points):.4g}, highest {max(y for _, y in one.points):.4g}."
        for one in series
    )


def _short(value: float) -> str:
    if value and (abs(value) >= 1e5 or abs(value) < 1e-3):
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:g}"


def _joined(places: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in places)
