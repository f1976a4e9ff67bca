"""Processes that a publication has started and left behind: those whose environment holds a value that only it has."""

from __future__ import annotations

import time
from pathlib import Path

PATIENCE = 20.0  # seconds in which what was told to end may do so


def left_behind(mark: str) -> list[str]:
    """The commands of the processes that still run after PATIENCE; as a rule none, and then at once."""
    deadline = time.monotonic() + PATIENCE
    while (found := _running(mark.encode())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def _running(mark: bytes) -> list[str]:
    commands = []
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:  # a zombie's environment is empty
            if mark in (process / "environ").read_bytes():
                commands.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:200])
        except OSError:  # it has just ended, or is another user's
            continue
    return commands
