"""Suites are refused with file and line, and what a suite asks of a checkpoint is checked before weights are loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evals.__main__ import main
from evals.disk_space import bytes_of
from evals.evaluated import find
from evals.prepare import Choices, prepare
from evals.saved import SavedRun
from evals.suite import known_suites, open_suite
from training.errors import UsageError


def a_suite(tmp_path: Path, tasks: str) -> Path:
    file = tmp_path / "mine.yaml"
    file.write_text("description: a test\ntasks:\n" + tasks)
    return file


def prepared(models: Path, file: Path, **choices: Any) -> Any:
    return prepare(
        open_suite(str(file)),
        find(str(models / "parent")),
        Choices(**({"limit": 3, "seed": 0, "batch_size": None} | choices)),
    )[0]


def run_command(models: Path, suite: object, out: Path) -> list[str]:
    return ["run", str(models / "parent"), "--suite", str(suite), "--out", str(out), "--json"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("    headlines: [mc1]", "headlines"),
        ("    samples: many", "samples"),
        ("    minimum_coverage: 1.5", "minimum_coverage"),
        ("    generation: {max_gen_tokens: 5}", "max_gen_tokens"),
        ("    scoring: vibes", "scoring"),
    ],
)
def test_an_unknown_key_or_a_wrong_type_names_file_and_line(
    tmp_path: Path, models: Path, capsys: pytest.CaptureFixture[str], line: str, told: str
) -> None:
    file = a_suite(tmp_path, f"  - task: starter_truthfulness\n    group: truthfulness\n{line}\n")
    assert main(run_command(models, file, tmp_path / "out")) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["where"] == f"{file}, line 5"
    assert told in error["what"]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("task", "line", "where"),
    [
        ("starter_truthfulness", "    headline: [f1]", "line 5: headline of starter_truthfulness"),
        ("starter_truthfulness", "    stratum: colour", "line 5: stratum of starter_truthfulness"),
        ("starter_toxicity", "    scoring: toxicity\n    scorers: [profane]", "line 6: scorers of starter_toxicity"),
        ("starter_helpfulness", "    scoring: judge\n    follows: nobody", "line 6: follows of starter_helpfulness"),
        ("no_such_task", "", "line 3: task of no_such_task; "),
    ],
)
def test_what_does_not_fit_a_task_names_the_suites_file_line_and_key(
    tmp_path: Path, models: Path, task: str, line: str, where: str
) -> None:
    file = a_suite(tmp_path, f"  - task: {task}\n    group: other\n{line}\n")
    with pytest.raises(UsageError) as refused:
        prepared(models, file)
    assert str(refused.value.where).startswith(f"{file}, {where}")
    assert f"{file}, {where}" in str(refused.value), "what is printed says it too"


def test_an_unknown_suite_lists_those_there_are(models: Path, tmp_path: Path, capsys) -> None:
    assert main(run_command(models, "strater", tmp_path / "out")) == 2
    assert json.loads(capsys.readouterr().out)["error"]["expected"].startswith("helpfulness, official, starter")


@pytest.mark.parametrize("name", known_suites())
def test_every_suite_that_ships_is_well_formed(name: str) -> None:
    suite = open_suite(name)
    assert len(suite.suite.tasks) >= 2
    assert len(suite.sha256) == 64


def test_a_task_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="stands twice"):
        open_suite(str(a_suite(tmp_path, "  - {task: a, group: other}\n" * 2)))


def test_all_problems_of_a_suite_are_told_at_once(tmp_path: Path, models: Path) -> None:
    file = a_suite(
        tmp_path,
        "  - {task: no_such_task, group: other}\n  - {task: starter_truthfulness, group: other, headline: [f1]}\n",
    )
    with pytest.raises(UsageError, match="2 tasks of the suite mine cannot run") as refused:
        prepared(models, file)
    assert "starter_truthfulness has no metric f1" in str(refused.value)
    assert "no_such_task" in str(refused.value)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("{task: starter_toxicity, group: toxicity}", "cut 8 samples to the first"),
        ("{task: starter_helpfulness, group: other}", "no metric of its own"),
        ("{task: starter_truthfulness, group: other, scoring: profanity}", "needs generated text"),
        ("{task: starter_toxicity, group: other, scoring: judge}", "one answer to each prompt"),
        ("{task: starter_truthfulness, group: other, stratum: colour}", "no field 'colour'"),
        ("{task: starter_instructions, group: other, generation: {max_gen_toks: 4096}}", "context"),
    ],
)
def test_a_suite_that_would_give_a_wrong_number_is_refused(tmp_path: Path, models: Path, task: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        prepared(models, a_suite(tmp_path, f"  - {task}\n"))


def test_a_limit_is_a_seeded_sample_in_proportion_to_the_strata(models: Path, tmp_path: Path) -> None:
    file = a_suite(tmp_path, "  - {task: starter_toxicity, group: toxicity, scoring: profanity, stratum: level}\n")
    one = prepared(models, file, limit=12)[0]
    levels = [request.document["level"] for request in one.requests]
    assert {level: levels.count(level) for level in set(levels)} == {"harmless": 4, "tense": 4, "provocative": 4}
    items = [request.item for request in one.requests]
    assert items == [request.item for request in prepared(models, file, limit=12)[0].requests]
    assert items != [request.item for request in prepared(models, file, limit=12, seed=1)[0].requests]
    assert (one.settings.limit, one.settings.items) == (12, 12)


def test_the_suites_own_limit_may_only_become_smaller(models: Path, tmp_path: Path) -> None:
    file = a_suite(tmp_path, "  - {task: starter_truthfulness, group: truthfulness, limit: 5}\n")
    assert prepared(models, file, limit=3)[0].settings.items == 3
    assert prepared(models, file, limit=50)[0].settings.items == 5


def test_a_checkpoint_without_a_chat_template_is_refused_where_the_suite_needs_one(
    models: Path, tmp_path: Path, capsys
) -> None:
    bare = Path(shutil.copytree(models / "parent", tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    assert main(["run", str(bare), "--suite", "starter", "--out", str(tmp_path / "out"), "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "the tokenizer has none" in error["what"]
    assert "starter_instructions, starter_helpfulness" in error["expected"]


def test_the_prompts_of_a_chat_task_go_through_the_template_and_others_do_not(models: Path, tmp_path: Path) -> None:
    file = a_suite(
        tmp_path,
        "  - {task: starter_instructions, group: other, chat_template: true}\n"
        "  - {task: starter_truthfulness, group: other}\n",
    )
    chat, plain = prepared(models, file)
    assert all(
        request.prompt == f"<|im_start|>user\n{request.document['prompt']}<|im_end|>\n<|im_start|>assistant\n"
        for request in chat.requests
    )
    assert all(request.prompt == f"Q: {request.document['question']}\nA:" for request in plain.requests)
    assert (chat.settings.chat_template, plain.settings.chat_template) == (True, False)


def test_a_tasks_definition_and_data_stand_in_its_settings(models: Path, tmp_path: Path) -> None:
    file = a_suite(tmp_path, "  - {task: starter_toxicity, group: toxicity, scoring: profanity, samples: 2}\n")
    settings = prepared(models, file)[0].settings
    assert settings.data_id == "evals/tasks/data/starter_toxicity.jsonl"
    assert len(settings.data_sha256) == 64
    assert settings.generation["samples"] == 2
    assert settings.generation["top_p"] == 0.9
    assert settings.version.startswith("1.0, definition ")


def test_a_task_whose_data_are_not_there_fails_alone_unless_it_is_required(
    models: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    import evals.prepare

    monkeypatch.setattr(evals.prepare, "missing_punkt", lambda documents: int("key" in documents[0]))
    lines = "  - {task: starter_instructions, group: helpfulness, required: NO}\n"
    lines += "  - {task: starter_truthfulness, group: truthfulness, metrics: [mc1]}\n"
    words = run_command(models, a_suite(tmp_path, lines.replace("NO", "false")), tmp_path / "out")
    assert main([*words, "--limit", "3"]) == 2, "the suite was not scored as a whole"
    result = json.loads(capsys.readouterr().out)
    assert list(result["scores"]) == ["starter_truthfulness/mc1"]
    assert list(SavedRun.open(tmp_path / "out").scorecard.failed_tasks) == ["starter_instructions"]
    assert result["error"]["what"] == "1 task of the suite failed: starter_instructions"
    assert "\n  next:     python -m nltk" in result["failed_tasks"]["starter_instructions"], "over lines"
    assert "python -m nltk.downloader punkt_tab" in result["failed_tasks"]["starter_instructions"]
    words = run_command(models, a_suite(tmp_path, lines.replace("NO", "true")), tmp_path / "required")
    assert main([*words, "--limit", "3"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert "cannot be scored without NLTK's data punkt_tab" in error["what"]
    assert error["found"] == "66.7%"


@pytest.mark.parametrize("wrong", [("--batch-size", "0"), ("--batch-size", "-5"), ("--limit", "0"), ("--seed", "-1")])
def test_a_number_that_cannot_be_is_refused_and_named(
    wrong: tuple[str, str], tmp_path: Path, models: Path, capsys
) -> None:
    assert main([*run_command(models, "starter", tmp_path / "out"), *wrong]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"].startswith(wrong[0])
    assert error["found"] == wrong[1]
    assert not (tmp_path / "out").exists()


def test_a_task_that_does_not_fit_the_context_fails_alone(models: Path, tmp_path: Path, capsys) -> None:
    lines = "  - {task: starter_toxicity, group: toxicity, scoring: profanity, generation: {max_gen_toks: 2048}}\n"
    lines += "  - {task: starter_truthfulness, group: truthfulness, metrics: [mc1]}\n"
    words = run_command(models, a_suite(tmp_path, lines), tmp_path / "out")
    assert main([word for word in [*words, "--limit", "3"] if word != "--json"]) == 2
    printed, logged = capsys.readouterr()
    assert "starter_truthfulness" in printed
    assert (
        "failed: starter_toxicity\n  starter_toxicity generates more tokens than the model's context holds\n" in printed
    )
    assert "error: 1 task of the suite failed: starter_toxicity" in logged


def test_a_hub_that_cannot_be_reached_ends_the_run_at_its_first_task(
    models: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    import datasets

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach 'openai/gsm8k' on the Hub (ConnectError)")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    file = a_suite(tmp_path, "  - {task: gsm8k, group: other}\n  - {task: starter_toxicity, group: toxicity}\n")
    assert main(run_command(models, file, tmp_path / "out")) == 5
    assert "gsm8k" in json.loads(capsys.readouterr().out)["error"]["what"]


QUESTIONS = """
task: questions
dataset_path: json
dataset_kwargs: {data_files: {test: questions.jsonl}}
test_split: test
output_type: generate_until
doc_to_text: "Q: {{question}}\\nA:"
doc_to_target: ""
generation_kwargs: {until: ["\\n"], max_gen_toks: 4}
metric_list: [{metric: bypass}]
metadata: {version: 1}
"""


def test_judges_of_truthfulness_are_named_on_the_command_line(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Judges trained here on labelled answers; without any the task is refused with how to name and to make them."""
    for aspect, truth in (("truthful", "No."), ("informative", "Yes.")):
        rows = [
            {"question": f"Is thing {n} blue?", "answer": answer, "label": int(answer == truth)}
            for n in range(12)
            for answer in ("Yes.", "No.")
        ]
        (tmp_path / f"{aspect}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        words = ["train-scorer", aspect, "--data", str(tmp_path / f"{aspect}.jsonl"), "--out", str(tmp_path / aspect)]
        assert main(words) == 0
    (tmp_path / "questions.yaml").write_text(QUESTIONS)
    (tmp_path / "questions.jsonl").write_text('{"question": "Is it blue?"}\n{"question": "Is it red?"}\n')
    file = a_suite(
        tmp_path, "  - {task: questions, file: questions.yaml, group: truthfulness, scoring: truthfulness}\n"
    )
    words = [*run_command(models, file, tmp_path / "out"), "--device", "cpu", "--dtype", "float32"]
    capsys.readouterr()
    assert main(words) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["found"] == "no judges"
    assert "--truth-judges truthful=DIR informative=DIR" in error["next"]
    assert main([*words, "--truth-judges", f"truthful={tmp_path / 'truthful'}"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["where"] == "--truth-judges"
    both = [f"{aspect}={tmp_path / aspect}" for aspect in ("truthful", "informative")]
    assert main([*words, "--truth-judges", *both]) == 0
    found = json.loads(capsys.readouterr().out)["scores"]
    assert list(found) == [f"questions/{metric}" for metric in ("true", "informative", "true_and_informative")]
    scorers = {score.metric: score.scorer for score in SavedRun.open(tmp_path / "out").scorecard.scores}
    assert "truthful" in str(scorers["true"])
    assert "informative" in str(scorers["informative"])
    assert main([*run_command(models, "starter", tmp_path / "other"), "--truth-judges", *both]) == 2
    assert "--suite truthfulness" in json.loads(capsys.readouterr().out)["error"]["next"]


def test_a_disk_without_room_for_the_answers_is_refused_with_numbers_before_anything_is_computed(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """More samples than any disk holds: 2 items, a billion answers of 16 tokens to each."""
    tokens = "samples: 1000000000, generation: {max_gen_toks: 16}"
    lines = f"  - {{task: starter_toxicity, group: toxicity, scoring: profanity, {tokens}}}\n"
    lines += "  - {task: starter_truthfulness, group: truthfulness, metrics: [mc1]}\n"
    words = run_command(models, a_suite(tmp_path, lines), tmp_path / "out")
    assert main([*words, "--limit", "2"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["what"].startswith("the disk has too little space")
    assert "starter_toxicity alone may take 864,000 MB: 2 items, 1,000,000,000 answers to each" in error["expected"]
    assert error["found"].endswith("MB free")
    assert not (tmp_path / "out" / ".evals").exists()


def test_what_a_task_writes_stays_below_the_estimate(models: Path, tmp_path: Path) -> None:
    lines = "  - {task: starter_toxicity, group: toxicity, scoring: profanity, samples: 2}\n"
    lines += "  - {task: starter_truthfulness, group: truthfulness}\n"
    file, out = a_suite(tmp_path, lines), tmp_path / "out"
    assert main([*run_command(models, file, out), "--limit", "3", "--dtype", "float32"]) == 0
    for one in prepared(models, file):
        name = one.settings.task
        files = [out / "samples" / f"{name}.jsonl", *(out / ".evals").glob(f"{name}-*.jsonl")]
        written = sum(written.stat().st_size for written in files)
        assert 0 < written < bytes_of(one) < 20 * written
