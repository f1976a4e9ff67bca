"""Which lines of two texts differ, as a unified diff, in bounded time whatever the texts are.

    unified("a\\nb\\n", "a\\nc\\n", Effort())       # ["@@ -1,2 +1,2 @@", " a", "-b", "+c"]

Myers' greedy algorithm (Algorithmica 1 (1986) 251): its time grows with the square of the number of differences, not of lines,
and what it spends is counted. difflib's has no bound: 200 kB of short lines take it minutes. As in git, lines that only one side
has are set aside first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CONTEXT = 3  # lines around a change
STEPS = 400_000  # of the search, for all files of an answer: some tenths of a second
NO_NEWLINE = "\\ No newline at end of file"
_LINE = re.compile(r"[^\n]*\n|[^\n]+")
Block = tuple[int, int, int, int]  # lines [first, second) of the old text stand for [third, fourth) of the new one


class TooLarge(Exception):
    """To show it would take too long."""


@dataclass
class Effort:
    """What an answer may still spend on diffs."""

    steps: int = STEPS

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise TooLarge


def unified(old: str, new: str, effort: Effort) -> list[str]:
    """Hunks with their headers, as git writes them. Raises TooLarge."""
    before, after = _LINE.findall(old), _LINE.findall(new)
    lines: list[str] = []
    for hunk in _hunks(changed_blocks(before, after, effort)):
        start, stop = max(0, hunk[0][0] - CONTEXT), min(len(before), hunk[-1][1] + CONTEXT)
        shift = hunk[0][2] - hunk[0][0]
        other_stop = stop + hunk[-1][3] - hunk[-1][1]
        lines.append(f"@@ -{_span(start, stop)} +{_span(start + shift, other_stop)} @@")
        at = start
        for first, second, third, fourth in hunk:
            lines += _marked(" ", before[at:first]) + _marked("-", before[first:second])
            lines += _marked("+", after[third:fourth])
            at = second
        lines += _marked(" ", before[at:stop])
    return lines


def _marked(mark: str, lines: list[str]) -> list[str]:
    marked = [f"{mark}{line.removesuffix(chr(10))}" for line in lines]
    return [*marked, NO_NEWLINE] if lines and not lines[-1].endswith("\n") else marked


def _span(start: int, stop: int) -> str:
    """As git counts: from 1, and an empty span stands after the line before it."""
    count = stop - start
    return f"{start + 1}" if count == 1 else f"{start + (count > 0)},{count}"


def _hunks(blocks: list[Block]) -> list[list[Block]]:
    """Blocks whose context meets stand together."""
    hunks: list[list[Block]] = []
    for block in blocks:
        if hunks and block[0] - hunks[-1][-1][1] <= 2 * CONTEXT:
            hunks[-1].append(block)
        else:
            hunks.append([block])
    return hunks


def changed_blocks(before: list[str], after: list[str], effort: Effort) -> list[Block]:
    """The blocks that differ, from the first line on. Raises TooLarge."""
    start, end, other_end = 0, len(before), len(after)
    while start < min(end, other_end) and before[start] == after[start]:
        start += 1
    while min(end, other_end) > start and before[end - 1] == after[other_end - 1]:
        end, other_end = end - 1, other_end - 1
    ours, theirs = set(before[start:end]), set(after[start:other_end])
    left = [index for index in range(start, end) if before[index] in theirs]
    right = [index for index in range(start, other_end) if after[index] in ours]
    pairs = _common([before[index] for index in left], [after[index] for index in right], effort)
    blocks: list[Block] = []
    at, other_at = start, start
    for first, second in [*((left[one], right[two]) for one, two in pairs), (end, other_end)]:
        if first > at or second > other_at:
            blocks.append((at, first, other_at, second))
        at, other_at = first + 1, second + 1
    return blocks


def _common(left: list[str], right: list[str], effort: Effort) -> list[tuple[int, int]]:
    """A longest common subsequence, as pairs of indices."""
    furthest: dict[int, int] = {1: 0}  # by diagonal: how far along `left` that many differences lead
    trace: list[dict[int, int]] = []
    for differences in range(len(left) + len(right) + 1):
        effort.spend(differences + 1)
        trace.append({diagonal: furthest[diagonal] for diagonal in _diagonals(differences - 1, furthest)})
        for diagonal in range(-differences, differences + 1, 2):
            down = diagonal == -differences or (
                diagonal != differences and furthest[diagonal - 1] < furthest[diagonal + 1]
            )
            x = furthest[diagonal + 1] if down else furthest[diagonal - 1] + 1
            y = x - diagonal
            while x < len(left) and y < len(right) and left[x] == right[y]:
                x, y = x + 1, y + 1
            furthest[diagonal] = x
            if x >= len(left) and y >= len(right):
                return _pairs(trace, len(left), len(right))
    return []


def _diagonals(differences: int, furthest: dict[int, int]) -> list[int]:
    return [1] if differences < 0 else [each for each in range(-differences, differences + 1, 2) if each in furthest]


def _pairs(trace: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    """Back from the end: every diagonal step is a line that both have."""
    pairs: list[tuple[int, int]] = []
    for differences in range(len(trace) - 1, -1, -1):
        furthest, diagonal = trace[differences], x - y
        down = diagonal == -differences or (
            diagonal != differences and furthest.get(diagonal - 1, -1) < furthest.get(diagonal + 1, -1)
        )
        before = diagonal + 1 if down else diagonal - 1
        from_x = furthest[before] if differences else 0
        from_y = from_x - before if differences else 0
        start_x, start_y = (from_x, from_y + 1) if down else (from_x + 1, from_y)
        if not differences:
            start_x = start_y = 0
        while x > start_x and y > start_y:
            x, y = x - 1, y - 1
            pairs.append((x, y))
        x, y = from_x, from_y
    return pairs[::-1]
