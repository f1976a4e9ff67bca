"""The disk of the Hub in this process: counts what is made durable on it, and can be full.

    with Disk(full_at=12) as disk:       # the twelfth fsync and all after it find no space left
        ...
    disk.writes, disk.full

Everything that the store keeps goes through `fsync` before it becomes visible, so that a disk which is full there is one
at each of the store's writes. The space is there again when the block ends.
"""

from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import Any, Self

from release.local_hub import storage


class Disk:
    def __init__(self, full_at: int | None = None) -> None:
        self.full_at, self.writes, self.full = full_at, 0, False

    def __enter__(self) -> Self:
        stand_in = SimpleNamespace(**{name: getattr(os, name) for name in dir(os) if not name.startswith("__")})
        stand_in.fsync = self._fsync
        storage.os = stand_in  # type: ignore[attr-defined]
        return self

    def __exit__(self, *_: Any) -> None:
        storage.os = os  # type: ignore[attr-defined]

    def _fsync(self, descriptor: int) -> None:
        self.writes += 1
        if self.full_at is not None and self.writes >= self.full_at:
            self.full = True
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fsync(descriptor)
