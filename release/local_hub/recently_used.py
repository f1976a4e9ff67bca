"""What was read or worked out of a repository and is likely to be asked for again, bounded by how much it is and not by how often.

trees = RecentlyUsed[Path, Tree](limit=200_000)
trees.get(file, lambda: read(file), weight=len)
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class RecentlyUsed(Generic[Key, Value]):
    """Values by key, the last used of them as far as their weights come to `limit`; for all threads of a process.

    Only what never changes belongs here: nothing is looked at again.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._kept: OrderedDict[Key, tuple[Value, int]] = OrderedDict()
        self._weight = 0
        self._lock = Lock()

    def find(self, key: Key) -> Value | None:
        """None where it is not kept."""
        with self._lock:
            if key not in self._kept:
                return None
            self._kept.move_to_end(key)
            return self._kept[key][0]

    def get(self, key: Key, make: Callable[[], Value], weight: Callable[[Value], int]) -> Value:
        """What is kept, or what `make` gives; two threads may make it at once. What is heavier than all may be is not kept."""
        found = self.find(key)
        if found is not None:
            return found
        made = make()
        heavy = weight(made) + 1
        with self._lock:
            if heavy <= self.limit and key not in self._kept:
                self._kept[key] = (made, heavy)
                self._weight += heavy
                while self._weight > self.limit:
                    self._weight -= self._kept.popitem(last=False)[1][1]
        return made

    def __len__(self) -> int:
        """How much is kept, by weight."""
        return self._weight
