"""Scores of texts that are dear to make again, kept by scorer and content: a repetition is free, an interruption loses a batch.

kept_scores(folder, "toxicity/detoxify@4d6c22e74ba2", texts, compute, at_a_time=32)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from evals.answers import Answers


def kept_scores(
    folder: Path | None,
    scorer: str,
    texts: Sequence[str],
    compute: Callable[[list[str]], list[float | None]],
    at_a_time: int,
) -> list[float | None]:
    """A score for each text, None where `compute` has none; each distinct text is scored once, and a blank one is 0."""
    distinct = list(dict.fromkeys(text for text in texts if text.strip()))
    saved = Answers(folder, "scores", {"scorer": scorer}) if folder else None
    known: dict[str, float | None] = {}
    for start in range(0, len(distinct), at_a_time):
        batch = distinct[start : start + at_a_time]
        found = saved.of(batch, lambda: compute(batch)) if saved else compute(batch)  # noqa: B023
        known.update(zip(batch, found, strict=True))
    return [known[text] if text.strip() else 0.0 for text in texts]
