"""The disk of the Hub in this process: counts what is made durable on it, can be full, and can be the place of a kill.

    with Disk(full_at=12) as disk:       # the twelfth fsync and all after it find no space left
        ...
    disk.writes, disk.full
    Disk(step=...).steps                  # what was under way at each write
    Disk(dies_at=12).__enter__()         # this process dies by signal 9 before the twelfth, or (`after`) right after it

Everything that the store keeps goes through `fsync` before it becomes visible, so that a disk which is full there is one
at each of the store's writes. The space is there again when the block ends.
"""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Self

from release.local_hub import storage


class Disk:
    def __init__(
        self,
        full_at: int | None = None,
        *,
        dies_at: int | None = None,
        after: bool = False,
        step: Callable[[], str] = lambda: "",
    ) -> None:
        self.full_at, self.dies_at, self.after, self.step = full_at, dies_at, after, step
        self.full = False
        self.steps: list[str] = []
        self._lock = threading.Lock()

    @property
    def writes(self) -> int:
        return len(self.steps)

    def __enter__(self) -> Self:
        stand_in = SimpleNamespace(**{name: getattr(os, name) for name in dir(os) if not name.startswith("__")})
        stand_in.fsync = self._fsync
        storage.os = stand_in  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_: Any) -> None:
        storage.os = os  # type: ignore[attr-defined]

    def _fsync(self, descriptor: int) -> None:
        with self._lock:  # a commit's files are synced by many threads
            self.steps.append(self.step())
            number = self.writes
        if self.full_at is not None and number >= self.full_at:
            self.full = True
            raise OSError(errno.ENOSPC, "No space left on device")
        if number == self.dies_at and not self.after:
            os.kill(os.getpid(), signal.SIGKILL)
        os.fsync(descriptor)
        if number == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)
