"""A number with its noun, as people write it: 1 file, 2 files."""

from __future__ import annotations


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`counted(1, "file")` is "1 file"; counted(2_000, "repository", "repositories") "2,000 repositories"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def are(number: int) -> str:
    """`is` or `are`."""
    return "is" if number == 1 else "are"
