"""One process at a time works in a directory: a lock that goes with the process, whatever ends it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from training.errors import UsageError

LOCK = "lock"

_held: dict[Path, int] = {}  # directory -> the open file of its lock, held until `let_go` or the process's end


def hold(directory: Path, what: str, where: Path) -> None:
    """Hold `directory`, and make it first. Raises UsageError saying `what` goes on `where`, if another process holds it."""
    directory.mkdir(parents=True, exist_ok=True)
    before = _held.pop(directory.resolve(), None)
    if before is not None:  # an earlier attempt of this very process
        os.close(before)
    file = _locked(directory)
    if file is None:
        raise UsageError(
            what,
            where=str(where),
            next_step="wait until it ends, or end it and give the same command again to continue; or choose another --out",
        )
    _held[directory.resolve()] = file


def is_held(directory: Path) -> bool:
    """Whether another process holds it now."""
    if not (directory / LOCK).is_file():
        return False
    file = _locked(directory)
    if file is not None:
        os.close(file)
    return file is None


def let_go() -> None:
    """Let others work in the directories that this process held: a command of it has ended."""
    while _held:
        os.close(_held.popitem()[1])


def _locked(directory: Path) -> int | None:
    """The open file of the lock; None where another process has it."""
    file = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return None
    return file
