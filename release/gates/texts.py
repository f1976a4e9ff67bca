"""The text of a release that gates read line by line: what people wrote, what we wrote, and what the model said."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from release.gates.candidate import Candidate
from release.readable import is_picture, strings
from release.text_file import encoding_of
from training.checkpoint import read_safetensors_metadata
from training.errors import UsageError

# Vocabularies hold whatever the tokenizer was trained on, which is not ours.
VOCABULARIES = (
    *("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "vocab.txt"),
    *("tokenizer.model", "spiece.model", "sentencepiece.bpe.model"),  # binary, and SentencePiece writes paths into them
)
# The prompts of evaluations and the model's own words may speak of anything.
SAMPLES = re.compile(r"(baseline/|beside/[^/]+/)?samples/")


def quoted(path: str) -> bool:
    """Whether a file holds what evaluations asked and models said."""
    return SAMPLES.match(path) is not None


def lines(candidate: Candidate) -> Iterator[tuple[str, int, str]]:
    """Path, line number from 1, and line, of every text file but the vocabularies, whatever it is called; and the words that
    stand in the headers of weights and within pictures."""
    for entry in candidate.files:
        if entry.path not in VOCABULARIES:
            yield from ((entry.path, *line) for line in _lines(candidate.bundle / entry.path))


def vocabulary_lines(candidate: Candidate) -> Iterator[tuple[str, int, str]]:
    """The same of the vocabularies."""
    for entry in candidate.files:
        if entry.path in VOCABULARIES:
            yield from ((entry.path, *line) for line in _lines(candidate.bundle / entry.path))


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    encoding = encoding_of(file)
    if file.name.endswith(".safetensors"):
        yield from enumerate(_words_of_weights(file), start=1)
    elif encoding is not None:
        with file.open(encoding=encoding, errors="replace") as opened:
            yield from enumerate(opened, start=1)
    elif is_picture(file) or file.name in VOCABULARIES:
        yield from enumerate(strings(file), start=1)


def _words_of_weights(file: Path) -> list[str]:
    """Each name with its words, line by line; none of a file that is damaged, as the gate on weights says."""
    try:
        metadata = read_safetensors_metadata(file)
    except UsageError:
        return []
    return [f"{name}: {line}" for name, words in metadata.items() for line in words.splitlines() or [""]]
