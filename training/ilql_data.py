"""Answers with rewards, for offline reinforcement learning: a row is {prompt, response, reward}, or a preference pair.

    {"prompt": "Name a colour.", "response": "Blue.", "reward": 0.7}

`prompt` is a text or messages that end with the user's, `response` a text, `reward` a number of any scale. A preference pair, in
any format of data.py (hh-rlhf among them), becomes two answers: the chosen one with reward 1, the rejected with -1. The
rows are what a behaviour policy did, so one that stands there twice counts twice.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from training.chat import answer_ids, prompt_ids
from training.counted import counted
from training.data import (
    PREFERENCE_FORMATS,
    Conversation,
    Data,
    Preference,
    as_preference,
    is_messages,
    load_rows,
    plain,
    replaced,
)
from training.errors import UsageError
from training.recipe import DataSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Rewarded(Conversation):
    """An answer and what it was worth."""

    response: str
    reward: float
    repeats_count: ClassVar[bool] = True

    def flaw(self) -> str | None:
        return None if self.response.strip() else "empty answer"


class Transitions(NamedTuple):
    """A rewarded answer as token ids."""

    prompt: list[int]
    answer: list[int]  # with the end-of-turn token
    reward: float


class Batch(NamedTuple):
    """Answers in one rectangle: prompts padded on the left to P, answers on the right to T."""

    input_ids: Tensor  # (B, P+T)
    attention_mask: Tensor  # (B, P+T)
    mask: Tensor  # (B, T) bool, True on the answer's tokens
    rewards: Tensor  # (B,) float32

    @property
    def actions(self) -> Tensor:
        """The answer's tokens, `(B, T)`."""
        return self.input_ids[:, -self.mask.shape[1] :]


def load_rewarded(settings: DataSettings, seed: int) -> Data:
    """Read rewarded answers; a pair becomes two, both trained on or both held out.

    Raises UsageError showing the first row of no known format.
    """
    formats = f"{{prompt, response, reward}} with a finite reward, {PREFERENCE_FORMATS}"
    data = load_rows(settings, seed, "preferences.jsonl", as_rewarded_or_pair, formats)
    return replaced(data, _apart(data.train), _apart(data.heldout))


def as_rewarded_or_pair(row: dict[str, Any]) -> Conversation | None:
    """The row as Rewarded or as a Preference, or None where it is in no known format."""
    if "response" not in row:
        return as_preference(row)
    prompt, response, reward = row.get("prompt"), row["response"], row.get("reward")
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if not is_messages(prompt) or prompt[-1]["role"] != "user" or not isinstance(response, str):
        return None
    if isinstance(reward, bool) or not isinstance(reward, int | float | str):
        return None
    try:
        number = float(reward)  # a table holds numbers as texts
    except ValueError:
        return None
    return Rewarded(plain(prompt), response, number) if math.isfinite(number) else None


def tokenize(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Rewarded], max_length: int
) -> tuple[list[Transitions], int]:
    """Each answer's tokens and reward, and how many were longer than `max_length` with their prompt."""
    found = [
        Transitions(prompt_ids(tokenizer, row.prompt), answer_ids(tokenizer, row.prompt, row.response), row.reward)
        for row in rows
    ]
    kept = [each for each in found if len(each.prompt) + len(each.answer) <= max_length]
    if rows and not kept:
        raise UsageError(
            f"every answer is longer than {max_length} tokens with its prompt",
            found=f"the shortest has {min(len(each.prompt) + len(each.answer) for each in found)}",
            next_step="raise max_length in the recipe",
        )
    return kept, len(found) - len(kept)


def scale_of(rows: Sequence[Transitions]) -> tuple[float, float]:
    """Mean and deviation of the rewards. Raises UsageError where all are the same: nothing tells good answers from bad."""
    rewards = [row.reward for row in rows]
    deviation = statistics.pstdev(rewards)
    if deviation == 0.0:
        raise UsageError(
            "all answers have the same reward, so there is nothing to tell good ones from bad",
            expected="rewards that differ",
            found=f"{counted(len(rewards), 'answer')} with reward {rewards[0]:g}",
            next_step="give data whose rewards differ",
        )
    return statistics.fmean(rewards), deviation


def scaled(rows: Sequence[Transitions], mean: float, deviation: float) -> list[Transitions]:
    """The rows with (reward - mean) / deviation for their rewards."""
    return [row._replace(reward=(row.reward - mean) / deviation) for row in rows]


def collate(rows: Sequence[Transitions], pad: int, device: torch.device | str = "cpu") -> Batch:
    """The rows as one rectangle, no wider than they need."""
    before, after = max(len(row.prompt) for row in rows), max(len(row.answer) for row in rows)
    ids, attention = [], []
    for row in rows:
        left, right = before - len(row.prompt), after - len(row.answer)
        ids.append([*[pad] * left, *row.prompt, *row.answer, *[pad] * right])
        attention.append([*[0] * left, *[1] * (len(row.prompt) + len(row.answer)), *[0] * right])
    attention_mask = torch.tensor(attention, device=device)
    return Batch(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=attention_mask,
        mask=attention_mask[:, before:].bool(),
        rewards=torch.tensor([row.reward for row in rows], device=device),
    )


def _apart(rows: Sequence[Conversation]) -> list[Rewarded]:
    """Every row as rewarded answers."""
    found = []
    for row in rows:
        if isinstance(row, Preference):
            found += [Rewarded(row.prompt, row.chosen, 1.0), Rewarded(row.prompt, row.rejected, -1.0)]
        elif isinstance(row, Rewarded):
            found.append(row)
    return found
