"""A number with its noun, as people write it: 1 file, 2 files; and the first of many names."""

from __future__ import annotations

from collections.abc import Sequence


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`counted(1, "file")` is "1 file"; counted(2_000, "repository", "repositories") "2,000 repositories"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def are(number: int) -> str:
    """`is` or `are`."""
    return "is" if number == 1 else "are"


def shortened(names: Sequence[str], most: int = 8, *, lines: bool = False) -> str:
    """The first `most` of the names and how many more there are: "a, b and 3 more"; or, of several, each on a line of its own."""
    more = len(names) - most
    if lines and len(names) > 1:
        return "".join(f"\n- {name}" for name in [*names[:most], *([f"and {more:,} more"] if more > 0 else [])])
    return ", ".join(names[:most]) + (f" and {more:,} more" if more > 0 else "")
