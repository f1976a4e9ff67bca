"""Why a trial that ended without an error is still no candidate for the best: it diverged, or its objective is no number.

    flaw_of(Path("runs/sweep/trials/000"), "heldout_loss_after")     # "grad_norm is nan in step 2", or None

Trainers go on after a gradient that is not a number, and a figure may look well on weights that are: transformers logs such a loss
as 0, and a reward model whose weights are 1e30 tells the few pairs of a small split apart.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

from training.run_record import RunRecord

WATCHED = ("loss", "policy_loss", "value_loss", "grad_norm")  # in a line of metrics.jsonl
SATURATING = ("sft", "reward", "dpo", "kto")  # methods whose loss has a gradient as long as it is to be learned from


def flaw_of(run: Path, objective: str) -> str | None:
    """What is wrong with a complete run, in words; None where nothing is."""
    record = RunRecord.read(run / "run.json")
    value = record.metrics.get(objective)
    if objective in record.metrics and value is None:
        return f"{objective} is none: what it is told of is a single value"
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        for name in WATCHED:
            if name in line and not math.isfinite(line[name]):
                return f"{name} is {line[name]} in step {line.get('step', '?')}"
    if value is not None and not math.isfinite(value):
        return f"{objective} is {value}"
    norms = [(line.get("step", "?"), line["grad_norm"]) for line in lines if "grad_norm" in line]
    if record.method in SATURATING and norms and norms[-1][1] == 0.0:
        return f"grad_norm is 0 in step {norms[-1][0]}: the loss is saturated, and nothing can be learned from it"
    return None
