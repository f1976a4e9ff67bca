"""sweep.json and sweep.md: what a sweep tried and what came of it."""

from __future__ import annotations

from typing import Any

from training.records import Record


class Trial(Record):
    """One run of a sweep. `value` is None where it failed, and `why` then says how."""

    number: int
    run: str  # its directory, in the sweep's
    values: dict[str, Any]
    value: float | None
    seconds: float | None = None
    checkpoint_digest: str | None = None
    why: str | None = None


class SweepRecord(Record):
    """What was swept over, and the trials. Written last: that it exists means that the sweep is complete."""

    schema_version: int = 1
    method: str
    objective: str
    direction: str  # "maximize" | "minimize"
    recipe: dict[str, Any]  # with the overrides that every trial has
    sweep: dict[str, Any]
    trials: list[Trial]
    best: int | None  # a trial's number


def best_of(trials: list[Trial], direction: str) -> int | None:
    """The number of the trial with the best value, the first of equals; None where all failed."""
    done = {trial.number: trial.value for trial in trials if trial.value is not None}
    if not done:
        return None
    return (max if direction == "maximize" else min)(done, key=lambda number: done[number])


def table(record: SweepRecord) -> list[list[str]]:
    """Rows of cells under a head: the best trial first, then the others, then the failed ones with the reason."""
    keys = list(record.sweep["over"])
    rows = [["trial", *keys, "seconds", record.objective]]
    sign = -1.0 if record.direction == "maximize" else 1.0
    for trial in sorted(record.trials, key=lambda each: (each.value is None, sign * (each.value or 0.0), each.number)):
        values = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in map(trial.values.get, keys)]
        figure = f"failed: {trial.why}" if trial.value is None else f"{trial.value:.4f}"
        figure += " (best)" if trial.number == record.best else ""
        rows.append([str(trial.number), *values, "" if trial.seconds is None else f"{trial.seconds:.0f}", figure])
    return rows


def as_text(rows: list[list[str]]) -> str:
    """Columns beside each other, for a terminal."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def as_markdown(record: SweepRecord) -> str:
    """sweep.md."""
    head, *body = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in table(record)]
    rule = "|" + " --- |" * len(table(record)[0])
    caution = "The best was chosen by this figure, so the figure flatters it: measure it again on other rows."
    title = f"# Sweep of `{record.method}`, to {record.direction} `{record.objective}`"
    return "\n".join([title, "", head, rule, *body, "", caution, ""])
