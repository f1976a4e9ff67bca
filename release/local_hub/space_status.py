"""What is known of a Space that this Hub runs, in files that every server process of a root reads.

<repository folder>/runtime/status.json   replaced as a whole by the one process that runs Spaces
                            build.log     what pip said
                            run.log       what the app says, the last few megabytes of it
                            secrets.json  values of secrets, for the Hub's user alone; no answer ever has them
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from release.local_hub.records import read_record, write_record
from release.local_hub.repository import Repository
from release.local_hub.storage import locked, make_folder, read_json, write_json

RUNNING, STOPPED, PAUSED = "RUNNING", "STOPPED", "PAUSED"
GOING_ON = ("BUILDING", "APP_STARTING", RUNNING)
LOGS = {"build": "build.log", "run": "run.log"}


@dataclass(frozen=True)
class SpaceStatus:
    """A stage of the Hub's, and of what: the commit that runs, where it answers, why it does not."""

    stage: str
    commit: str | None = None
    address: str | None = None  # http://127.0.0.1:PORT, from APP_STARTING on
    error: str | None = None
    pid: int | None = None
    started: float | None = None  # seconds since the epoch: a number of a process alone may be another's by now


def runtime_folder(space: Repository) -> Path:
    folder = space.folder / "runtime"
    make_folder(folder)
    return folder


def write_status(space: Repository, status: SpaceStatus) -> None:
    write_json(runtime_folder(space) / "status.json", asdict(status))


def read_status(space: Repository) -> SpaceStatus | None:
    """The Space's status; None where no server has run it. A Space whose process is gone has stopped."""
    found = read_json(space.folder / "runtime" / "status.json", None)
    if found is None:
        return None
    status = SpaceStatus(**found)
    if status.pid is not None and not is_alive(status):
        return replace(status, stage=STOPPED, address=None)
    return status


def is_alive(status: SpaceStatus) -> bool:
    """Whether the process that the status names is still there."""
    if status.pid is None or status.started is None:
        return False
    try:
        process = psutil.Process(status.pid)
        return bool(abs(process.create_time() - status.started) < 2 and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def secret_values(space: Repository) -> dict[str, str]:
    values: dict[str, str] = read_record(space.folder / "runtime" / "secrets.json", {})
    return values


def set_secret_value(space: Repository, key: str, value: str | None) -> None:
    """Keep a secret's value, or forget it (None), while nobody else changes one. The file is replaced as a whole."""
    folder = runtime_folder(space)
    with locked(folder / "secrets.lock"):
        values = {name: kept for name, kept in secret_values(space).items() if name != key}
        if value is not None:
            values[key] = value
        write_record(folder / "secrets.json", values, mode=0o600)


def log_file(space: Repository, kind: str) -> Path:
    """Where the build's or the run's log lies (space_log.py)."""
    return space.folder / "runtime" / LOGS[kind]
