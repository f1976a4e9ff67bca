"""What a run has published before, or begun to: a new plan must neither orphan the one nor overwrite the other.

    require_free(run, Target("https://hub", "org/name", "v2.0.0", None))      # before a plan is replaced

A publication that was interrupted has a staging branch, and maybe private repositories, that only its own run knows of.
What was released keeps its plan and its bundle, by which the receipt can be understood.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.bundle import PLAN
from release.journal import ROLLED_BACK, WITHDRAWN, read_lines
from release.records import Receipt, ReleasePlan
from training.errors import UsageError

ENDS = ("receipt", ROLLED_BACK, WITHDRAWN)  # steps after which nothing of a publication is left open


@dataclass(frozen=True)
class Target:
    """Where a publication goes."""

    endpoint: str
    repo_id: str
    tag: str
    space: str | None

    def __str__(self) -> str:
        space = f" with the Space {self.space}" if self.space else ""
        return f"{self.repo_id} {self.tag}{space} on {self.endpoint}"


def require_free(run: Path, wanted: Target) -> None:
    """Raises UsageError where a publication to elsewhere is under way, or `wanted`'s tag was released already."""
    begun = next((target for target in in_progress(run) if target != wanted), None)
    if begun is not None:
        raise UsageError(
            "a publication of this run was begun and has not ended; another plan would leave behind what it staged",
            where=str(run / "journal.jsonl"),
            expected=f"{begun} to end first",
            found=f"a request for {wanted}",
            next_step=f"python -m release resume --run {run} ends it, python -m release rollback --run {run} undoes it",
        )
    if (wanted.endpoint, wanted.repo_id, wanted.tag) in released(run):
        raise UsageError(
            f"{wanted.repo_id} {wanted.tag} was released from this run already, and a release never changes",
            where=str(run),
            expected="the files and the options that it was released with",
            found="others, or a later plan in their place",
            next_step=f"choose a new --tag; python -m release verify {wanted.repo_id}@{wanted.tag} looks at what is there",
        )


def in_progress(run: Path) -> list[Target]:
    """The publications of the run that have begun and not ended, the oldest first."""
    newest: dict[Target, str] = {}
    for target, line in _targeted(run):
        newest[target] = str(line["step"])
    return [target for target, step in newest.items() if step not in ENDS]


def released(run: Path) -> set[tuple[str, str, str]]:
    """(endpoint, repository, tag) of every release of the run, rolled back or not: their tags stand."""
    found = {
        (target.endpoint, target.repo_id, target.tag) for target, line in _targeted(run) if line["step"] == "receipt"
    }
    if (run / "receipt.json").is_file():
        receipt = Receipt.read(run / "receipt.json")
        found.add((receipt.endpoint, receipt.repo_id, receipt.tag))
    return found


def _targeted(run: Path) -> list[tuple[Target, dict[str, Any]]]:
    """The journal's lines, each with where it went. Lines from before 2026-11-28 name no target: they count where
    their plan is the one that stands in the run."""
    lines = read_lines(run / "journal.jsonl")
    targets: dict[tuple[str, str], Target] = {}
    if (run / PLAN).is_file():
        plan = ReleasePlan.read(run / PLAN)
        digest = plan.content_digest()
        targets[digest, plan.endpoint] = Target(plan.endpoint, plan.repo_id, plan.tag, plan.space)
    for line in lines:
        if "target" in line:
            targets[line["plan"], line["endpoint"]] = Target(endpoint=line["endpoint"], **line["target"])
    return [
        (targets[line["plan"], line["endpoint"]], line) for line in lines if (line["plan"], line["endpoint"]) in targets
    ]
