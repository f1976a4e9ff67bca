"""The journal survives kills, and knows its plan and its Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.journal import Journal, exclusive
from training.errors import UsageError


def test_a_line_that_a_kill_has_torn_is_dropped_and_overwritten(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "sha256:a", "http://hub")
    journal.record("staged", commit="1")
    with journal.path.open("ab") as file:
        file.write(b'{"step": "promo')
    assert [line["step"] for line in journal.lines()] == ["staged"]
    journal.record("checked", commit="1")
    assert [line["step"] for line in journal.lines()] == ["staged", "checked"]


def test_lines_of_another_plan_or_hub_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path, "sha256:a", "http://hub").record("staged", commit="1")
    assert Journal(path, "sha256:b", "http://hub").find("staged") is None
    assert Journal(path, "sha256:a", "http://other").find("staged") is None
    line = Journal(path, "sha256:a", "http://hub").find("staged")
    assert line is not None
    assert line["commit"] == "1"


def test_two_publications_of_one_run_at_once_are_refused(tmp_path: Path) -> None:
    with exclusive(tmp_path), pytest.raises(UsageError, match="another process"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass
