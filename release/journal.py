"""journal.jsonl: one line for every completed step of a publication, on disk before the next step begins.

    journal = Journal(run / "journal.jsonl", plan_digest, endpoint)
    journal.record("staged", commit="9f2c...")
    journal.find("staged")          # {"commit": "9f2c..."}; None before, or for another plan or Hub

The journal is a memory, not the truth: a kill can fall between a step and its line, so every step also looks at the
Hub. A last line that a kill has torn is dropped; any other that cannot be read is an error.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.errors import UsageError
from training.run_record import now

ROLLED_BACK = "rolled_back"  # the step after which this plan is never published again
WITHDRAWN = "withdrawn"  # nothing was released, and what was staged is gone; the plan may be published later


@dataclass(frozen=True)
class Journal:
    """The lines of one plan on one Hub in a file that may hold others'."""

    path: Path
    plan_digest: str
    endpoint: str

    def record(self, step: str, **data: Any) -> None:
        """Append a line and wait until it is on the disk."""
        line = {"step": step, "plan": self.plan_digest, "endpoint": self.endpoint, "time": now(), **data}
        with self.path.open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.seek(0, os.SEEK_END)
            file.write(json.dumps(line, sort_keys=True).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def find(self, step: str) -> dict[str, Any] | None:
        """The newest line of the step."""
        return next((line for line in reversed(self.lines()) if line["step"] == step), None)

    def under_way(self, step: str) -> dict[str, Any] | None:
        """The oldest line of the step since the plan was last withdrawn: of this publication, however often it was resumed."""
        return next((line for line in self._since_withdrawn() if line["step"] == step), None)

    def latest(self, step: str) -> dict[str, Any] | None:
        """The newest line of the step since the plan was last withdrawn."""
        return next((line for line in reversed(self._since_withdrawn()) if line["step"] == step), None)

    def _since_withdrawn(self) -> list[dict[str, Any]]:
        lines = self.lines()
        ends = [index for index, line in enumerate(lines) if line["step"] == WITHDRAWN]
        return lines[ends[-1] + 1 :] if ends else lines

    def lines(self) -> list[dict[str, Any]]:
        """The whole lines of this plan on this Hub, oldest first."""
        lines = read_lines(self.path)
        return [line for line in lines if (line["plan"], line["endpoint"]) == (self.plan_digest, self.endpoint)]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines of every plan, oldest first; none where there is no journal. Raises UsageError for one that is damaged."""
    if not path.is_file():
        return []
    whole = path.read_bytes().rpartition(b"\n")[0]
    return (
        [_parsed(line, f"{path}, line {number}") for number, line in enumerate(whole.split(b"\n"), 1)] if whole else []
    )


def _parsed(line: bytes, where: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:  # not UTF-8, or not JSON
        found = None
    known = isinstance(found, dict) and all(isinstance(found.get(name), str) for name in ("step", "plan", "endpoint"))
    target = found.get("target", {}) if known else None
    if not isinstance(target, dict) or set(target) not in (set(), {"repo_id", "tag", "space"}):
        raise UsageError(
            "a line of the journal is damaged, so it is not known what of this run was published",
            where=where,
            expected="a JSON object with step, plan and endpoint, as it was written",
            found=repr(line[:80].decode(errors="replace")),
            next_step="put the line back from a copy of the run; without one, take it out, and the same command again looks at the "
            "Hub for what was done (who could read the repository before, if that line said it, is not given back then)",
        )
    return dict(found)


@contextmanager
def exclusive(run: Path) -> Iterator[None]:
    """Hold a run against a second publication from this machine; the kernel lets go when this process dies."""
    with (run / ".publishing").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                "another process is publishing this run", where=str(run), next_step="wait for it to end"
            ) from error
        yield
