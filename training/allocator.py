"""Keep memory that the process frees, instead of giving it back and asking for it again at every step.

glibc maps each big block anew and returns it to the kernel when it is freed, so that a training step on a CPU spends
much of its time on page faults (docs/log.md, 2026-11-24).
"""

from __future__ import annotations

import ctypes
import sys

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
