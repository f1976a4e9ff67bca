"""docs/security.md names tests that there are."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = {"The embedded Hub": ROOT / "tests/release/local_hub", "Releases": ROOT / "tests/release"}


def test_every_attack_of_the_table_has_its_test() -> None:
    for section, rows in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", _table(), re.DOTALL | re.MULTILINE):
        for row in (line for line in rows.splitlines() if line.startswith("| ") and "where (" not in line):
            where = row.rsplit("|", 2)[1]
            named = re.findall(r"`(test_\w+\.py)`(?:, `([^`/.]+)`)?", where)
            assert named, row
            for file, words in named:
                tests = " ".join(re.findall(r"def (test_\w+)", (TESTS[section] / file).read_text(encoding="utf-8")))
                assert tests
                assert [word for word in words.split(" or ") if word and word not in tests] == [], (file, row)


def test_the_command_above_the_table_runs_files_that_there_are() -> None:
    files = re.findall(r"tests/\S+\.py", _table().partition("## The embedded Hub")[0])
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []


def _table() -> str:
    return (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
