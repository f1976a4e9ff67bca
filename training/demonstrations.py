"""Answers to learn from one at a time: demonstrations for SFT, and answers marked good or bad for KTO.

Recognised for SFT: {prompt, completion}, each text or messages; {messages}, whose assistant's turns are learned; and preference
pairs in any format of data.py, whose chosen answer is the demonstration. For KTO: {prompt, completion, label}, as the chat Space
collects it from thumbs, and preference pairs, each of which is one good and one bad answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.data import (
    PREFERENCE_FORMATS,
    Conversation,
    Data,
    Messages,
    Preference,
    as_preference,
    is_messages,
    load_rows,
    plain,
    replaced,
)
from training.recipe import DataSettings

LABELS = {"true": True, "false": False, "1": True, "0": False}  # as JSON, a table or Python writes a truth value


@dataclass(frozen=True)
class Demonstration(Conversation):
    """`completion` begins with a turn of the assistant. What the assistant says in it is learned, the rest is read."""

    completion: Messages

    def flaw(self) -> str | None:
        answers = [message["content"] for message in self.completion if message["role"] == "assistant"]
        return None if all(answer.strip() for answer in answers) else "empty answer"


@dataclass(frozen=True)
class Feedback(Conversation):
    """An answer and whether it was good."""

    completion: str
    label: bool

    def flaw(self) -> str | None:
        return None if self.completion.strip() else "empty answer"


def load_demonstrations(settings: DataSettings, seed: int) -> Data:
    """Read demonstrations. Raises UsageError showing the first row of no known format."""
    formats = f"{{prompt, completion}}, {{messages}}, {PREFERENCE_FORMATS}"
    return load_rows(settings, seed, "preferences.jsonl", as_demonstration, formats)


def load_feedback(settings: DataSettings, seed: int) -> Data:
    """Read marked answers; a pair becomes two, both trained on or both held out.

    Raises UsageError showing the first row of no known format.
    """
    formats = f"{{prompt, completion, label}} with label true or false, {PREFERENCE_FORMATS}"
    data = load_rows(settings, seed, "preferences.jsonl", as_feedback_or_pair, formats)
    return replaced(data, _apart(data.train), _apart(data.heldout))


def as_demonstration(row: dict[str, Any]) -> Demonstration | None:
    """The row as a demonstration, or None where it is in no known format."""
    if "completion" in row:
        answered = _prompt_and_completion(row)
        return Demonstration(*answered) if answered else None
    messages = row.get("messages")
    if is_messages(messages):
        turns = plain(messages)
        roles = [message["role"] for message in turns]
        if "assistant" not in roles:
            return None
        first, last = roles.index("assistant"), len(roles) - roles[::-1].index("assistant")
        # What follows the last answer teaches nothing.
        return Demonstration(turns[:first], turns[first:last]) if first and roles[first - 1] == "user" else None
    pair = as_preference(row)
    return Demonstration(pair.prompt, [{"role": "assistant", "content": pair.chosen}]) if pair else None


def as_feedback_or_pair(row: dict[str, Any]) -> Conversation | None:
    """The row as Feedback or as a Preference, or None where it is in no known format."""
    if "completion" not in row:
        return as_preference(row)
    answered = _prompt_and_completion(row)
    label = LABELS.get(str(row.get("label")).strip().lower())
    if answered is None or len(answered[1]) != 1 or label is None:
        return None
    return Feedback(answered[0], answered[1][0]["content"], label)


def _prompt_and_completion(row: dict[str, Any]) -> tuple[Messages, Messages] | None:
    prompt, completion = row.get("prompt"), row["completion"]
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    if isinstance(completion, str):
        completion = [{"role": "assistant", "content": completion}]
    if not (is_messages(prompt) and is_messages(completion)):
        return None
    if prompt[-1]["role"] != "user" or completion[0]["role"] != "assistant" or completion[-1]["role"] != "assistant":
        return None
    return plain(prompt), plain(completion)


def _apart(rows: list[Conversation]) -> list[Feedback]:
    """Every row as marked answers."""
    found = []
    for row in rows:
        if isinstance(row, Preference):
            found += [Feedback(row.prompt, row.chosen, True), Feedback(row.prompt, row.rejected, False)]
        elif isinstance(row, Feedback):
            found.append(row)
    return found
