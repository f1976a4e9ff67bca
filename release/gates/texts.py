"""The text of a release that gates read line by line: what people wrote, what we wrote, and what the model said."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from release.gates.candidate import Candidate

BINARY_SUFFIXES = (".safetensors", ".gguf")  # read by gates of their own
SNIFFED = 8192  # bytes: a file without a zero among so many is text, as git has it
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# Vocabularies hold whatever the tokenizer was trained on, which is not ours.
VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "vocab.txt")
# The prompts of evaluations and the model's own words may speak of anything.
QUOTED = ("samples/", "baseline/samples/")


def lines(candidate: Candidate) -> Iterator[tuple[str, int, str]]:
    """Path, line number from 1, and line, of every text file but the vocabularies, whatever it is called."""
    return _lines(candidate, [entry.path for entry in candidate.files if entry.path not in VOCABULARIES])


def vocabulary_lines(candidate: Candidate) -> Iterator[tuple[str, int, str]]:
    """The same of the vocabularies."""
    return _lines(candidate, [entry.path for entry in candidate.files if entry.path in VOCABULARIES])


def _lines(candidate: Candidate, paths: list[str]) -> Iterator[tuple[str, int, str]]:
    for path in paths:
        encoding = _encoding(candidate.bundle / path)
        if encoding is not None:
            with (candidate.bundle / path).open(encoding=encoding, errors="replace") as file:
                for number, line in enumerate(file, start=1):
                    yield path, number, line


def _encoding(file: Path) -> str | None:
    """How the text of a file is read; None where it is no text."""
    if file.suffix in BINARY_SUFFIXES:
        return None
    with file.open("rb") as opened:
        head = opened.read(SNIFFED)
    if head.startswith(WIDE):
        return "utf-16"
    return None if b"\0" in head else "utf-8"
