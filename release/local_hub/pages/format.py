"""Numbers and times as people read them, and the pictures in front of names."""

from __future__ import annotations

from datetime import UTC, datetime


def size(count: int) -> str:
    """Bytes: 1601 -> 1.6 kB."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB"):
        value /= 1000
        if value < 999.5:
            return f"{value:.3g} {unit}" if value < 100 else f"{value:.0f} {unit}"
    return f"{value / 1000:.3g} TB"


def count(number: int) -> str:
    """Parameters: 134515008 -> 135M."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{unit}"
    return str(number)


def ago(date: str) -> str:
    """How long ago an ISO 8601 time was."""
    seconds = (datetime.now(UTC) - datetime.fromisoformat(date.replace("Z", "+00:00"))).total_seconds()
    for length, unit in ((365 * 86400, "year"), (30 * 86400, "month"), (86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def day(date: str) -> str:
    """2026-11-23T23:26:00.123Z -> 23 November 2026."""
    return datetime.fromisoformat(date.replace("Z", "+00:00")).strftime("%d %B %Y").lstrip("0")


def commas(number: float | str) -> str:
    """A metric's value: floats with four digits, everything else as it is."""
    return f"{number:.4g}" if isinstance(number, float) else str(number)
