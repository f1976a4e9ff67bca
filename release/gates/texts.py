"""The text of a release that gates read line by line: what people wrote, what we wrote, and what the model said."""

from __future__ import annotations

from collections.abc import Iterator

from release.gates.candidate import Candidate

TEXT_SUFFIXES = (".md", ".json", ".jsonl", ".txt", ".jinja", ".yaml", ".yml", ".py", ".csv", ".html", ".svg", ".cfg")
# Vocabularies hold whatever the tokenizer was trained on, which is not ours.
VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "vocab.txt")
# The prompts of evaluations and the model's own words may speak of anything.
QUOTED = ("samples/", "baseline/samples/")


def lines(candidate: Candidate) -> Iterator[tuple[str, int, str]]:
    """Path, line number from 1, and line, of every text file."""
    for entry in candidate.files:
        if entry.path.endswith(TEXT_SUFFIXES) and entry.path not in VOCABULARIES:
            with (candidate.bundle / entry.path).open(encoding="utf-8", errors="replace") as file:
                for number, line in enumerate(file, start=1):
                    yield entry.path, number, line
