"""Columns of other tools are recognised and named, and of rated answers the best and the worst are the pair."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from training.data import load_preferences, load_prompts
from training.data_formats import RATED_ALIKE, TOO_FEW, best_and_worst, in_known_columns, native_format
from training.demonstrations import load_demonstrations
from training.errors import UsageError
from training.recipe import DataSettings

USER = [{"role": "user", "content": "Hi"}]


def ultrafeedback(*ratings: str) -> dict[str, Any]:
    """A row of openbmb/UltraFeedback with an answer for each rating; the answer is called by it."""
    return {
        "source": "evol_instruct",
        "instruction": "Hi",
        "models": ["m"] * len(ratings),
        "completions": [
            {
                "model": "m",
                "response": f"Answer {rating}",
                "overall_score": 10.0,  # of all, whatever the aspects say
                "annotations": {
                    "helpfulness": {"Rating": rating, "Rationale": "so"},
                    "honesty": {"Rating": "N/A", "Rationale": "so"},
                },
            }
            for rating in ratings
        ],
    }


PAIRS = {
    "UltraFeedback {instruction, completions}": ultrafeedback("3", "5", "1"),
    "Argilla {instruction, chosen_response, rejected_response}": {
        "source": "s",
        "instruction": "Hi",
        "chosen_response": "Answer 5",
        "rejected_response": "Answer 1",
        "chosen_avg_rating": 5.0,
    },
    "distilabel {instruction, generations, ratings}": {
        "input": "Hi",
        "generations": ["Answer 3", "Answer 1", "Answer 5"],
        "ratings": [3.0, 1.0, 5.0],
    },
    "Orca pairs {system, question, chosen, rejected}": {
        "system": "",
        "question": "Hi",
        "chosen": "Answer 5",
        "rejected": "Answer 1",
    },
    # HuggingFaceH4/ultrafeedback_binarized: the prompt as text beside whole conversations
    "{prompt, chosen, rejected, messages} as messages": {
        "prompt": "Hi",
        "prompt_id": "0f",
        "chosen": [*USER, {"role": "assistant", "content": "Answer 5"}],
        "rejected": [*USER, {"role": "assistant", "content": "Answer 1"}],
        "messages": [*USER, {"role": "assistant", "content": "Answer 5"}],
        "score_chosen": 9.0,
    },
}


def written(folder: Path, *rows: dict[str, Any]) -> DataSettings:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSettings(source=str(file), heldout_fraction=0.0)


@pytest.mark.parametrize(("name", "row"), PAIRS.items(), ids=PAIRS.keys())
def test_a_pair_in_other_columns_is_read_and_its_format_named(tmp_path: Path, name: str, row: dict[str, Any]) -> None:
    data = load_preferences(written(tmp_path, row), seed=0)
    pair = data.train[0]
    assert (pair.prompt, pair.chosen, pair.rejected) == (USER, "Answer 5", "Answer 1")
    assert (data.source.formats, data.source.columns) == ({name: 1}, list(row))
    assert load_prompts(written(tmp_path, row), seed=0).train[0].prompt == USER
    assert load_demonstrations(written(tmp_path, row), seed=0).train[0].completion[-1]["content"] == "Answer 5"


def test_demonstrations_of_other_tools_are_read(tmp_path: Path) -> None:
    rows = [
        {"question": "What is 2 + 2?", "answer": "4"},
        {"instruction": "Add.", "input": "2 + 2", "output": "4"},
        {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]},
    ]
    data = load_demonstrations(written(tmp_path, *rows), seed=0)
    assert {row.prompt[0]["content"] for row in data.train} == {"What is 2 + 2?", "Add.\n\n2 + 2", "2 + 2?"}
    assert all(row.completion == [{"role": "assistant", "content": "4"}] for row in data.train)
    assert len(data.source.formats) == 3


def test_a_system_message_of_a_column_goes_first() -> None:
    row = {"system": "Be brief.", "question": "Hi", "chosen": "a", "rejected": "b"}
    found = in_known_columns(row)
    assert found is not None
    assert isinstance(found[1], dict)
    assert found[1]["prompt"] == [{"role": "system", "content": "Be brief."}, *USER]


def test_answers_that_are_rated_alike_or_not_at_all_make_no_pair_and_are_counted(tmp_path: Path) -> None:
    rows = [ultrafeedback("5", "1"), ultrafeedback("4", "4"), ultrafeedback("N/A", "3")]
    data = load_preferences(written(tmp_path, *rows), seed=0)
    assert data.source.rows == 1
    assert data.source.why_dropped == {RATED_ALIKE: 1, TOO_FEW: 1}


def test_the_first_of_equally_good_answers_is_the_best() -> None:
    assert best_and_worst(["a", "b", "c", "d"], [1.0, 5.0, 5.0, 1.0]) == ("b", "a")


def test_formats_that_are_read_as_they_are_have_names() -> None:
    assert native_format({"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": ""}).startswith("hh-rlhf")
    assert native_format({"prompt": "a", "completion": "b", "label": True}) == "{prompt, completion, label} as text"


def test_generations_without_as_many_ratings_are_of_no_format(tmp_path: Path) -> None:
    row = {"instruction": "Hi", "generations": ["a", "b"], "ratings": [1.0]}
    with pytest.raises(UsageError, match=r"no known format[\s\S]*generations"):
        load_preferences(written(tmp_path, row), seed=0)
