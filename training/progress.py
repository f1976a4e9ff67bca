"""Progress of long work: a bar on a terminal, a line now and then where stderr is a file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from training.command import log

EVERY = 10.0  # seconds between two lines in a file, however many steps there are


class Progress:
    """`with Progress("ppo", total=14) as progress: progress.advance("reward +0.2")`."""

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.done, self.began = name, total, done, time.monotonic()
        self.first = done
        self.last_line = self.began
        self.lines = 0
        self.bar = None
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (
                TextColumn(name),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[note]}"),
            )
            self.bar = Bar(*columns, console=Console(stderr=True))
            self.task = self.bar.add_task(name, total=total, completed=done, note="")

    def advance(self, note: str = "", steps: int = 1) -> None:
        """`steps` more are done; `note` says how they went."""
        self.done += steps
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done, note=note)
            return
        now = time.monotonic()
        ended = self.done >= self.total
        if now - self.last_line < EVERY and not (ended and (note or self.lines)):
            return
        self.last_line, self.lines = now, self.lines + 1
        each = (now - self.began) / (self.done - self.first)
        left = "done" if ended else f"{each * (self.total - self.done):.0f} s left"
        log("  ".join(filter(None, [f"{self.name} {self.done}/{self.total}", note, left])))

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
