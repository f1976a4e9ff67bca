"""Data without a row is named, with the file and the way on, wherever it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.best_of_n_record import RECORD
from training.data import load_preferences, load_prompts
from training.errors import UsageError
from training.recipe import DataSettings


@pytest.mark.parametrize("content", ["", "\n\n"])
@pytest.mark.parametrize("load", [load_preferences, load_prompts])
def test_a_file_without_rows_is_named(load, content: str, tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError, match="there are no rows in this data") as refused:
        load(DataSettings(source=str(file)), 0)
    assert refused.value.where == str(file)
    assert "name other data in the recipe" in (refused.value.next_step or "")


def test_the_empty_file_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(UsageError, match="there are no rows in this data") as refused:
        load_preferences(DataSettings(source=str(tmp_path)), 0)
    assert refused.value.where == str(tmp_path / "train.jsonl")


def test_best_of_ns_preferences_say_why_there_are_none(tmp_path: Path) -> None:
    (tmp_path / "preferences.jsonl").write_text("")
    (tmp_path / RECORD).write_text("{}")
    with pytest.raises(UsageError, match="two whole answers of different rewards"):
        load_preferences(DataSettings(source=str(tmp_path / "preferences.jsonl")), 0)


def test_rows_that_are_all_left_out_are_counted_by_their_reasons(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "chosen": "b", "rejected": "b"}\n')
    with pytest.raises(UsageError, match="1 row read; 1 row left out as both answers are the same; 0 held out"):
        load_preferences(DataSettings(source=str(file)), 0)
    file.write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    with pytest.raises(UsageError, match=r"1 row read; 1 held out[\s\S]*lower heldout_fraction"):
        load_preferences(DataSettings(source=str(file), heldout_fraction=0.9), 0)
