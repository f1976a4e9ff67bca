"""How every PNG of the project looks: colours that are told apart without colour vision too (Okabe and Ito), an opaque ground.

The ground is opaque, for cards are read on dark pages. The font comes with matplotlib, so equal figures give equal bytes.
"""

from __future__ import annotations

INK, SOFT, LINE, OURS, OTHERS, GROUND = "#17191d", "#5b616b", "#dcdedb", "#0072b2", "#b45309", "#fcfcfa"
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.edgecolor": LINE,
    "axes.labelcolor": SOFT,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "xtick.color": SOFT,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": GROUND,
    "axes.facecolor": GROUND,
    "grid.color": LINE,
    "legend.frameon": False,
}
