"""The isoFLOP curve of a compute plan as PNG: predicted loss over model size at a fixed budget, and where the least of it lies.

The same law and budget give the same bytes: no date and no version is written into them. The ground is opaque.
"""

from __future__ import annotations

import io

from training.compute_plan import TRAINING, ScalingLaw
from training.plot_style import OTHERS, OURS, SOFT, STYLE


def isoflop_png(law: ScalingLaw, flops: float) -> bytes:
    """Curves for the budget, a tenth and ten times of it, each with its optimum, and the line of optima through them."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(8.2, 5.0), dpi=150, layout="constrained")
        ax = figure.subplots()
        optima = []
        for budget, style in ((flops / 10, ":"), (flops, "-"), (flops * 10, "--")):
            best, tokens = law.optimum(budget)
            sizes = [best * 10 ** (step / 40) for step in range(-40, 41)]  # a decade to either side
            losses = [law.loss(size, budget / TRAINING / size) for size in sizes]
            color, width, dot = (OURS, 2.4, 8) if budget == flops else (SOFT, 1.4, 5)
            told = f"{budget:.3g} FLOPs: {billions(best)} parameters, {billions(tokens)} tokens"
            ax.plot(sizes, losses, color=color, lw=width, ls=style, label=told)
            ax.plot(best, law.loss(best, tokens), "o", color=color, ms=dot)
            optima.append((best, law.loss(best, tokens)))
        ax.plot(*zip(*optima, strict=True), color=OTHERS, lw=1.2, label="the optimum of each budget", zorder=0)
        ax.set_xscale("log")
        ax.set_xlabel("parameters")
        ax.set_ylabel("predicted loss (nats a token)")
        ax.set_title("Loss at a fixed compute budget, by model size")
        ax.margins(y=0.08)
        ax.grid(axis="y")
        ax.set_axisbelow(True)
        ax.tick_params(length=0)
        figure.legend(loc="outside lower center", ncols=2)
        out = io.BytesIO()
        figure.savefig(out, format="png", metadata={"Software": None})
        return out.getvalue()


def billions(count: float) -> str:
    """A count as people write it: 135 M, 70.0 B, 1.40 T."""
    for size, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M")):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"
