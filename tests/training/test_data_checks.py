"""Nothing is learned twice, and nothing is measured on that was trained on; what was left out is told and recorded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.data import Prompt, load_preferences, load_prompts
from training.data_checks import hold_out, normalised, prompt_key
from training.errors import UsageError
from training.ilql_data import load_rewarded
from training.recipe import DataSettings
from training.row_lengths import cut_prompt


def pair(prompt: str, chosen: str = "yes", rejected: str = "no") -> dict[str, str]:
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def prompts(*texts: str) -> list[Prompt]:
    return [Prompt([{"role": "user", "content": text}]) for text in texts]


def splits(folder: Path, train: list[dict[str, Any]], test: list[dict[str, Any]]) -> DataSettings:
    for name, rows in (("train", train), ("test", test)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSettings(source=str(folder), heldout_split="test")


def test_a_repeat_may_differ_in_case_spaces_and_forms_of_letters(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [pair("Où est-il?"), pair("ou\u0300  EST-IL?"), pair("Où est-il?", chosen="here")]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_preferences(DataSettings(source=str(file), heldout_fraction=0.0), seed=0)
    assert data.source.why_dropped == {"repeat but for case and spaces": 1}
    assert data.source.rows == 2  # another answer to the same prompt is no repeat
    assert normalised("A\u00a0 b\n") == "a b"


@pytest.mark.parametrize(
    "written",
    [
        "What\u2019s the \u201ccapital\u201d \u2013 now?",
        'What\'s\u00a0the "cap\u00adital" - now?\ufeff',
        'Wh\u200ba\u200dt\'s the "capital" \u2014 now?',
        "\uff37hat\u00b4s the \u00abcapital\u00bb \u2011 now\uff1f",
    ],
)
def test_a_prompts_copy_in_other_quotes_or_with_invisible_characters_is_no_measurement_and_stays_as_it_was_written(
    tmp_path: Path, written: str
) -> None:
    plain = 'What\'s the "capital" - now?'
    settings = splits(tmp_path, [pair(plain)], [pair(written), pair("Another one?")])
    data = load_preferences(settings, seed=0)
    assert [row.prompt[0]["content"] for row in data.heldout] == ["Another one?"]
    swapped = splits(tmp_path, [pair(written), pair(plain)], [pair("Another one?")])
    data = load_preferences(swapped, seed=0)
    assert [row.prompt[0]["content"] for row in data.train] == [written]
    assert data.source.why_dropped == {"repeat but for case and spaces": 1}


def test_texts_that_differ_in_what_people_see_are_no_copies() -> None:
    assert len({normalised(text) for text in ("don't", "dont", "don\u2019t!", '"don"t', "do n't", "d\u00f6n't")}) == 6


def test_held_out_rows_whose_prompt_is_trained_on_are_left_out_and_counted(tmp_path: Path) -> None:
    settings = splits(tmp_path, [pair("a"), pair("b")], [pair("A ", chosen="other"), pair("c")])
    data = load_preferences(settings, seed=0)
    assert [row.prompt[0]["content"] for row in data.heldout] == ["c"]
    assert data.source.why_dropped == {"its prompt is trained on": 1}
    assert (data.source.rows, data.source.heldout_rows) == (2, 1)


def test_a_prompt_beyond_the_limit_is_not_trained_on_and_stays_held_out(tmp_path: Path) -> None:
    settings = splits(tmp_path, [pair("a"), pair("b")], [pair("b"), pair("c")]).model_copy(update={"limit": 1})
    assert len(load_preferences(settings, seed=0).heldout) == 2


def test_nothing_left_to_measure_on_is_an_error_unless_the_same_split_is_meant(tmp_path: Path) -> None:
    settings = splits(tmp_path, [pair("a"), pair("b")], [pair("b")])
    with pytest.raises(UsageError, match="nothing to measure on"):
        load_preferences(settings, seed=0)
    meant = settings.model_copy(update={"heldout_split": "train"})
    assert len(load_prompts(meant, seed=0).heldout) == 2


def test_rows_of_one_prompt_or_one_opening_stay_on_one_side() -> None:
    rows = prompts("a", "b", "c", "a", "d", "b")
    train, heldout = hold_out(rows, 2, "prompt")
    assert heldout == [rows[1], rows[5]]
    assert train == [rows[0], rows[2], rows[3], rows[4]]
    longer = Prompt([*rows[0].prompt, {"role": "assistant", "content": "x"}, {"role": "user", "content": "y"}])
    assert prompt_key(longer, "opening") == prompt_key(rows[0], "opening")
    assert prompt_key(longer, "prompt") != prompt_key(rows[0], "prompt")


def test_where_every_prompt_stands_once_the_last_rows_are_held_out() -> None:
    rows = prompts(*"abcdef")
    assert hold_out(rows, 2, "prompt") == (rows[:4], rows[4:])
    assert hold_out(rows, 0, "opening") == (rows, [])


def test_what_a_behaviour_policy_did_may_repeat_and_no_prompt_of_it_is_both_trained_on_and_held_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"q{n % 20}", "response": f"a{n % 60}", "reward": n % 3} for n in range(150)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_rewarded(DataSettings(source=str(file), heldout_fraction=0.2), seed=0)
    asked = [{prompt_key(row, "prompt") for row in part} for part in (data.train, data.heldout)]
    assert not asked[0] & asked[1]
    assert len(data.train) + len(data.heldout) == 150, "repeats count"
    assert 20 < len(data.heldout) <= 30
    load_rewarded(DataSettings(source=str(file), heldout_fraction=0.02), seed=0)
    assert "nothing is held out" in capsys.readouterr().err


def test_held_out_answers_to_a_prompt_that_is_trained_on_are_left_out_also_where_rows_may_repeat(
    tmp_path: Path,
) -> None:
    def answer(prompt: str, response: str) -> dict[str, Any]:
        return {"prompt": prompt, "response": response, "reward": 1}

    settings = splits(
        tmp_path, [answer("a", "b"), answer("a", "b")], [answer("A", "c"), answer("d", "e"), answer("d", "e")]
    )
    data = load_rewarded(settings, seed=0)
    assert (len(data.train), len(data.heldout)) == (2, 2)
    assert data.source.why_dropped == {"its prompt is trained on": 1}


def test_the_data_are_shown_before_they_are_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [pair("Why?", chosen="So " * 40), pair("Why?", chosen="So " * 40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    load_preferences(DataSettings(source=str(file), heldout_fraction=0.0), seed=0)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for part in (
        "{prompt, chosen, rejected} as text",
        "1 row to train on",
        "1 exact repeat",
        '"Why?"',
        "So So",
        "...",
    ):
        assert part in line


def test_a_long_conversation_loses_its_oldest_turns_and_no_more() -> None:
    def turns(*texts: str) -> list[dict[str, str]]:
        roles = ("user", "assistant")
        return [{"role": roles[index % 2], "content": text} for index, text in enumerate(texts)]

    system = {"role": "system", "content": "s"}
    whole = [system, *turns("a", "b", "c", "d", "e")]
    assert cut_prompt(whole, lambda prompt: len(prompt) <= 6) == whole
    assert cut_prompt(whole, lambda prompt: len(prompt) <= 4) == [system, *turns("c", "d", "e")]
    assert cut_prompt(whole, lambda prompt: len(prompt) <= 1) == [system, *turns("e")]
