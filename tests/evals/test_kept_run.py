"""A run is scored again from the answers that it kept, where the weights that gave them are gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from evals.__main__ import main
from evals.saved import SavedRun


@pytest.fixture
def without_weights(parent: Path, models: Path, tmp_path: Path) -> Path:
    """A copy of the parent's run; of the checkpoint beside it the weights are gone."""
    run = Path(shutil.copytree(parent, tmp_path / "run"))
    shutil.copytree(models / "parent", run / "checkpoint", ignore=shutil.ignore_patterns("*.safetensors"))
    return run


def test_kept_answers_give_the_same_scorecard_without_weights(
    without_weights: Path, parent: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (without_weights / "scorecard.json").read_bytes()
    shutil.rmtree(without_weights / "samples")
    words = ["rescore", str(without_weights), "--judge", str(models / "judge"), "--json"]
    assert main(words) == 0, capsys.readouterr().err
    assert json.loads(capsys.readouterr().out)["digest"] == SavedRun.open(parent).scorecard.model.digest
    assert (without_weights / "scorecard.json").read_bytes() == before
    for file in (parent / "samples").iterdir():
        assert (without_weights / "samples" / file.name).read_bytes() == file.read_bytes()


def test_another_suite_scores_the_same_answers_in_another_way(
    without_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text(
        "description: one metric\ntasks:\n"
        "  - {task: starter_truthfulness, group: truthfulness, metrics: [mc1], stratum: category}\n"
        "  - {task: starter_instructions, group: helpfulness, metrics: [prompt_level_loose_acc], chat_template: true}\n"
    )
    assert main(["rescore", str(without_weights), "--suite", str(suite), "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["scores"]) == [
        "starter_truthfulness/mc1",
        "starter_instructions/prompt_level_loose_acc",
    ]


def test_an_answer_that_was_not_kept_and_a_judge_who_is_not_named_are_refused_and_nothing_is_changed(
    without_weights: Path, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (without_weights / "scorecard.json").read_bytes()
    assert main(["rescore", str(without_weights), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["what"], error["expected"]) == (
        "figures of the scorecard would be lost",
        "--judge or --judge-endpoint",
    )
    shutil.rmtree(without_weights / ".evals")
    assert main(["rescore", str(without_weights), "--judge", str(models / "judge"), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"].startswith("the weights are needed")
    assert "evals run" in error["next"]
    assert (without_weights / "scorecard.json").read_bytes() == before
