"""What was answered is found again by content alone, and a torn file costs one batch."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from evals.answers import Answers
from evals.earlier_work import counting
from training.energy_record import Energy

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


def test_what_kept_answers_took_is_counted_once_and_what_this_command_computed_is_not(tmp_path: Path) -> None:
    def slowly() -> list[str]:
        time.sleep(0.02)
        return ["A"]

    Answers(tmp_path, "t", HERE).of(["a"], slowly)
    with counting() as earlier:
        for _ in range(2):  # the second time both batches lie there
            answers = Answers(tmp_path, "t", HERE)
            answers.of(["a"], slowly)
            answers.of(["b"], slowly)
            assert 0.02 <= earlier.seconds < 10
            assert len(earlier.used) == 1
    once = json.loads((tmp_path / answers.file.name).read_bytes().splitlines()[0])["seconds"]
    assert earlier.seconds == once


def test_answers_that_were_kept_without_their_time_add_none_but_leave_the_energy_unknown(tmp_path: Path) -> None:
    answers = Answers(tmp_path, "t", HERE)
    answers.of(["a"], lambda: ["A"])
    line = json.loads(answers.file.read_bytes())
    del line["seconds"]
    answers.file.write_text(json.dumps(line) + "\n")
    measured = Energy(kwh=0.5, parts=["processor"], estimate=False, method="counters")
    with counting() as earlier:
        assert earlier.with_own(measured) == measured
        Answers(tmp_path, "t", HERE).of(["a"], never)
    assert earlier.seconds == 0
    energy = earlier.with_own(measured)
    assert energy is not None
    assert energy.kwh is None
    assert "earlier command" in energy.method
    assert earlier.with_own(None) is None
