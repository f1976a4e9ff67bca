"""Progress of long work: a bar on a terminal, a line now and then where stderr is a file."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from training.command import log


class Progress:
    """`with Progress("ppo", total=14) as progress: progress.advance("reward +0.2")`."""

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        self.name, self.total, self.done, self.began = name, total, done, time.monotonic()
        self.first = done
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
        each = (time.monotonic() - self.began) / (self.done - self.first)
        log(f"{self.name} {self.done}/{self.total}  {note}  {each * (self.total - self.done):.0f} s left")

    def __enter__(self) -> Self:
        if self.bar is not None:
            self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
