"""The alignment tax is the paired comparison on the tasks that alignment was not for, corrected over these alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from evals.__main__ import main
from evals.alignment_tax import alignment_tax
from evals.compare import compare
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
