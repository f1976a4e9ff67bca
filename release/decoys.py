"""What is read of a directory, besides what its checkpoint's digest covers, while a model is loaded from it.

    with decoyed(directory) as seen:
        AutoModelForCausalLM.from_pretrained(seen.folder)
    seen.read       # {"w/tokenizer.json"}: files that take part in what is loaded, and that the digest does not name

The folder has links to what the digest covers; every other file is there by its name and holds bytes that are no text, no
JSON and no tensor. So who reads one fails, or is seen opening it, or both: Python's `open` tells its audit hooks (PEP 578),
the readers of safetensors, tokenizers and SentencePiece do not, but take no such bytes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from training.covered import covered

UNREADABLE = b"\xff" * 64  # no UTF-8, no protobuf; as the length of a safetensors header longer than any file
SKIPPED = (".git", ".cache")  # of tools that keep a directory: nothing is loaded from there


@dataclass(frozen=True)
class Decoyed:
    """A folder to load from in a directory's place, its decoys by path, and those of them that were opened."""

    folder: Path
    decoys: list[str]
    read: set[str] = field(default_factory=set)


@contextmanager
def decoyed(directory: Path) -> Iterator[Decoyed]:
    """The folder, as long as something is loaded from it."""
    _listen()
    with covered(directory) as folder:
        seen = Decoyed(folder, _others(directory, folder))
        for name in seen.decoys:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(UNREADABLE)
        watched = {str(folder / name): (seen, name) for name in seen.decoys}
        _watched.update(watched)
        try:
            yield seen
        finally:
            for path in watched:
                _watched.pop(path)


def _others(directory: Path, folder: Path) -> list[str]:
    """Paths of the files of a directory that are not in the folder of those that its digest covers."""
    paths = (file.relative_to(directory) for file in directory.rglob("*") if file.is_file())
    return sorted(
        path.as_posix() for path in paths if path.parts[0] not in SKIPPED and not (folder / path).is_symlink()
    )


_watched: dict[str, tuple[Decoyed, str]] = {}  # a decoy's path -> where to note that it was opened, and as what


@cache
def _listen() -> None:
    """Once a process: an audit hook cannot be taken away again."""
    sys.addaudithook(_note)


def _note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watched and isinstance(arguments[0], str | bytes | os.PathLike):
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100 - resolve() looks at the disk at every open
        if path in _watched:
            seen, name = _watched[path]
            seen.read.add(name)
