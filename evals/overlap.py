"""Which evaluated items stand in training texts: n-grams of words that both have. Pure functions.

    found = overlapping({"17": ["What is the boiling point ..."]}, training_texts)     # {"17": "the n-gram that was found"}

As Brown et al. (2020, appendix C): lower-case words without punctuation, n = 13; a segment of an item that is shorter, down to 8
words, must be found whole. The items' n-grams are held and the training texts stream by, so memory is bounded by the evaluation.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from training.data_checks import normalised

N = 13
SHORTEST = 8
WORD = re.compile(r"[^\W_]+")


def words(text: str) -> list[str]:
    """Letters and digits in runs, without regard to case, to the form of letters and to characters that nobody sees."""
    return WORD.findall(normalised(text))


def grams(text: str, n: int = N, shortest: int = SHORTEST) -> set[tuple[str, ...]]:
    """The n-grams of a segment; itself where it is shorter than n; nothing below `shortest` words."""
    found = words(text)
    if len(found) < shortest:
        return set()
    size = min(n, len(found))
    return {tuple(found[start : start + size]) for start in range(len(found) - size + 1)}


def overlapping(
    items: Mapping[str, Sequence[str]], training: Iterable[str], n: int = N, shortest: int = SHORTEST
) -> dict[str, str]:
    """The items of which some segment has an n-gram that stands in a training text, each with the first one found."""
    wanted: dict[tuple[str, ...], list[str]] = {}
    for item, segments in items.items():
        for gram in {gram for segment in segments for gram in grams(segment, n, shortest)}:
            wanted.setdefault(gram, []).append(item)
    sizes = sorted({len(gram) for gram in wanted})
    found: dict[str, str] = {}
    for text in training:
        said = words(text)
        for size in sizes:
            for start in range(len(said) - size + 1):
                gram = tuple(said[start : start + size])
                for item in wanted.get(gram, ()):
                    found.setdefault(item, " ".join(gram))
    return found


def without_the_shared(prompts: Sequence[str]) -> list[str]:
    """Prompts without what all begin and end with (a primer, a template), for that is of the task and not of an item."""
    if len(set(prompts)) < 2:
        return list(prompts)
    start = _at_word(prompts[0], _shared(prompts))
    rest = [prompt[start:] for prompt in prompts]
    end = _shared([prompt[::-1] for prompt in rest])
    end -= _partial(rest[0], end)
    return [prompt[: len(prompt) - end] for prompt in rest]


def _shared(texts: Sequence[str]) -> int:
    """How many characters all begin with: as many as the first and the last in alphabetical order."""
    pairs = zip(min(texts), max(texts), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


def _at_word(text: str, place: int) -> int:
    """The place, or before it the beginning of the word that it would cut."""
    while place > 0 and place < len(text) and text[place - 1].isalnum():
        place -= 1
    return place


def _partial(text: str, end: int) -> int:
    """How many of the last `end` characters belong to a word that begins before them."""
    start = place = len(text) - end
    while 0 < place < len(text) and text[place].isalnum() and text[start - 1].isalnum():
        place += 1
    return place - start
