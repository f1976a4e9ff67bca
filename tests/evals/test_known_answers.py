"""What several tasks ask alike is computed once, and their figures are those of tasks that are run alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from evals.prefix_tree import PrefixTreeLM
from evals.run import Request, evaluate
from evals.saved import SavedRun

TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: items.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{q}}}}\\nAnswer:"
doc_to_choice: {choices}
doc_to_target: 0
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """few asks two of the four choices that many asks; other has one of them, and one of its own."""
    rows = [
        {"q": f"what is {n}", "c": [f"it {n}", "no", f"a {n} or so", "one"], "d": ["no", f"else {n}"]} for n in range(5)
    ]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, choices in (("few", '"{{c[:2]}}"'), ("many", "c"), ("other", "d")):
        (tmp_path / f"{name}.yaml").write_text(TASK.format(name=name, choices=choices))
    return tmp_path


def run(asked: Request, folder: Path, out: str, *tasks: str) -> SavedRun:
    lines = [f"  - {{task: {name}, file: {name}.yaml, group: other}}\n" for name in tasks]
    (folder / "suite.yaml").write_text("description: d\ntasks:\n" + "".join(lines))
    request = replace(asked, suite=str(folder / "suite.yaml"), out=folder / out, judge=None, limit=None)
    evaluate(request)
    return SavedRun.open(folder / out)


def likelihoods(run: SavedRun, task: str) -> list[float]:
    return [value for sample in run.samples(task) for value in sample.detail["log_likelihoods"]]


def test_equal_requests_of_several_tasks_are_computed_once_with_the_numbers_of_tasks_run_alone(
    asked: Request, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of_the_model: list[int] = []
    compute = PrefixTreeLM.loglikelihood

    def counted(self: PrefixTreeLM, requests: list[object], **options: object) -> object:
        asked_of_the_model.append(len(requests))
        return compute(self, requests, **options)

    monkeypatch.setattr(PrefixTreeLM, "loglikelihood", counted)
    together = run(asked, folder, "together", "few", "other", "many")
    assert asked_of_the_model == [5 * 4, 5 * 1], "many before few, which needs nothing; of other's choices one is known"
    card = together.scorecard
    assert list(dict.fromkeys(score.task for score in card.scores)) == ["few", "other", "many"], "the suite's order"
    assert [task.engine for task in card.settings.tasks] == ["prefix tree"] * 3
    for task in ("few", "other", "many"):
        alone = run(asked, folder, f"alone-{task}", task)
        assert likelihoods(together, task) == pytest.approx(likelihoods(alone, task), abs=1e-4)
        assert card.score(task, "acc").value == alone.scorecard.score(task, "acc").value


def test_an_evaluation_that_was_interrupted_between_tasks_ends_with_the_same_bits(asked: Request, folder: Path) -> None:
    whole = run(asked, folder, "whole", "few", "other", "many")
    (folder / "cut").mkdir()
    (folder / "whole" / ".evals").rename(folder / "cut" / ".evals")
    for name in ("few", "other"):
        for file in (folder / "cut" / ".evals").glob(f"{name}-*"):
            file.unlink()
    again = run(asked, folder, "cut", "few", "other", "many")
    assert all(again.samples(task) == whole.samples(task) for task in ("few", "other", "many"))
