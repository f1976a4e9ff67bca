"""What the gates say of a run, and changes to it."""

from __future__ import annotations

import json
from pathlib import Path

from release.plan import check_run
from release.records import Verdict
from release.request import Request
from training.run_record import RunRecord


def verdicts(run: Path, policy: str = "default") -> dict[str, Verdict]:
    return {verdict.gate: verdict for verdict in check_run(run, Request("owner/name", policy=policy))}


def refusals(run: Path, policy: str = "default") -> dict[str, str]:
    """Gate -> explanation, of those that refused."""
    return {
        gate: verdict.explanation for gate, verdict in verdicts(run, policy).items() if verdict.outcome == "refused"
    }


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def parent_of(run: Path) -> str:
    parent = RunRecord.read(run / "run.json").parent("base")
    assert parent is not None
    return parent.digest
