"""Whether the disk holds what an evaluation will write, found out before weights are loaded.

    require_space(prepared, out=Path("runs/a"), kept=Path("runs/a/.evals"))

An evaluation writes its answers as they come, and at the end its samples, which hold prompts and answers once more. The estimate is
of texts as long as they may get: more than most models write, never a multiple of what a disk should have free.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import UsageError

if TYPE_CHECKING:
    from evals.prepare import Prepared

BYTES_A_TOKEN = 6  # of text as JSON: English has about 4.5, and what has more bytes has more tokens
BYTES_AN_ANSWER = 120  # what stands around a text, or around a choice's log-likelihood
MEGABYTE = 1_000_000


def require_space(prepared: Sequence[Prepared], out: Path, kept: Path) -> None:
    """Raise UsageError where the disk of `out` has less free than answers and samples may take beside what is kept already."""
    of_tasks = {one.settings.task: bytes_of(one) for one in prepared}
    there = sum(file.stat().st_size for file in kept.glob("*.jsonl")) if kept.is_dir() else 0
    needed, free = max(0, sum(of_tasks.values()) - there), shutil.disk_usage(out).free
    if needed <= free:
        return
    largest = max(prepared, key=lambda one: of_tasks[one.settings.task])
    tokens = f", up to {_tokens(largest):,} tokens each" if largest.task.generates else ""
    raise UsageError(
        "the disk has too little space for the answers and samples of this suite",
        where=str(out),
        expected=f"{needed / MEGABYTE:,.0f} MB free, of which {largest.settings.task} alone may take "
        f"{of_tasks[largest.settings.task] / MEGABYTE:,.0f} MB: {len(largest.requests):,} items, "
        f"{largest.samples:,} answers to each{tokens}",
        found=f"{free / MEGABYTE:,.0f} MB free",
        next_step="free some space, choose an --out on another disk, or take fewer items with --limit N",
    )


def bytes_of(one: Prepared) -> int:
    """What a task's answers and samples may take, in bytes."""
    prompts = sum(len(request.prompt.encode()) for request in one.requests)
    if one.task.generates:
        answers = len(one.requests) * one.samples * (_tokens(one) * BYTES_A_TOKEN + BYTES_AN_ANSWER)
    else:
        answers = sum(len(choice.encode()) + BYTES_AN_ANSWER for request in one.requests for choice in request.choices)
    return prompts + 2 * answers


def _tokens(one: Prepared) -> int:
    return int(one.settings.generation["max_gen_toks"])
