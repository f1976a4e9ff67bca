"""What a model answered, kept on disk batch by batch, so that an interrupted evaluation continues and a repeated one is free.

    answers = Answers(Path("runs/a/.evals"), "starter_toxicity", {"checkpoint": digest, "dtype": "bfloat16", ...})
    answers.of(contents, compute=lambda: [...])

A batch is found by its content: everything that decides the answers (digest of the checkpoint, precision, batch,
decoding, seed, package versions) names the file, and the very requests name the line. Nothing is found by a path or a
task's name, so changed weights, data or prompts never meet an old answer. Each line says how long its batch took.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evals import earlier_work


class Answers:
    """The answers of one task under one set of circumstances; `rank` is the process that computes, if there are several."""

    def __init__(self, folder: Path, task: str, circumstances: dict[str, Any], rank: int = 0) -> None:
        self._folder, self._stem = folder, f"{task}-{_digest(circumstances)[:16]}"
        self.file = folder / f"{self._stem}{f'.{rank}' if rank else ''}.jsonl"
        self.engines: set[str] = set()  # how the answers that were asked for were computed, where that was said
        self.read()
        self._earlier = dict(self._seconds)  # of batches that were there before

    def read(self) -> None:
        """Read what this process and others have answered. Each writes to a file of its own, and reads all."""
        self.known: dict[str, list[Any]] = {}
        self._engine_of: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        for file in sorted(self._folder.glob(f"{self._stem}*.jsonl")):
            for line in file.read_bytes().splitlines():
                try:
                    entry = json.loads(line)
                    self.known[entry["batch"]] = entry["answers"]
                    self._engine_of[entry["batch"]] = str(entry.get("engine", ""))
                    self._seconds[entry["batch"]] = float(entry.get("seconds", 0.0))
                except (ValueError, KeyError, TypeError):
                    continue  # the line that a kill or a full disk tore; its batch is computed again

    def has(self, contents: list[Any]) -> bool:
        return _digest(contents) in self.known

    def of(
        self, contents: list[Any], compute: Callable[[], list[Any]], engine: Callable[[], str] = lambda: ""
    ) -> list[Any]:
        """The answers to a batch, one for each of `contents`; computed and appended where they are not there yet.

        `engine`, asked after computing, says how they were computed; it is kept with them.
        """
        key = _digest(contents)
        if key not in self.known:
            began = time.monotonic()
            computed = compute()
            if len(computed) != len(contents):
                raise ValueError(f"{len(contents)} requests got {len(computed)} answers")
            self._engine_of[key] = engine()
            seconds = round(time.monotonic() - began, 3)
            entry = {"batch": key, "answers": computed, "engine": self._engine_of[key], "seconds": seconds}
            line = json.dumps(entry, ensure_ascii=False) + "\n"
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self.file.open("ab") as file:
                # After a torn line the next one would be lost too, so every line starts on a fresh one.
                file.write(b"\n" + line.encode() if _torn(self.file) else line.encode())
                file.flush()
                os.fsync(file.fileno())
            self.known[key] = json.loads(line)["answers"]
            earlier_work.computed(f"{self._stem} {key}")
        elif key in self._earlier:
            earlier_work.used(f"{self._stem} {key}", self._earlier[key])
        self.engines.update({self._engine_of.get(key, "")} - {""})
        return self.known[key]


def _torn(file: Path) -> bool:
    if not file.is_file() or file.stat().st_size == 0:
        return False
    with file.open("rb") as opened:
        opened.seek(-1, os.SEEK_END)
        return opened.read(1) != b"\n"


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()
