"""Pairs of answers to judge, made by real (tiny) checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_model import save_model

from training.__main__ import main
from training.checkpoint import Checkpoint
from training.feedback_pairs import Pair


def read(file: Path) -> list[Pair]:
    return [Pair.model_validate_json(line) for line in file.read_text().splitlines()]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"Say {word}"}) + "\n" for word in ("one", "two", "three")))
    return file


def test_two_checkpoints_answer_the_same_prompts_and_are_named_by_digest(
    tiny: Path, tmp_path: Path, prompts: Path
) -> None:
    other = save_model(tmp_path / "other" / "checkpoint", seed=5)
    out = tmp_path / "pairs.jsonl"
    command = ["feedback-pairs", str(tiny), str(other), "--prompts", str(prompts), "--max-new-tokens", "8"]
    assert main([*command, "--name", "org/tiny", "--out", str(out)]) == 0
    pairs = read(out)
    assert len(pairs) == 3
    for pair in pairs:
        assert pair.one.maker is not None
        assert pair.other.maker is not None
        assert pair.one.maker.digest == Checkpoint.open(tiny).digest
        assert pair.other.maker.digest == Checkpoint.open(other).digest
        assert pair.one.maker.repo_id == "org/tiny"
    again = tmp_path / "again.jsonl"
    assert main([*command, "--name", "org/tiny", "--out", str(again)]) == 0
    assert [(p.one.text, p.other.text) for p in read(again)] == [(p.one.text, p.other.text) for p in pairs]
    assert main([*command, "--out", str(out)]) == 2


def test_one_checkpoint_answers_twice_with_two_samplings(tiny: Path, tmp_path: Path, prompts: Path) -> None:
    out = tmp_path / "pairs.jsonl"
    command = ["feedback-pairs", str(tiny), "--prompts", str(prompts), "--max-new-tokens", "8", "--out", str(out)]
    for wrong in (("--temperature", "0"), ("--limit", "0"), ("--temperature", "nan"), ("--other-temperature", "inf")):
        assert main([*command, *wrong]) == 2
    assert main([*command, "--other-temperature", "0"]) == 0
    pair = read(out)[0]
    assert pair.one.sampling is not None
    assert pair.other.sampling is not None
    assert (pair.one.sampling.temperature, pair.other.sampling.temperature) == (0.7, 0.0)
    assert pair.one.system != pair.other.system
