"""What to type so that a run has the scores that a gate asks for: of this run, and beside those of what it began from.

evaluate_again(candidate)      # "python -m evals run runs/a/checkpoint --suite starter --out runs/a --baseline runs/base"
"""

from __future__ import annotations

import shlex
from pathlib import Path

from release.gates.candidate import Candidate
from training.errors import UsageError

SUITE = "starter"  # where no scorecard names one
PARENT = "runs/parent"  # where the parent's scores would lie, if it has none yet


def evaluate_again(candidate: Candidate) -> str:
    """The command, with the suite that the scorecard names, and the parent that run.json names; two commands where that has no
    scores yet."""
    run, suite = candidate.run.as_posix(), _suite(candidate)
    command = f"python -m evals run {run}/checkpoint --suite {suite} --out {run}"
    parent = _parent(candidate)
    if parent is None:
        return command
    scored = next((place for place in _runs_of(parent) if (place / "scorecard.json").is_file()), None)
    if scored is not None:
        return f"{command} --baseline {shlex.quote(scored.as_posix())}"
    first = f"python -m evals run {shlex.quote(parent)} --suite {suite} --out {PARENT}"
    return f"{first}, then {command} --baseline {PARENT}"


def _suite(candidate: Candidate) -> str:
    try:
        return shlex.quote(candidate.scorecard.settings.suite) if candidate.scorecard else SUITE
    except UsageError:  # a scorecard that cannot be read
        return SUITE


def _parent(candidate: Candidate) -> str | None:
    """The name of what training began from; None where no record names it, or the run is a copy."""
    try:
        record = candidate.run_record
    except UsageError:
        return None
    base = record.parent("base") if record else None
    if record is None or base is None or record.method == "base":
        return None
    return f"{base.hub_id}@{base.revision}" if base.hub_id and base.revision else base.hub_id or base.name


def _runs_of(parent: str) -> list[Path]:
    """The directories in which the scores of a checkpoint on this disk would lie."""
    place = Path(parent)
    return [place, place.parent] if place.name == "checkpoint" else [place]
