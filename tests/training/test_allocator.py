"""Freed memory is kept for the next step, and the holes that it leaves are given back where the process is large."""

from __future__ import annotations

import subprocess
import sys

import pytest

HOLES = """
import ctypes
from training.allocator import Holes, keep_freed_memory, resident_bytes

keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
blocks = []
for number in range(200):
    block = libc.malloc(1 << 20)
    ctypes.memset(block, 1, 1 << 20)
    blocks.append(block)
for block in blocks[:-1]:  # the last one stands above them, so the heap cannot shrink
    libc.free(block)
full = resident_bytes()
small, large = Holes(limit=full * 2), Holes(limit=full // 2)
assert not small.give_back() and resident_bytes() > full * 0.9
assert large.give_back() and resident_bytes() < full * 0.7
assert not large.give_back()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator is Linux's")
def test_holes_within_the_heap_are_given_back_only_where_the_process_is_large() -> None:
    subprocess.run([sys.executable, "-c", HOLES], check=True)
