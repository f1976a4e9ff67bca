"""What a Space's build and its app say: lines with the time at which they came, in files that do not grow for ever.

with written_log(file) as log:                  # a file that processes can write to, too
    subprocess.run(command, stdout=log)
lines, place = new_lines(file, 0)               # [LogLine("2026-11-28T13:46:59.123Z", "listening\\n")]
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from release.local_hub.repository import now

LIMIT = 4 << 20  # bytes, after which a log begins anew and the old one is kept as .log.1


class LogLine(NamedTuple):
    """When it came (ISO 8601, UTC), and what it says, with its end of line."""

    timestamp: str
    text: str


@contextmanager
def written_log(file: Path) -> Iterator[IO[str]]:
    """Begin the log anew, and write into it what comes until every process that has the file has closed it.

    At the end all that was said is in it, unless a process that was left behind still holds the file.
    """
    readable, writable = os.pipe()
    file.unlink(missing_ok=True)
    keeper = threading.Thread(target=_keep, args=(readable, file), daemon=True)
    keeper.start()
    try:
        with os.fdopen(writable, "w", encoding="utf-8", buffering=1) as log:
            yield log
    finally:
        keeper.join(timeout=1)


def _keep(readable: int, file: Path) -> None:
    written = file.open("ab")
    with os.fdopen(readable, "rb") as output:
        for line in output:
            if written.tell() + len(line) > LIMIT:
                written.close()
                file.replace(file.with_suffix(".log.1"))
                written = file.open("ab")
            written.write(f"{now()} ".encode() + line.rstrip(b"\n") + b"\n")
            written.flush()
    written.close()


def new_lines(file: Path, place: int) -> tuple[list[LogLine], int]:
    """The log's whole lines from byte `place` on, and where they end. A log that has begun anew is read from its start."""
    try:
        with file.open("rb") as opened:
            opened.seek(place if place <= opened.seek(0, os.SEEK_END) else 0)
            start = opened.tell()
            found = opened.read()
    except FileNotFoundError:
        return [], 0
    whole = found[: found.rfind(b"\n") + 1]
    lines = whole.decode(errors="replace").split("\n")[:-1]
    return [LogLine(line.partition(" ")[0], line.partition(" ")[2] + "\n") for line in lines], start + len(whole)
