"""What was answered is found again by content alone, and a torn file costs one batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evals.answers import Answers

HERE = {"checkpoint": "sha256:1", "dtype": "bfloat16"}


def never() -> list[Any]:
    raise AssertionError("computed again")


def test_a_batch_is_computed_once_and_then_read(tmp_path: Path) -> None:
    assert Answers(tmp_path, "t", HERE).of(["a", "b"], lambda: [1, [2.5, "é"]]) == [1, [2.5, "é"]]
    again = Answers(tmp_path, "t", HERE)
    assert again.has(["a", "b"])
    assert again.of(["a", "b"], never) == [1, [2.5, "é"]]


def test_other_contents_or_circumstances_find_nothing(tmp_path: Path) -> None:
    Answers(tmp_path, "t", HERE).of(["a", "b"], lambda: [1, 2])
    assert not Answers(tmp_path, "t", HERE).has(["b", "a"])
    assert not Answers(tmp_path, "t", HERE).has(["a"])
    assert not Answers(tmp_path, "t", {**HERE, "checkpoint": "sha256:2"}).has(["a", "b"])
    assert not Answers(tmp_path, "t", {**HERE, "dtype": "float32"}).has(["a", "b"])


def test_a_line_torn_by_a_kill_is_computed_again_and_spoils_no_other(tmp_path: Path) -> None:
    answers = Answers(tmp_path, "t", HERE)
    for letter in "abc":
        answers.of([letter], lambda letter=letter: [letter.upper()])
    answers.file.write_bytes(answers.file.read_bytes()[:-9])
    after = Answers(tmp_path, "t", HERE)
    assert [after.has([letter]) for letter in "abc"] == [True, True, False]
    after.of(["c"], lambda: ["C"])
    assert all(Answers(tmp_path, "t", HERE).has([letter]) for letter in "abc")


def test_an_answer_missing_from_a_batch_is_an_error_and_is_not_kept(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 requests got 1 answers"):
        Answers(tmp_path, "t", HERE).of(["a", "b"], lambda: [1])
    assert not Answers(tmp_path, "t", HERE).has(["a", "b"])
