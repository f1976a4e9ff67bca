"""Demonstrations and marked answers are recognised in every format that people have, and only answers are learned."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.chat import UNLEARNED, answer_sequence, demonstration_ids
from training.data import Preference
from training.demonstrations import Feedback, as_demonstration, as_feedback_or_pair, load_demonstrations, load_feedback
from training.kto import in_rounds
from training.recipe import DataSettings

USER = [{"role": "user", "content": "Hi"}]
HELLO = [{"role": "assistant", "content": "Hello!"}]
ROWS = {
    "text": {"prompt": "Hi", "completion": "Hello!"},
    "messages": {"prompt": USER, "completion": HELLO},
    "a conversation": {"messages": [*USER, *HELLO]},
    "a conversation that goes on": {"messages": [*USER, *HELLO, {"role": "user", "content": "Bye"}]},
    "a pair": {"prompt": "Hi", "chosen": "Hello!", "rejected": "Go away."},
    "hh-rlhf": {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: Go."},
}


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_every_known_format_gives_the_same_demonstration(row: dict) -> None:
    found = as_demonstration(row)
    assert found is not None
    assert (found.prompt, found.completion) == (USER, HELLO)


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "completion": 3},
        {"prompt": HELLO, "completion": "Hi"},
        {"messages": USER},
        {"messages": HELLO},
        {"text": "Hi"},
    ],
)
def test_a_row_without_an_answer_to_someone_is_no_demonstration(row: dict) -> None:
    assert as_demonstration(row) is None


def test_all_that_the_assistant_says_after_the_prompt_is_learned_and_nothing_else(tokenizer) -> None:
    more = [{"role": "user", "content": "And?"}, {"role": "assistant", "content": "Well."}]
    ids, labels = demonstration_ids(tokenizer, USER, [*HELLO, *more])
    assert len(ids) == len(labels)
    assert all(label in (UNLEARNED, token) for token, label in zip(ids, labels, strict=True))
    learned = tokenizer.decode([label for label in labels if label != UNLEARNED])
    assert learned == "Hello!<|im_end|>Well.<|im_end|>"
    whole = tokenizer.apply_chat_template([*USER, *HELLO, *more], tokenize=False)
    assert tokenizer.decode(ids) == whole.rstrip("\n")


def test_one_answer_is_what_preferences_are_made_of(tokenizer) -> None:
    ids, labels = answer_sequence(tokenizer, USER, "Hello!")
    assert (ids, labels) == demonstration_ids(tokenizer, USER, HELLO)


def test_marked_answers_are_read_and_other_marks_are_not() -> None:
    row = {"prompt": "Hi", "completion": "Hello!", "label": True}
    assert as_feedback_or_pair(row) == Feedback(USER, "Hello!", True)
    assert as_feedback_or_pair({**row, "completion": HELLO, "label": False}) == Feedback(USER, "Hello!", False)
    for label in (2, "yes", None):
        assert as_feedback_or_pair({**row, "label": label}) is None
    assert isinstance(as_feedback_or_pair(ROWS["hh-rlhf"]), Preference)


def test_a_pair_is_one_good_and_one_bad_answer_on_the_same_side_of_the_split() -> None:
    data = load_feedback(DataSettings(source="starter"), seed=0)
    assert data.source.rows == len(data.train) == 2 * 225
    assert sum(row.label for row in data.train) == 225
    train = {str(row.prompt) for row in data.train}
    assert not train & {str(row.prompt) for row in data.heldout}


def test_empty_answers_are_dropped_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": "Hi", "completion": "Hello!"}, {"prompt": "Ho", "completion": " "}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_demonstrations(DataSettings(source=str(file), heldout_fraction=0.0), seed=0)
    assert (data.source.rows, data.source.why_dropped) == (1, {"empty answer": 1})


def test_kto_reads_answers_to_one_prompt_far_apart() -> None:
    data = load_feedback(DataSettings(source="starter"), seed=0)
    rows = in_rounds(data.train, seed=1)
    assert sorted(map(str, rows)) == sorted(map(str, data.train))
    assert rows != in_rounds(data.train, seed=2)
    half = len(rows) // 2
    assert len({str(row.prompt) for row in rows[:half]}) == half
    assert 0.35 < sum(row.label for row in rows[:half]) / half < 0.65
