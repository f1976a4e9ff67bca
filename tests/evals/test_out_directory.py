"""The directory of an evaluation: a folder that can be written to, and no other model's."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from evals.out_directory import require_judges, require_no_other_suite, writable
from evals.run import Request, evaluate
from evals.saved import SavedRun
from evals.suite import open_suite
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


TOXICITY_ALONE = """
description: one task
tasks:
  - {task: starter_toxicity, group: toxicity, scoring: profanity, samples: 1}
"""


def test_a_second_suite_does_not_replace_the_scores_of_the_first_and_the_error_says_where_to_write(
    asked: Request, parent: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(parent, tmp_path / "run"))
    suite = tmp_path / "mine.yaml"
    suite.write_text(TOXICITY_ALONE)
    with pytest.raises(UsageError, match="scores of another suite, which this one would replace") as error:
        evaluate(replace(asked, suite=str(suite), out=out))
    assert "starter_truthfulness" in str(error.value.found)
    assert f"--out {tmp_path / 'run-mine'}" in str(error.value.next_step)
    for file in ["scorecard.json", *(f"samples/{one.name}" for one in (parent / "samples").iterdir())]:
        assert (out / file).read_bytes() == (parent / file).read_bytes()


def test_a_suite_with_the_tasks_of_both_takes_the_place_of_the_first(asked: Request, tmp_path: Path) -> None:
    one, both = tmp_path / "one.yaml", tmp_path / "both.yaml"
    one.write_text(TOXICITY_ALONE)
    both.write_text(TOXICITY_ALONE + "  - {task: starter_truthfulness, group: truthfulness}\n")
    asked = replace(asked, out=tmp_path / "run", limit=2)
    first = evaluate(replace(asked, suite=str(one)))
    second = evaluate(replace(asked, suite=str(both)))
    assert first.scores == [score for score in second.scores if score.task == "starter_toxicity"]
    assert {score.task for score in second.scores} == {"starter_toxicity", "starter_truthfulness"}


def test_scores_of_judges_are_not_lost_to_an_evaluation_that_names_none(
    asked: Request, child: Path, models: Path
) -> None:
    card, named = SavedRun.open(child).scorecard, open_suite("starter")
    request = replace(asked, source=str(models / "child"), out=child, judge=None)
    with pytest.raises(UsageError, match="figures of the scorecard would be lost") as error:
        require_no_other_suite(request, named, card.model.digest)
    assert error.value.expected == "--baseline and --judge or --judge-endpoint"
    require_judges(card, named, replace(asked, out=child, baseline=child.parent / "parent"))


def test_scores_of_weights_that_are_no_more_stand_in_no_suites_way(asked: Request, child: Path, tmp_path: Path) -> None:
    suite = tmp_path / "mine.yaml"
    suite.write_text(TOXICITY_ALONE)
    require_no_other_suite(replace(asked, out=child), open_suite(str(suite)), "sha256:" + "0" * 64)
