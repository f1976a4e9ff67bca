"""Keep memory that the process frees, instead of giving it back and asking for it again at every step.

glibc maps each big block anew and returns it to the kernel when it is freed, so that a training step on a CPU spends
much of its time on page faults (docs/log.md, 2026-11-24). The price is a heap with holes, which grows where batches differ
in shape; beyond a quarter of the machine's memory the holes are given back.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # malloc.h of glibc
TOP_PAD = 256 * 1024 * 1024  # bytes asked for at a time when the heap grows


def keep_freed_memory() -> bool:
    """Tell glibc's allocator to serve big blocks from its heap and never to shrink it. False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1) and mallopt(M_TOP_PAD, TOP_PAD))


class Holes:
    """Gives the free pages within the heap back, where the process is large and has grown since the last time."""

    def __init__(self, limit: int | None = None) -> None:
        """`limit` in bytes of resident memory; a quarter of the machine's where unset."""
        glibc = sys.platform.startswith("linux") and hasattr(ctypes.CDLL(None), "malloc_trim")
        self._trim = ctypes.CDLL(None).malloc_trim if glibc else None
        self._limit = limit or (os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4 if glibc else 0)
        self._left = 0  # bytes that were resident after the last time

    def give_back(self) -> bool:
        """Whether anything was given back: at most once for each tenth of the limit by which the process grew."""
        if self._trim is None or resident_bytes() < max(self._limit, self._left + self._limit // 10):
            return False
        self._trim(0)
        self._left = resident_bytes()
        return True


def resident_bytes() -> int:
    """Memory that this process holds, on Linux."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
