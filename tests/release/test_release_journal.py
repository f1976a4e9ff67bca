"""The journal survives kills, and knows its plan and its Hub."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.earlier import Target, require_free
from release.journal import WITHDRAWN, Journal, exclusive
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


@pytest.mark.parametrize(
    "damage", [b'{"step": "sta\n', b"\xff\xfe\n", b"[]\n", b'{"step": "staged"}\n', b"\n", b'{"target": 1}\n']
)
def test_a_damaged_line_that_is_not_the_last_is_named_with_its_file_and_number(damage: bytes, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "sha256:a", "http://hub")
    journal.record("staged", commit="1")
    first = journal.path.read_bytes()
    if b"target" in damage:
        damage = first.replace(b"{", b'{"target": 1, ', 1)
    journal.path.write_bytes(first + damage + first)
    with pytest.raises(UsageError, match=r"journal\.jsonl, line 2"):
        journal.lines()
    with pytest.raises(UsageError, match=r"journal\.jsonl, line 2"):
        require_free(tmp_path, Target("http://hub", "me/mine", "v1", None))


def test_what_belongs_to_a_publication_ends_where_it_was_withdrawn(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl", "sha256:a", "http://hub")
    for step, commit in (("before", "1"), (WITHDRAWN, ""), ("before", "2"), ("before", "3")):
        journal.record(step, commit=commit)
    oldest, newest = journal.under_way("before"), journal.latest("before")
    assert oldest is not None
    assert newest is not None
    assert (oldest["commit"], newest["commit"]) == ("2", "3")
    journal.record(WITHDRAWN)
    assert journal.latest("before") is None
