"""A card's figures as PNG: scores with their intervals against the parent's, and the course of training.

The same figures give the same bytes: no date and no version is written into them. Colours are told apart without colour
vision too (Okabe and Ito), and by filled against hollow dots. The ground is opaque, for cards are read on dark pages.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from evals.presentation import NO_INTERVAL, headlines, metric_label
from evals.presentation import figure as figure_text
from evals.scorecard import Score
from model_cards.facts import Facts
from model_cards.score_table import arrow, comparable_score
from training.plot_style import GROUND, OTHERS, OURS, STYLE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What each method's metrics.jsonl is drawn by, from the first that is there: (key, label, band).
CURVES = (
    ("reward_mean", "Reward", "reward_std"),
    ("kl", "KL to the parent (nats)", None),
    ("loss", "Loss", None),
    ("eval_loss", "Held-out loss", None),
    ("eval_accuracy", "Held-out accuracy", None),
    ("accuracy", "Accuracy", None),
)


@dataclass(frozen=True)
class Plot:
    """A figure's path in the repository, its bytes, and its text for those who cannot see it."""

    path: str
    png: bytes
    alt: str


def plots(facts: Facts) -> dict[str, Plot]:
    """The figures that the run's files allow: "scores", "training"."""
    from matplotlib import rc_context

    found: dict[str, Plot | None] = {}
    with rc_context(STYLE):
        found["scores"] = _scores(facts)
        found["training"] = _training(facts.steps)
    return {name: plot for name, plot in found.items() if plot is not None}


def _scores(facts: Facts) -> Plot | None:
    from matplotlib.figure import Figure

    card = facts.card
    if card is None:
        return None
    scores = [
        score for score in headlines(card.scores) if _finite(score.value, score.interval.low, score.interval.high)
    ]
    panels = [
        panel
        for panel in ([s for s in scores if s.unit == "fraction"], *([s] for s in scores if s.unit != "fraction"))
        if panel
    ]
    if not panels:
        return None
    heights = [len(panel) + 1.0 for panel in panels]
    figure = Figure(figsize=(8.2, 0.62 * sum(heights) + 0.9), dpi=150, layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    pairs = [[(score, comparable_score(card, facts.parent_card, score)) for score in panel] for panel in panels]
    for ax, panel in zip(axes, pairs, strict=True):
        _forest(ax, panel)
    axes[0].set_title("Headline scores with 95% intervals", pad=26)
    with_parent = any(theirs for panel in pairs for _, theirs in panel)
    axes[0].legend(
        *zip(*_legend(with_parent), strict=True),
        loc="lower left",
        bbox_to_anchor=(-0.01, 1.0),
        ncols=2,
        handletextpad=0.3,
        borderpad=0.1,
    )
    alt = "Dot plot of headline scores with 95% intervals. " + " ".join(
        f"{score.group}, {metric_label(score.metric, score.scorer)}: {_spoken(score)}"
        + (f", the parent {_spoken(theirs)}." if theirs else ".")
        for panel in pairs
        for score, theirs in panel
    )
    return Plot("figures/scores.png", _png(figure), alt)


def _spoken(score: Score) -> str:
    if not _finite(score.interval.low, score.interval.high):
        return f"{figure_text(score.value, score.unit)} ({NO_INTERVAL})"
    low, high = (figure_text(end, score.unit) for end in (score.interval.low, score.interval.high))
    return f"{figure_text(score.value, score.unit)} ({low} to {high})"


def _forest(ax: Axes, panel: Sequence[tuple[Score, Score | None]]) -> None:
    percent = panel[0][0].unit == "fraction"
    scale = 100 if percent else 1
    for row, (score, theirs) in enumerate(panel):
        for at, one, color, fill in ((row - 0.14, score, OURS, OURS), (row + 0.16, theirs, OTHERS, GROUND)):
            if one is not None and _finite(one.value, one.interval.low, one.interval.high):
                ax.plot(
                    [scale * one.interval.low, scale * one.interval.high],
                    [at, at],
                    color=color,
                    lw=2,
                    solid_capstyle="round",
                )
                ax.plot(scale * one.value, at, "o", color=color, mfc=fill, mew=1.8, ms=7.5)
    ax.set_yticks(range(len(panel)), [_label(score) for score, _ in panel])
    ax.set_ylim(len(panel) - 0.45, -0.55)
    ax.tick_params(length=0)
    ax.grid(axis="x")
    ax.set_axisbelow(True)
    ax.spines["left"].set_visible(False)
    if percent:
        ax.set_xlim(0, 100)
        ax.xaxis.set_major_formatter("{x:.0f}%")
    else:
        ax.margins(x=0.15)
        ax.set_xlabel(panel[0][0].unit)


def _label(score: Score) -> str:
    return f"{score.group.capitalize()}\n{metric_label(score.metric, score.scorer)} {arrow(score)}".rstrip()


def _legend(with_parent: bool) -> list[tuple[Any, str]]:
    from matplotlib.lines import Line2D

    handles = [(Line2D([], [], color=OURS, marker="o", lw=2, ms=7), "this model")]
    if with_parent:
        handles.append((Line2D([], [], color=OTHERS, marker="o", mfc=GROUND, mew=1.8, lw=2, ms=7), "its parent"))
    return handles


def _training(steps: Sequence[dict[str, Any]]) -> Plot | None:
    from matplotlib.figure import Figure

    drawn: list[tuple[str, str, str | None, list[dict[str, Any]]]] = []
    for key, label, band in CURVES:
        rows = [step for step in steps if _number(step.get(key))]
        if len(rows) >= 2 and len(drawn) < 2:
            drawn.append((key, label, band, rows))
    if not drawn:
        return None
    x_key = "episodes" if all(_number(step.get("episodes")) for _, _, _, rows in drawn for step in rows) else "step"
    figure = Figure(figsize=(8.2, 2.3 * len(drawn) + 0.5), dpi=150, layout="constrained")
    axes = figure.subplots(len(drawn), 1, squeeze=False, sharex=True)[:, 0]
    told_curves = []
    for ax, (key, label, band, rows) in zip(axes, drawn, strict=True):
        x = [float(step.get(x_key, number)) for number, step in enumerate(rows, 1)]
        y = [float(step[key]) for step in rows]
        ax.plot(x, y, color=OURS, lw=2, marker="o", ms=3.5)
        if band and all(_number(step.get(band)) for step in rows):
            spread = [float(step[band]) for step in rows]
            low, high = ([value + sign * s for value, s in zip(y, spread, strict=True)] for sign in (-1, 1))
            ax.fill_between(x, low, high, color=OURS, alpha=0.14, lw=0)
            label += ", mean ± deviation"
        ax.set_title(label)
        ax.grid(axis="y")
        ax.set_axisbelow(True)
        ax.tick_params(length=0)
        told_curves.append(f"{label} goes from {y[0]:.3g} to {y[-1]:.3g} (lowest {min(y):.3g}, highest {max(y):.3g})")
    axes[-1].set_xlabel(x_key)
    last = max(float(step.get(x_key, len(rows))) for _, _, _, rows in drawn for step in rows)
    alt = f"Training over {last:.0f} {x_key if x_key == 'episodes' else 'steps'}. " + ". ".join(told_curves) + "."
    return Plot("figures/training.png", _png(figure), alt)


def _png(figure: Figure) -> bytes:
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _finite(*values: float) -> bool:
    return all(math.isfinite(value) for value in values)
