"""The text of a release that gates read line by line: what people wrote, what we wrote, and what the model said."""

from __future__ import annotations

import re
from collections.abc import Iterator

from release.gates.candidate import Candidate
from release.text_file import encoding_of

BINARY_SUFFIXES = (".safetensors", ".gguf")  # read by gates of their own
# Vocabularies hold whatever the tokenizer was trained on, which is not ours.
VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "vocab.txt")
# The prompts of evaluations and the model's own words may speak of anything.
SAMPLES = re.compile(r"(baseline/|beside/[^/]+/)?samples/")


def quoted(path: str) -> bool:
    """Whether a file holds what evaluations asked and models said."""
    return SAMPLES.match(path) is not None


def lines(candidate: Candidate) -> Iterator[tuple[str, int, str]]:
    """Path, line number from 1, and line, of every text file but the vocabularies, whatever it is called."""
    return _lines(candidate, [entry.path for entry in candidate.files if entry.path not in VOCABULARIES])


def vocabulary_lines(candidate: Candidate) -> Iterator[tuple[str, int, str]]:
    """The same of the vocabularies."""
    return _lines(candidate, [entry.path for entry in candidate.files if entry.path in VOCABULARIES])


def _lines(candidate: Candidate, paths: list[str]) -> Iterator[tuple[str, int, str]]:
    for path in paths:
        encoding = None if path.endswith(BINARY_SUFFIXES) else encoding_of(candidate.bundle / path)
        if encoding is not None:
            with (candidate.bundle / path).open(encoding=encoding, errors="replace") as file:
                for number, line in enumerate(file, start=1):
                    yield path, number, line
