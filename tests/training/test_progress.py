"""Progress in a file: a line now and then, however many steps there are, and never one that says nothing."""

from __future__ import annotations

import pytest

from training import progress
from training.progress import EVERY, Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_many_quick_steps_are_a_line_now_and_then(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("answers", total=100) as bar:
        for _ in range(100):
            clock[0] += EVERY / 40
            bar.advance()
    assert capsys.readouterr().err.splitlines() == [
        "answers 40/100  15 s left",
        "answers 80/100  5 s left",
        "answers 100/100  done",
    ]


def test_what_is_done_at_once_says_nothing_but_a_note(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("answers", total=1) as bar:
        bar.advance()
    assert capsys.readouterr().err == ""
    with Progress("sft", total=2) as bar:
        bar.advance("loss 2.000")
        bar.advance("loss 1.000")
    assert capsys.readouterr().err == "sft 2/2  loss 1.000  done\n"


def test_slow_steps_are_a_line_each(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("ppo", total=3) as bar:
        for number in range(3):
            clock[0] += 2 * EVERY
            bar.advance(f"reward {number}")
    assert [line.split("  ")[1] for line in capsys.readouterr().err.splitlines()] == [
        "reward 0",
        "reward 1",
        "reward 2",
    ]
