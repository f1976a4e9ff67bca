"""The alignment tax is the paired comparison on the tasks that alignment was not for, corrected over these alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scored_runs import run_maker, scored, some_task

from evals.__main__ import main
from evals.alignment_tax import alignment_tax
from evals.compare import compare
from evals.scorecard import Sample
from evals.statistics import holm
from training.errors import UsageError

TASKS = ["starter_truthfulness", "starter_instructions"]


def test_the_tax_has_the_comparisons_rows_corrected_among_themselves(parent: Path, child: Path) -> None:
    whole = {(row.task, row.metric): row for row in compare(parent, child).rows}
    found = alignment_tax(parent, child, TASKS)
    assert {row.task for row in found.rows} == set(TASKS)
    for row in found.rows:
        assert row.model_copy(update={"p_holm": 0, "verdict": "worse"}) == whole[row.task, row.metric].model_copy(
            update={"p_holm": 0, "verdict": "worse"}
        )
    assert [row.p_holm for row in found.rows] == holm([row.p_value for row in found.rows])
    assert len(found.rows) < len(whole)


def test_the_command_names_what_got_worse(parent: Path, child: Path, capsys) -> None:
    assert main(["tax", str(parent), str(child), "--tasks", *TASKS, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["worse"] == [f"{row['task']}/{row['metric']}" for row in told["rows"] if row["verdict"] == "worse"]
    assert "B - A" in told["summary"]


def test_a_task_that_was_not_evaluated_is_refused_and_a_length_is_no_tax(parent: Path, child: Path) -> None:
    with pytest.raises(UsageError, match="gsm8k"):
        alignment_tax(parent, child, ["gsm8k"])
    with pytest.raises(
        UsageError, match="a task in the group other"
    ):  # the starter suite's only such figure is a length
        alignment_tax(parent, child)


def _answered(metrics: list[str]) -> list[Sample]:
    return [Sample(item="1", prompt="?", values=dict.fromkeys(metrics, 1.0))]


def test_two_scorecards_that_share_nothing_are_told_task_by_task_in_lines_that_can_be_read(tmp_path: Path) -> None:
    run = run_maker(tmp_path)
    strata = [f"maximum_by_a_scorer_with_a_name_stratum_{number}" for number in range(40)]
    toxic = {"toxicity": _answered(strata)}
    parent = run("a", [scored("toxicity", name, toxic["toxicity"]) for name in strata], samples=toxic)
    others = {f"task_{number}": _answered(["acc"]) for number in range(20)}
    child = run("b", [scored(task, "acc", samples) for task, samples in others.items()], samples=others)
    with pytest.raises(UsageError, match="share no figure") as error:
        alignment_tax(parent, child)
    lines = str(error.value.found).splitlines()
    assert lines[1:3] == ["- toxicity, 40 figures: only A has it", "- task_0/acc: only B has it"]
    assert lines[-1] == "- and 13 more"
    assert max(map(len, lines)) < 80


def test_settings_that_differ_in_many_tasks_are_told_a_line_each_and_not_all(tmp_path: Path) -> None:
    run = run_maker(tmp_path)
    samples = {f"task_{number}": _answered(["acc"]) for number in range(30)}
    scores = [scored(task, "acc", own) for task, own in samples.items()]
    parent = run("a", scores, samples=samples)
    child = run("b", scores, samples=samples, tasks=[some_task(task, num_fewshot=5) for task in samples])
    with pytest.raises(UsageError, match="different settings") as error:
        alignment_tax(parent, child)
    lines = str(error.value.found).splitlines()
    assert (lines[1], lines[-1], len(lines)) == ("- task_0: num_fewshot: 0 / 5", "- and 22 more", 10)
