"""Thumbs of a chat Space: which count, and what they become."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.__main__ import main
from training.demonstrations import load_feedback
from training.feedback_record import FeedbackRecord, feedback_source
from training.recipe import DataSettings


def thumb(number: int, label: bool | None, **changes: Any) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "vote_id": f"thumb-{number:04}",
        "prompt": [{"role": "user", "content": f"Question {number}?"}],
        "completion": [{"role": "assistant", "content": "An answer."}],
        "label": label,
        "maker": {"repo_id": "org/name", "revision": "0" * 40, "digest": "sha256:" + "1" * 64},
        "sampling": {"temperature": 0.7, "top_p": 0.9, "max_new_tokens": 64},
        "seed": None,
        "runtime": "llama.cpp",
        "seconds": 0.5,
        "labeller": "a" * 64,
        "labeller_kind": "person",
        "consent": "sha256:notice",
        "voted_at": f"2026-11-28T10:00:{number:02}.000+00:00",
        **changes,
    }


def write(folder: Path, rows: list[dict[str, Any]], end: str = "") -> Path:
    (folder / "votes").mkdir(parents=True)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "votes" / "20261128T100000-00000000.jsonl").write_text(lines + end)
    return folder


def test_the_last_thumb_on_an_answer_counts_and_none_that_was_taken_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"prompt": [{"role": "user", "content": "Question 1?"}]}
    rows = [thumb(1, True), thumb(2, True), thumb(3, False, **first), thumb(4, True), thumb(5, None, **first)]
    rows += [thumb(6, False), thumb(7, True, consent=None), thumb(8, True, labeller="b" * 64), thumb(6, False)]
    rows += [thumb(9, True, labeller="c" * 64)]
    folder = write(tmp_path / "thumbs", rows, end='{"vote_id": "cut o')
    (folder / "forgotten.json").write_text(json.dumps(["b" * 64]))
    out = tmp_path / "out"
    assert main(["feedback-thumbs", str(folder), "--out", str(out), "--heldout-fraction", "0.25"]) == 0
    assert "3 thumbs up and 1 down by 2 visits" in capsys.readouterr().out
    record = FeedbackRecord.read(out / "feedback.json")
    assert record.why_excluded == {
        "a repeat of its id": 1,
        "changed by a later one": 2,
        "line cut off by a kill": 1,
        "no consent": 1,
        "taken back": 1,
        "the labeller asked to be forgotten": 1,
    }
    data = load_feedback(DataSettings(source=str(out / "kto"), heldout_split="test"), 0)
    assert (len(data.train), len(data.heldout)) == (3, 1)
    behind = feedback_source(out / "kto")
    assert behind is not None
    assert (behind.votes, behind.people, behind.scripts, behind.alpha) == (4, 2, 0, None)


def test_one_visit_counts_up_to_a_cap_and_a_line_that_is_no_thumb_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write(tmp_path / "many", [thumb(number, True) for number in range(5)])
    assert main(["feedback-thumbs", str(folder), "--out", str(tmp_path / "out"), "--cap", "2"]) == 0
    record = FeedbackRecord.read(tmp_path / "out" / "feedback.json")
    assert (record.votes, record.why_excluded) == (2, {"beyond the cap of one visit": 3})
    folder = write(tmp_path / "bad", [thumb(1, True), {**thumb(2, True), "label": "maybe"}])
    assert main(["feedback-thumbs", str(folder), "--out", str(tmp_path / "none")]) == 2
    assert "line 2, field label" in capsys.readouterr().err
