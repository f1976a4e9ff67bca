"""The starter set that ships with the package: big enough, clean, and not to be learnt by counting words."""

import json
import re
from collections import Counter
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

import training.starter

FOLDER = Path(training.starter.__file__).parent
SHORTEST_ANSWER, LONGEST_ANSWER = 10, 70  # words
SHORTEST_PROMPT, LONGEST_PROMPT = 5, 40  # words of a prompt in prompts.jsonl
LONGEST_CONVERSATION = 80  # words of prompt and answer together, for sequences of some 128 tokens
RUN = 5  # words in a row that make two prompts suspiciously alike


def rows(name: str) -> list[dict[str, Any]]:
    text = (FOLDER / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def words(text: str) -> int:
    return len(text.split())


def said(messages: list[dict[str, str]]) -> str:
    """What a prompt asks, compared without case, punctuation or spacing."""
    return " ".join(re.findall(r"\w+", " ".join(message["content"] for message in messages).lower()))


def runs(text: str) -> set[tuple[str, ...]]:
    parts = text.split()
    return {tuple(parts[i : i + RUN]) for i in range(len(parts) - RUN + 1)}


@pytest.fixture(scope="module")
def pairs() -> list[dict[str, Any]]:
    return rows("preferences.jsonl")


@pytest.fixture(scope="module")
def prompts() -> list[dict[str, Any]]:
    return rows("prompts.jsonl")


def answer_lengths(pairs: list[dict[str, Any]]) -> list[tuple[int, int]]:
    return [(words(pair["chosen"][0]["content"]), words(pair["rejected"][0]["content"])) for pair in pairs]


def test_it_holds_at_least_240_pairs_and_260_prompts(pairs, prompts):
    assert len(pairs) >= 240
    assert len(prompts) >= 260


def test_the_prompts_are_split_into_220_to_train_on_and_40_held_out(prompts):
    assert Counter(prompt["split"] for prompt in prompts) == {"train": 220, "heldout": 40}


def test_every_topic_of_the_prompts_is_in_both_splits(prompts):
    train = {prompt["topic"] for prompt in prompts if prompt["split"] == "train"}
    assert {prompt["topic"] for prompt in prompts if prompt["split"] == "heldout"} == train


def test_every_row_has_just_its_columns(pairs, prompts):
    assert {frozenset(pair) for pair in pairs} == {frozenset({"id", "topic", "prompt", "chosen", "rejected", "why"})}
    assert {frozenset(prompt) for prompt in prompts} == {frozenset({"id", "topic", "prompt", "split"})}
    assert all(pair["topic"].strip() and pair["why"].strip() for pair in pairs)
    assert all(prompt["topic"].strip() for prompt in prompts)


def test_ids_are_unique_and_in_order(pairs, prompts):
    assert [pair["id"] for pair in pairs] == [f"pref-{n:03}" for n in range(1, len(pairs) + 1)]
    assert [prompt["id"] for prompt in prompts] == [f"prompt-{n:03}" for n in range(1, len(prompts) + 1)]


def test_a_prompt_alternates_between_user_and_assistant_and_ends_with_the_user(pairs, prompts):
    for row in [*pairs, *prompts]:
        roles = [message["role"] for message in row["prompt"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2) + ["user"], row["id"]
        assert all(set(message) == {"role", "content"} for message in row["prompt"]), row["id"]


def test_an_answer_is_one_message_of_the_assistant(pairs):
    for pair in pairs:
        for side in ("chosen", "rejected"):
            assert [message["role"] for message in pair[side]] == ["assistant"], pair["id"]


def test_some_prompts_continue_a_conversation(pairs):
    assert sum(len(pair["prompt"]) > 1 for pair in pairs) >= 15


def test_no_text_is_empty_or_padded_with_space(pairs, prompts):
    for row in [*pairs, *prompts]:
        for message in [*row["prompt"], *row.get("chosen", []), *row.get("rejected", [])]:
            assert message["content"], row["id"]
            assert message["content"] == message["content"].strip(), row["id"]


def test_no_prompt_is_asked_twice_within_a_file_or_across_the_two(pairs, prompts):
    asked = Counter(said(row["prompt"]) for row in [*pairs, *prompts])
    assert [text for text, times in asked.items() if times > 1] == []


def test_no_two_prompts_share_more_than_two_runs_of_five_words(pairs, prompts):
    found = [(row["id"], runs(said(row["prompt"]))) for row in [*pairs, *prompts]]
    assert [(one, other) for (one, a), (other, b) in combinations(found, 2) if len(a & b) > 2] == []


def test_no_answer_is_given_twice(pairs):
    answers = Counter(said(pair[side]) for pair in pairs for side in ("chosen", "rejected"))
    assert [text for text, times in answers.items() if times > 1] == []


def test_answers_are_short_but_say_something(pairs):
    for pair, lengths in zip(pairs, answer_lengths(pairs), strict=True):
        assert all(SHORTEST_ANSWER <= length <= LONGEST_ANSWER for length in lengths), pair["id"]


def test_a_prompt_with_its_longer_answer_stays_short(pairs):
    for pair, lengths in zip(pairs, answer_lengths(pairs), strict=True):
        asked = sum(words(message["content"]) for message in pair["prompt"])
        assert asked + max(lengths) <= LONGEST_CONVERSATION, pair["id"]


def test_prompts_to_answer_have_5_to_40_words(prompts):
    for prompt in prompts:
        assert SHORTEST_PROMPT <= words(prompt["prompt"][-1]["content"]) <= LONGEST_PROMPT, prompt["id"]


def test_the_chosen_answer_is_the_longer_one_about_half_of_the_time(pairs):
    longer = sum(chosen > rejected for chosen, rejected in answer_lengths(pairs))
    assert 0.45 <= longer / len(pairs) <= 0.60


def test_no_favourite_length_tells_chosen_from_rejected(pairs):
    """'Prefer the answer whose length is nearest to n words' is near a coin flip, for every n and for its opposite."""
    lengths = answer_lengths(pairs)
    for n in range(SHORTEST_ANSWER, LONGEST_ANSWER + 1):
        nearer = [(abs(chosen - n), abs(rejected - n)) for chosen, rejected in lengths]
        right = sum(1.0 if chosen < rejected else 0.5 if chosen == rejected else 0.0 for chosen, rejected in nearer)
        assert 0.40 <= right / len(pairs) <= 0.60, n
