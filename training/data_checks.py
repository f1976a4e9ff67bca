"""What must not be learned twice or measured on: repeats, and prompts that stand on both sides of a split. Pure functions.

    hold_out(rows, 34, by="prompt")         # rows of one prompt stay on one side
    seen = {prompt_key(row, "prompt") for row in train}     # and a held-out row whose key is among them is no measurement

Texts are compared as `normalised`: a repeat that differs in case, spaces, characters that nobody sees, the form of its letters or
of its quotes and dashes is one. What is trained on stays as it was written.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from training.counted import counted
from training.errors import UsageError
from training.recipe import By, DataSettings

if TYPE_CHECKING:
    from training.data import Conversation, Row


# What word processors write for signs that keyboards have, and selectors of a sign's look. \N{ACUTE ACCENT} would become a space.
TYPOGRAPHIC = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u2039\u203a\u2032\u02bc\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u2033", '"')
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys([*map(chr, range(0xFE00, 0xFE10)), "\u034f"], "")
)


def normalised(text: str) -> str:
    """Without invisible characters (Unicode's category Cf: zero width, soft hyphens, marks of direction), with quotes and dashes as
    keyboards have them, compatibility forms of letters made one (NFKC), case folded, runs of white space one space."""
    if not text.isascii():
        seen = "".join(sign for sign in text if unicodedata.category(sign) != "Cf")
        text = unicodedata.normalize("NFKC", seen.translate(TYPOGRAPHIC))
    return " ".join(text.casefold().split())


def row_key(row: Conversation) -> str:
    """What a row says, prompt and answers, as a string that is equal for repeats."""
    return _key(vars(row))


def prompt_key(row: Conversation, by: By) -> str:
    """What a row asks: its whole prompt, or its `opening`, which is what the user says first. A system message does not count."""
    turns = [message for message in row.prompt if message["role"] != "system"]
    if not turns:  # plain text has no prompt: the row itself
        return row_key(row)
    return _key(turns[:1] if by == "opening" else turns)


def hold_out(rows: Sequence[Row], count: int, by: By) -> tuple[list[Row], list[Row]]:
    """The rows without `count` of the last ones, and these, in order: fewer where rows of one prompt would be parted.

    That holds for rows that may repeat as well, as a behaviour policy's do: repeats of one row stay on its side.
    """
    if not count:
        return list(rows), []
    keys = [prompt_key(row, by) for row in rows]
    sizes = Counter(keys)
    held: set[str] = set()
    left = count
    for key in reversed(keys):
        if key not in held and sizes[key] <= left:
            held.add(key)
            left -= sizes[key]
    return (
        [row for row, key in zip(rows, keys, strict=True) if key not in held],
        [row for row, key in zip(rows, keys, strict=True) if key in held],
    )


def without_leaks(train: Sequence[Row], heldout: Sequence[Row], settings: DataSettings) -> tuple[list[Row], int]:
    """The held-out rows whose prompt is not trained on, and how many others there were. Raises UsageError where none is left."""
    seen = {prompt_key(row, settings.heldout_by) for row in train}
    unseen = [row for row in heldout if prompt_key(row, settings.heldout_by) not in seen]
    if heldout and not unseen:
        raise UsageError(
            "the prompt of every held-out row is trained on, so there is nothing to measure on",
            where=f"{settings.source}, split {settings.heldout_split}",
            found=f"{counted(len(heldout), 'row')}, each with a prompt of split {settings.split}",
            next_step=f"hold other rows out, or set heldout_split: {settings.split} to measure on what is trained on",
        )
    return unseen, len(heldout) - len(unseen)


def _key(value: Any) -> str:
    if isinstance(value, str):
        return normalised(value)
    if isinstance(value, dict):
        return "{" + "\x1f".join(f"{name}\x1e{_key(part)}" for name, part in sorted(value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + "\x1f".join(map(_key, value)) + "]"
    return repr(value)
