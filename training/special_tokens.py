"""Special tokens in what people wrote are text, and no turns: nobody who gives data may end one and begin the system's.

data = words_only(load_preferences(settings, seed), tokenizer)     # data.source.special_tokens says in how many rows

Chat templates write the contents of messages as they are, and tokenizers take `<|im_end|>` for the token wherever it stands.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from training.data import Conversation, Data

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

JOINER = "\u2060"  # invisible, and no place to break a line at; the chat page breaks visitors' tokens in the same way
WORDS = ("prompt", "chosen", "rejected", "completion", "response")  # of rows; a text for pretraining is taken as it is


def words_only(data: Data, tokenizer: PreTrainedTokenizerBase) -> Data:
    """The data with every special token of the tokenizer broken by an invisible character, and in how many rows."""
    added = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    special = sorted({*added, *map(str, tokenizer.all_special_tokens)} - {""}, key=len, reverse=True)
    train, heldout = ([_broken(row, special) for row in rows] for rows in (data.train, data.heldout))
    changed = sum(new is not old for new, old in zip(train, data.train, strict=True))
    source = data.source.model_copy(update={"special_tokens": changed})
    return dataclasses.replace(data, train=train, heldout=heldout, source=source)


def _broken(row: Conversation, special: list[str]) -> Conversation:
    """The row itself where there is no special token in it."""
    words = {name: value for name, value in vars(row).items() if name in WORDS}
    broken = {name: _in(value, special) for name, value in words.items()}
    return row if broken == words else dataclasses.replace(row, **broken)


def _in(value: Any, special: list[str]) -> Any:
    if not isinstance(value, str):
        return [{**message, "content": _in(message["content"], special)} for message in value]
    for token in special:
        value = value.replace(token, f"{token[0]}{JOINER}{token[1:]}")
    return value
