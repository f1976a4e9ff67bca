"""What answers took that earlier commands computed, and that this one makes use of: a scorecard's time is that of all its answers.

with counting() as earlier:
    ...                # Answers found on disk report here
    earlier.seconds
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from training.energy_record import Energy


@dataclass
class EarlierWork:
    """Seconds of the processes that computed the answers. Answers kept before 2026-11-29 have no time, and add none."""

    seconds: float = 0.0
    used: set[str] = field(default_factory=set)  # batches of earlier commands, each counted once
    own: set[str] = field(default_factory=set)  # batches that this command computed

    def with_own(self, energy: Energy | None) -> Energy | None:
        """The energy of all answers, from that of this command's: not known where there are others."""
        if energy is None or not self.used:
            return energy
        why = "some of its answers were computed by an earlier command, whose energy is in no record"
        return Energy(kwh=None, parts=[], estimate=False, method=why)


_current: ContextVar[EarlierWork | None] = ContextVar("work of earlier commands", default=None)


@contextmanager
def counting() -> Iterator[EarlierWork]:
    """Count what is used inside."""
    earlier = EarlierWork()
    token = _current.set(earlier)
    try:
        yield earlier
    finally:
        _current.reset(token)


def computed(batch: str) -> None:
    """Say that this command answered a batch, so that it counts as its own when it is read again."""
    found = _current.get()
    if found is not None:
        found.own.add(batch)


def used(batch: str, seconds: float) -> None:
    """Say that a kept batch is used, which took `seconds`."""
    found = _current.get()
    if found is not None and batch not in found.own | found.used:
        found.used.add(batch)
        found.seconds += seconds
