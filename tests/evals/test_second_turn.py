"""Second turns are asked after the model's own first answer, and both conversations are judged whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from judge_server import judging, service

from evals.contamination import segments
from evals.evaluated import find
from evals.rescore import rescore
from evals.run import Request, evaluate
from evals.saved import SavedRun
from training.checkpoint import Checkpoint
from training.errors import UsageError
from training.rewards import RewardModel

TURNS = [["Name a fruit.", "Is it red?"], ["Name a town.", "Is it large?"], ["Count to two.", "Go on."]]
TASK = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: talks.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{turns[{turn}]}}}}"
doc_to_target: ""
generation_kwargs: {{until: [], do_sample: false, max_gen_toks: 6}}
metric_list: [{{metric: bypass, aggregation: bypass, higher_is_better: true}}]
"""
SUITE = """
description: talks
tasks:
  - {task: first, file: first.yaml, group: helpfulness, scoring: judge, chat_template: true}
  - {task: second, file: second.yaml, follows: first, group: helpfulness, scoring: judge, chat_template: true}
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talks")
    (folder / "talks.jsonl").write_text("".join(json.dumps({"turns": turns}) + "\n" for turns in TURNS))
    for turn, name in enumerate(("first", "second")):
        (folder / f"{name}.yaml").write_text(TASK.format(name=name, turn=turn))
    (folder / "talks.yaml").write_text(SUITE)
    return folder / "talks.yaml"


def changed(suite: Path, name: str, *changes: tuple[str, str]) -> str:
    text = SUITE
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (suite.parent / name).write_text(text)
    return str(suite.parent / name)


@pytest.fixture(scope="module")
def request_of(asked: Request, suite: Path) -> Request:
    return replace(asked, suite=str(suite), limit=None)


@pytest.fixture(scope="module")
def before(request_of: Request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parent's run, without a judge."""
    out = tmp_path_factory.mktemp("talked") / "parent"
    evaluate(replace(request_of, out=out, judge=None))
    return out


def test_both_turns_are_judged_each_in_its_own_conversation(
    request_of: Request, suite: Path, before: Path, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = before.parent / "child"
    with service(judging(lambda a, b: "Verdict: A" if len(a) > len(b) else "Verdict: B")) as served:
        judge = {"judge_endpoint": served.url, "judge_model": "judge-1"}
        child = replace(request_of, source=str(models / "child"), out=out, baseline=before, **judge)
        card = evaluate(child)
        texts = [body["messages"][-1]["content"] for path, body, _ in served.asked if path.endswith("completions")]
    run, parent = SavedRun.open(out), SavedRun.open(before)
    first, second, others = run.samples("first"), run.samples("second"), parent.samples("second")
    reward = RewardModel.load(Checkpoint.open(models / "judge"), "float32")
    for turns, begun, sample, other in zip(TURNS, first, second, others, strict=True):
        assert sample.detail["before"] == [[turns[0], begun.response]]
        assert sample.detail["parent_before"] == other.detail["before"] != sample.detail["before"]
        talk = [
            {"role": "user", "content": turns[0]},
            {"role": "assistant", "content": begun.response},
            {"role": "user", "content": turns[1]},
        ]
        assert sample.prompt == find(str(models / "child")).conversation(talk)
        mine = reward.score([(talk, sample.response or "")])[0]
        theirs = [talk[0], {"role": "assistant", "content": other.detail["before"][0][1]}, talk[2]]
        assert sample.values["reward_mean"] == pytest.approx(mine, abs=1e-4)
        assert sample.detail["parent_reward"] == pytest.approx(
            reward.score([(theirs, other.response or "")])[0], abs=1e-4
        )
        assert sample.values["win_rate"] == float(mine > sample.detail["parent_reward"])
        seen = [text for text in texts if f"<first_request>\n{turns[0]}\n</first_request>" in text]
        assert len(seen) == 2, "in both orders"
        assert f"<first_answer_A>\n{begun.response}\n</first_answer_A>" in seen[0]
        assert f"<first_answer_B>\n{begun.response}\n</first_answer_B>" in seen[1]
    for task in ("first", "second"):
        assert (card.score(task, "win_rate").n, card.score(task, "judged_win_rate").n) == (3, 3)
    assert card.score("first", "judged_win_rate").scorer != card.score("second", "judged_win_rate").scorer, (
        "two prompts"
    )
    monkeypatch.setattr("evals.suite.FOLDER", suite.parent)  # a suite that is installed, as those of a release are
    found = rescore(run, find(str(models / "child")), items=2, seed=0)
    assert {one.task: one.outcome for one in found if one.metric == "response_tokens"} == {
        "first": "holds",
        "second": "holds",
    }


def test_a_file_of_conversations_is_a_baseline_of_both_turns(request_of: Request, suite: Path, tmp_path: Path) -> None:
    rows = [{"turns": turns, "answers": [f"{n} one", f"{n} two, longer"]} for n, turns in enumerate(TURNS)]
    (suite.parent / "theirs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    file = changed(suite, "against.yaml", ("scoring: judge,", "scoring: judge, reference: theirs.jsonl,"))
    evaluate(replace(request_of, suite=file, out=tmp_path))
    first, second = SavedRun.open(tmp_path).samples("first"), SavedRun.open(tmp_path).samples("second")
    assert [sample.detail["parent_response"] for sample in first] == ["0 one", "1 one", "2 one"]
    assert [sample.detail["parent_response"] for sample in second] == [row["answers"][1] for row in rows]
    assert [sample.detail["parent_before"] for sample in second] == [[[r["turns"][0], r["answers"][0]]] for r in rows]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("follows: first", "follows: other"), "no task other before it"),
        (
            ("chat_template: true}\n  - {task: second", "limit: 2, chat_template: true}\n  - {task: second"),
            "3 items, 2 of",
        ),
        (
            ("chat_template: true}\n  - {task: second", "chat_template: false}\n  - {task: second"),
            "chat_template: false",
        ),
    ],
)
def test_a_task_that_cannot_be_followed_is_refused_before_weights_load(
    request_of: Request, suite: Path, tmp_path: Path, change: tuple[str, str], said: str
) -> None:
    with pytest.raises(UsageError, match="follows") as refused:
        evaluate(replace(request_of, suite=changed(suite, "wrong.yaml", change), out=tmp_path, judge=None))
    assert said in str(refused.value)


def test_without_a_chat_template_the_first_turn_stands_alone(request_of: Request, tmp_path: Path) -> None:
    card = evaluate(replace(request_of, out=tmp_path, judge=None, chat_template=False))
    assert {score.task for score in card.scores} == {"first"}
    assert "needs a chat template" in card.failed_tasks["second"]


def test_the_models_own_first_answer_is_no_text_of_the_item(before: Path) -> None:
    """Or an answer learned by heart would make the question count as contaminated."""
    run = SavedRun.open(before)
    samples = run.samples("second")
    for sample, parts in zip(samples, segments(samples, 0).values(), strict=True):
        assert sample.detail["before"][0][1] in sample.prompt
        assert sample.detail["before"][0][1] not in parts[0]
