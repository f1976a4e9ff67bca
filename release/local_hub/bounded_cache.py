"""What was read once and does not change, kept while there is room: counted by what it weighs, not by how many there are.

cache = BoundedCache[Commit](limit=300_000, weigh=lambda commit: len(commit.tree))
cache.get(path, lambda: read(path))
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class BoundedCache(Generic[T]):
    """For several threads. What was not asked for the longest goes first; the newest stays, whatever it weighs."""

    def __init__(self, limit: int, weigh: Callable[[T], int]) -> None:
        self.limit, self.weigh = limit, weigh
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._weight, self._lock = 0, Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """What is kept under the key, or else made; what `make` raises is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
        made = make()
        weight = self.weigh(made)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = made, weight
                self._weight += weight
            while self._weight > self.limit and len(self._kept) > 1:
                self._weight -= self._kept.popitem(last=False)[1][1]
        return made
