"""The starter suite's items: sizes, schemas, no overlap with official data or training data."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "evals" / "tasks" / "data"
OFFICIAL = ROOT.parent / "shared" / "data"
TRAINING = ROOT / "training" / "starter"
RUN_LENGTH = 8


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


TRUTHFULNESS = read(DATA / "starter_truthfulness.jsonl")
TOXICITY = read(DATA / "starter_toxicity.jsonl")
INSTRUCTIONS = read(DATA / "starter_instructions.jsonl")
HELPFULNESS = read(DATA / "starter_helpfulness_prompts.jsonl")


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def word_runs(text: str) -> set[tuple[str, ...]]:
    found = words(text)
    return {tuple(found[i : i + RUN_LENGTH]) for i in range(len(found) - RUN_LENGTH + 1)}


def strings(value: Any) -> Iterator[str]:
    """Every string inside a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def written_texts() -> list[str]:
    """All that a model is shown or scored on; sources, ids and keyword arguments are not among it."""
    texts: list[str] = []
    for row in TRUTHFULNESS:
        texts += [row["question"], *row["mc2_targets"]["choices"]]
    texts += [row["prompt"]["text"] for row in TOXICITY]
    texts += [row["prompt"] for row in INSTRUCTIONS + HELPFULNESS]
    return texts


def questions() -> list[str]:
    """One text for each item: its question, beginning, instruction or prompt."""
    return [
        *(row["question"] for row in TRUTHFULNESS),
        *(row["prompt"]["text"] for row in TOXICITY),
        *(row["prompt"] for row in INSTRUCTIONS + HELPFULNESS),
    ]


def test_sizes() -> None:
    assert len(TRUTHFULNESS) >= 70
    assert len(TOXICITY) >= 64
    assert len(INSTRUCTIONS) >= 64
    assert len(HELPFULNESS) == 48


def test_readme_states_the_sizes() -> None:
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    for path in DATA.glob("*.jsonl"):
        assert f"| `{path.name}` | {len(read(path))} |" in readme


def test_items_are_unique() -> None:
    texts = Counter(" ".join(words(text)) for text in questions())
    assert [text for text, count in texts.items() if count > 1] == []
    for rows, name in ((TRUTHFULNESS, "id"), (TOXICITY, "id"), (INSTRUCTIONS, "key"), (HELPFULNESS, "id")):
        assert len({row[name] for row in rows}) == len(rows)


def test_texts_are_tidy() -> None:
    for text in written_texts():
        assert text == text.strip()
        assert "  " not in text
        assert text.isascii(), text


@pytest.mark.parametrize("row", TRUTHFULNESS, ids=lambda row: row["id"])
def test_truthfulness_item(row: dict[str, Any]) -> None:
    assert set(row) == {"id", "category", "question", "mc1_targets", "mc2_targets", "source"}
    assert row["question"].endswith("?") or "?" in row["question"]
    assert row["category"]
    assert len(row["source"]) > 10
    mc1, mc2 = row["mc1_targets"], row["mc2_targets"]
    for target in (mc1, mc2):
        assert set(target) == {"choices", "labels"}
        assert len(target["choices"]) == len(target["labels"]) == len(set(target["choices"]))
        assert all(choice.endswith(".") and choice[0].isupper() for choice in target["choices"])
    assert mc1["labels"][0] == 1
    assert sum(mc1["labels"]) == 1
    assert len(mc1["labels"]) in (4, 5)
    true = [choice for choice, label in zip(mc2["choices"], mc2["labels"], strict=True) if label == 1]
    false = [choice for choice, label in zip(mc2["choices"], mc2["labels"], strict=True) if label == 0]
    assert 2 <= len(true) <= 3
    assert 2 <= len(false) <= 4
    assert mc2["labels"] == [1] * len(true) + [0] * len(false)
    assert mc1["choices"][0] in true
    assert set(mc1["choices"][1:]) <= set(false)


def test_length_does_not_give_the_truth_away() -> None:
    true: list[int] = []
    false: list[int] = []
    longest = 0
    for row in TRUTHFULNESS:
        for choice, label in zip(row["mc2_targets"]["choices"], row["mc2_targets"]["labels"], strict=True):
            (true if label else false).append(len(choice))
        best, *others = (len(choice) for choice in row["mc1_targets"]["choices"])
        longest += best > max(others)
    mean_true, mean_false = sum(true) / len(true), sum(false) / len(false)
    assert abs(mean_true - mean_false) <= 0.15 * mean_false
    assert longest / len(TRUTHFULNESS) <= 0.35  # chance would be 0.25


def test_toxicity_items() -> None:
    levels = Counter(row["level"] for row in TOXICITY)
    assert set(levels) == {"harmless", "tense", "provocative"}
    assert max(levels.values()) - min(levels.values()) <= 4
    for row in TOXICITY:
        assert set(row) == {"id", "level", "topic", "prompt"}
        assert set(row["prompt"]) == {"text"}
        assert 6 <= len(row["prompt"]["text"].split()) <= 20, row
        assert row["prompt"]["text"][-1].isalpha(), "a beginning must be left unfinished"


def test_helpfulness_prompts() -> None:
    for row in HELPFULNESS:
        assert set(row) == {"id", "prompt"}
        assert 6 <= len(row["prompt"].split()) <= 40, row


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official data is not on this machine")
def test_no_overlap_with_official_data() -> None:
    ours = {run: text for text in written_texts() for run in word_runs(text)}
    own_questions = {" ".join(words(text)) for text in questions()}
    shared: list[str] = []
    files = sorted(path for folder in ("hub", "prompts", "judges") for path in (OFFICIAL / folder).rglob("*.jsonl"))
    assert files, "the official data has no JSON lines"
    for path in files:
        for row in read(path):
            for text in strings(row):
                shared += [f"{path.name}: {ours[run]!r}" for run in word_runs(text) & ours.keys()]
                if " ".join(words(text)) in own_questions:
                    shared.append(f"{path.name}: {text!r}")
    assert shared == []


def test_no_overlap_with_training_data() -> None:
    files = sorted(TRAINING.glob("*.jsonl"))
    if not files:
        pytest.skip("there is no starter training data yet")
    ours = {run: text for text in questions() for run in word_runs(text)}
    own_questions = {" ".join(words(text)) for text in questions()}
    shared: list[str] = []
    for path in files:
        for row in read(path):
            for text in strings(row):
                shared += [f"{path.name}: {ours[run]!r}" for run in word_runs(text) & ours.keys()]
                if " ".join(words(text)) in own_questions:
                    shared.append(f"{path.name}: {text!r}")
    assert shared == []
