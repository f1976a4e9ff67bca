"""The directory of an evaluation: a folder that can be written to, and no other model's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evals.out_directory import writable
from evals.run import Request, evaluate
from evals.saved import SavedRun
from training.errors import UsageError


def test_an_output_directory_that_is_a_file_is_refused_before_anything_is_computed(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(UsageError, match="is a file"):
        writable(tmp_path / "out")
    with pytest.raises(UsageError, match="is a file"):
        writable(tmp_path / "out" / "deeper")


def test_a_directory_with_the_scorecard_of_another_model_is_refused_and_stays_as_it_is(
    asked: Request, models: Path, parent: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(parent, tmp_path / "run"))
    with pytest.raises(UsageError, match="holds the scorecard of another model"):
        evaluate(replace(asked, source=str(models / "child"), out=out))
    for file in ["scorecard.json", *(f"samples/{one.name}" for one in (parent / "samples").iterdir())]:
        assert (out / file).read_bytes() == (parent / file).read_bytes()


def test_a_run_directory_is_its_own_checkpoints_and_takes_a_new_scorecard_when_that_was_trained_anew(
    asked: Request, models: Path, parent: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(parent, tmp_path / "run", ignore=shutil.ignore_patterns(".evals", "samples")))
    shutil.copytree(models / "child", out / "checkpoint")  # the scorecard is of what stood here before
    with pytest.raises(UsageError, match="holds the checkpoint of another model"):
        evaluate(replace(asked, out=out))
    card = evaluate(replace(asked, source=str(out), out=out, limit=1))
    assert card.model.digest != SavedRun.open(parent).scorecard.model.digest
