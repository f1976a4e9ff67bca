"""Rows that are longer than a recipe allows: their conversation cut at its beginning, and counted, where the recipe asks for it.

    rows = fitted(data, partial(longest, tokenizer), recipe.max_length, recipe.cut_prompts)
    rows.train, rows.heldout, rows.cut      # then what is still too long is dropped

Nothing is cut within a turn, and answers are never cut: what is left is a conversation that the chat template writes as any other.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, Generic, NamedTuple

from training.data import Data, Messages, Row


def cut_prompt(prompt: Messages, fits: Callable[[Messages], bool]) -> Messages:
    """The prompt without as many of its oldest turns as it takes to fit; a system message and the last turn stay.

    A turn is the user's message with all that is said until the user's next one. Where nothing fits, the shortest is returned.
    """
    system = prompt[:1] if prompt[0]["role"] == "system" else []
    starts = [index for index, message in enumerate(prompt) if message["role"] == "user"]
    shorter = [prompt, *([*system, *prompt[start:]] for start in starts[1:])]
    return next((each for each in shorter if fits(each)), shorter[-1])


class Fitted(NamedTuple, Generic[Row]):
    """Rows as a recipe takes them, and how many of those to train on were cut."""

    train: list[Row]
    heldout: list[Row]
    cut: int


def fitted(data: Data, length: Callable[[Any], int], max_length: int, cut_prompts: bool) -> Fitted[Any]:
    """The data as they are, or with the prompts of rows cut whose `length(row)`, in tokens, is above `max_length`."""
    if not cut_prompts:
        return Fitted(data.train, data.heldout, 0)
    train = [_cut(row, length, max_length) for row in data.train]
    heldout = [_cut(row, length, max_length) for row in data.heldout]
    cut = sum(len(new.prompt) < len(old.prompt) for new, old in zip(train, data.train, strict=True))
    return Fitted(train, heldout, cut)


def _cut(row: Row, length: Callable[[Row], int], max_length: int) -> Row:
    prompt = cut_prompt(row.prompt, lambda each: length(dataclasses.replace(row, prompt=each)) <= max_length)
    return dataclasses.replace(row, prompt=prompt)
