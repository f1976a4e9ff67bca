"""metrics.jsonl as it stands in a run that is finished, stopped, still going or damaged: its lines, and what cannot be drawn.

read = read_metrics(Path("runs/ppo"))
read.lines, read.notes                  # [{"step": 1, "kl": 0.1}, ...], ["kl is no finite number in line 7"]
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from training.counted import counted, shortened
from training.errors import UsageError

FILE = "metrics.jsonl"
LARGEST = 1e300  # the difference of two numbers that are drawn is a number still


@dataclass(frozen=True)
class Metrics:
    """The lines that could be read, and what a reader of their curves has to know of the rest."""

    lines: list[dict[str, Any]]
    notes: list[str]


def read_metrics(run: Path) -> Metrics:
    """The run's lines. A last line that is not whole is left out and noted.

    Raises UsageError where there is no such file, or another line is no JSON object: then it is not what a run wrote.
    """
    file = run / FILE
    if not file.is_file():
        raise _none_here(run)
    texts = file.read_bytes().split(b"\n")
    lines: list[dict[str, Any]] = []
    notes: list[str] = []
    for number, text in enumerate(texts, 1):
        if not text.strip():
            continue
        try:
            value = json.loads(text.decode())
        except ValueError as error:  # of UTF-8 too
            if number == len(texts):
                notes.append(
                    f"line {number} is not whole and is left out: it is being written, or its writer was ended"
                )
                break
            raise _no_line(file, number, text) from error
        if not isinstance(value, dict):
            raise _no_line(file, number, text)
        lines.append(value)
    return Metrics(lines, [*notes, *_not_finite(lines)])


def is_finite(value: Any) -> TypeGuard[int | float]:
    """Whether it is a number that has a place on an axis."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST


def _not_finite(lines: Sequence[dict[str, Any]]) -> list[str]:
    """A note for each key that has NaN, an infinity or a number too large to draw in some lines."""
    found: dict[str, list[int]] = {}
    for number, line in enumerate(lines, 1):
        for key, value in line.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and not is_finite(value):
                found.setdefault(key, []).append(number)
    return [
        f"{key} is no finite number in {counted(len(where), 'line')} of {len(lines):,}: {shortened([str(n) for n in where], 5)}"
        for key, where in found.items()
    ]


def _no_line(file: Path, number: int, text: bytes) -> UsageError:
    return UsageError(
        "a line of the metrics is no JSON object",
        where=f"{file}, line {number}",
        expected='one a line, e.g. {"step": 1, "loss": 0.5}',
        found=repr(text.decode(errors="replace").strip()[:120]),
        next_step="the file is damaged: take the line away in a copy of the run's directory, and draw that",
    )


def _none_here(run: Path) -> UsageError:
    """What is there instead of a run's metrics."""
    found, next_step = "nothing", "give the --out of a command that trains"
    if run.is_file():
        found = "a file"
    elif (run / FILE).exists():
        found = f"{FILE}, which is no file"
    elif (run / ".state").is_dir():
        found, next_step = (
            "a run that has logged nothing yet",
            "wait for its first step, or give its command again to continue it",
        )
    elif (run / "run.json").is_file():
        found, next_step = "a finished run that logged no steps", f"its figures stand in {run / 'run.json'}"
    elif run.is_dir():
        found = f"a directory with {shortened(sorted(path.name for path in run.iterdir()), 6) or 'nothing in it'}"
    return UsageError(
        f"there is no {FILE} here",
        where=str(run),
        expected="a training run's directory",
        found=found,
        next_step=next_step,
    )
