"""Suites, tasks, data rows and model directories that are wrong: each is refused with what, where, what was found and what next."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from own_task import CHOICES, ROWS, TEXTS, write_suite, write_task

from evals.__main__ import main

WORDS = "task: words, group: other, file: words.yaml"
Case = Callable[[Path, Path], tuple[object, object]]  # (a folder, a good checkpoint) -> (suite, checkpoint)
CASES: dict[str, tuple[Case, str]] = {}


def case(name: str, told: str, make: Case) -> None:
    CASES[name] = (make, told)


def suite_text(text: str) -> Case:
    def make(folder: Path, model: Path) -> tuple[object, object]:
        (folder / "mine.yaml").write_text(text)
        return folder / "mine.yaml", model

    return make


def suite_of(task: str, definition: dict[str, Any] = CHOICES, rows: Any = ROWS, **changes: Any) -> Case:
    def make(folder: Path, model: Path) -> tuple[object, object]:
        write_task(folder, definition, rows=rows, **changes)
        return write_suite(folder, task), model

    return make


def definition_of(change: Callable[[Path], object], definition: dict[str, Any] = CHOICES) -> Case:
    """A good suite and task, whose folder is then changed."""

    def make(folder: Path, model: Path) -> tuple[object, object]:
        write_task(folder, definition)
        change(folder)
        return write_suite(folder, WORDS), model

    return make


def data_of(*lines: str | bytes) -> Case:
    content = b"\n".join(line.encode() if isinstance(line, str) else line for line in lines)
    return definition_of(lambda folder: (folder / "words.jsonl").write_bytes(content))


def model_of(change: Callable[[Path], object]) -> Case:
    """A copy of the good checkpoint, changed."""

    def make(folder: Path, model: Path) -> tuple[object, object]:
        write_task(folder, TEXTS)
        checkpoint = Path(shutil.copytree(model, folder / "checkpoint"))
        change(checkpoint)
        return write_suite(folder, f"{WORDS}, chat_template: true"), checkpoint

    return make


def edit(file: str, **changes: Any) -> Callable[[Path], object]:
    """Change keys of a JSON file; None removes one."""

    def change(folder: Path) -> None:
        content = {**json.loads((folder / file).read_text()), **changes}
        (folder / file).write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    return change


def tensors(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        content = load_file(folder / "model.safetensors")
        change(content)
        save_file(content, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


def cut_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-10])


def only(name: str, content: str = "{}") -> Callable[[Path], object]:
    """Weights of another kind instead."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).write_text(content)

    return change


def row(**changes: Any) -> dict[str, Any]:
    return {**ROWS[0], **changes}


head = "description: a test\ntasks:\n"
# suites
case("a bracket that is not closed", "not valid YAML", suite_text(f"{head}  - {{task: a, group: [other}}\n"))
case("a list instead of keys", "must be a mapping", suite_text("- task: a\n"))
case("an empty file", "'description' is missing", suite_text(""))
case("no tasks", "'tasks' is missing", suite_text("description: a test\n"))
case("an empty list of tasks", "wrong value for 'tasks'", suite_text("description: a test\ntasks: []\n"))
case("an unknown key at the top", "unknown key 'task'", suite_text(f"task: a\n{head}  - {{task: a, group: other}}\n"))
case("an unknown key of a task", "unknown key 'tasks.0.limits'", suite_of(f"{WORDS}, limits: 3"))
case("an unknown group", "wrong value for 'tasks.0.group'", suite_of("task: words, group: truth, file: words.yaml"))
case("a task twice", "stands twice", suite_text(head + "  - {task: a, group: other}\n" * 2))
case("a key twice", "stands twice", suite_text(f"{head}  - task: a\n    group: other\n    task: b\n"))
case("a limit of nothing", "wrong value for 'tasks.0.limit'", suite_of(f"{WORDS}, limit: 0"))
case("a coverage above one", "minimum_coverage", suite_of(f"{WORDS}, minimum_coverage: 1.5"))
case("a word for a number", "wrong value for 'tasks.0.samples'", suite_of(f"{WORDS}, samples: many"))
case("a temperature below zero", "temperature", suite_of(f"{WORDS}, generation: {{temperature: -1}}", TEXTS))
case("no such suite", "no suite of this name", lambda _, model: ("strater", model))
case("no such file", "no such file", lambda folder, model: (folder / "none.yaml", model))
case(
    "a folder for a file",
    "not a YAML text file",
    lambda folder, model: ((folder / "a.yaml").mkdir() or folder / "a.yaml", model),
)
case(
    "a task unknown to lm-eval", "no task of this name", suite_text(f"{head}  - {{task: no_such_task, group: other}}\n")
)
case("a task's name that leaves the folder", "'tasks.0.task'", suite_text(f"{head}  - {{task: ../a, group: other}}\n"))
case("a headline that is no metric", "has no metric f1", suite_of(f"{WORDS}, headline: [f1]"))
case("a stratum that is no field", "have no field 'colour'", suite_of(f"{WORDS}, stratum: colour"))
case("profanity of choices", "needs generated text", suite_of(f"{WORDS}, scoring: profanity"))
case("a judge of several samples", "one answer to each prompt", suite_of(f"{WORDS}, scoring: judge, samples: 3", TEXTS))
case(
    "more tokens than the context",
    "generates more tokens",
    suite_of(f"{WORDS}, generation: {{max_gen_toks: 4096}}", TEXTS),
)
case(
    "an item that is longer than the context",
    "1 of 2 items of words do not fit into the model's context",
    suite_of(WORDS, rows=[row(), row(q="which word " * 4000)]),
)
case(
    "an item that is longer than the context with its answer",
    "do not fit into the model's context",
    suite_of(f"{WORDS}, generation: {{max_gen_toks: 200}}", TEXTS, rows=[row(), row(q="which word " * 4000)]),
)
case("more shots than items", "row 1", suite_of(f"{WORDS}, num_fewshot: 12", rows=ROWS[:3]))
# tasks
case("no definition", "cannot be read", definition_of(lambda folder: (folder / "words.yaml").unlink()))
case(
    "a definition that is not YAML",
    "cannot be read",
    definition_of(lambda folder: (folder / "words.yaml").write_text("a: [")),
)
case("another task's definition", "not the definition", suite_of("task: letters, group: other, file: words.yaml"))
case("a key that lm-eval does not know", "does not know", suite_of(WORDS, doc_to_txt="q"))
case("an unknown output type", "cannot make a task", suite_of(WORDS, output_type="essay"))
case(
    "rolling log-likelihoods",
    "of a kind that is not run",
    suite_of(WORDS, output_type="loglikelihood_rolling", metric_list=None),
)
case("an unknown metric", "cannot", suite_of(WORDS, metric_list=[{"metric": "akkuracy"}]))
case("an unknown aggregation", "cannot", suite_of(WORDS, metric_list=[{"metric": "acc", "aggregation": "average"}]))
case(
    "an unknown filter",
    "cannot make a task",
    suite_of(WORDS, TEXTS, filter_list=[{"name": "f", "filter": [{"function": "g"}]}]),
)
case("no split to evaluate", "cannot make a task", suite_of(WORDS, test_split=None))
case("a split that the data lack", "cannot make a task", suite_of(WORDS, test_split="validation"))
case("a template that cannot be parsed", "cannot make a task", suite_of(WORDS, doc_to_text="{{q"))
case("a template of a field that is not there", "cannot make a task", suite_of(WORDS, doc_to_text="{{question}}"))
case("a function in no module", "cannot be read", suite_of(WORDS, process_results="!function nowhere.score"))
case("an include that is not there", "cannot be read", suite_of(WORDS, include="base.yaml"))
# data rows
case("no data", "are not there", definition_of(lambda folder: (folder / "words.jsonl").unlink()))
case("data of no rows", "have no rows", data_of(""))
case("a row that is not JSON", "not valid JSON", data_of(json.dumps(row()), "{'q': 1}"))
case("a row that is a list", "is not an object", data_of(json.dumps(row()), "[1, 2]"))
case("a row that is not UTF-8", "not UTF-8", data_of(json.dumps(row()), b'{"q": "\xff\xfe"}'))
case("a field that changes its type", "changes its type", data_of(json.dumps(row()), json.dumps(row(a="1"))))
case(
    "a field that a row lacks",
    "row 2 of the data of words has no 'q'",
    suite_of(WORDS, rows=[row(), {"c": ["a", "b"], "a": 0}]),
)
case("a target beyond the choices", "row 2 of the data of words has a target", suite_of(WORDS, rows=[row(), row(a=3)]))
case("a target below zero", "row 1 of the data of words has a target", suite_of(WORDS, rows=[row(a=-1), row()]))
case("one choice only", "row 2 of the data of words has fewer", suite_of(WORDS, rows=[row(), row(c=[" it"], a=0)]))
case("no choices", "row 2 of the data of words", suite_of(WORDS, rows=[row(), row(c=[], a=0)]))
case(
    "an empty choice",
    "row 2 of the data of words has an empty choice",
    suite_of(WORDS, rows=[row(), row(c=["", " it"], a=0)]),
)
case(
    "an empty prompt", "row 2 of the data of words has an empty prompt", suite_of(WORDS, TEXTS, rows=[row(), row(q="")])
)
# model directories
case("no such directory", "no checkpoint directory", model_of(shutil.rmtree))
case("a file for a directory", "no checkpoint directory", model_of(lambda c: shutil.rmtree(c) or c.write_text("")))
case("no config", "has no config.json", model_of(lambda c: (c / "config.json").unlink()))
case("a config that is not JSON", "is not a JSON object", model_of(lambda c: (c / "config.json").write_text("{")))
case(
    "a generation config that is not JSON",
    "generation_config.json is not",
    model_of(lambda c: (c / "generation_config.json").write_text("[]")),
)
case("a model type that nobody knows", "does not know the model", model_of(edit("config.json", model_type="llamma")))
case(
    "a model with code of its own",
    "does not know the model",
    model_of(edit("config.json", model_type="own", auto_map={"AutoConfig": "own.Config"})),
)
case(
    "a reward model",
    "not a decoder-only language model",
    model_of(edit("config.json", architectures=["LlamaForSequenceClassification"])),
)
case(
    "an encoder-decoder model",
    "not a decoder-only language model",
    model_of(edit("config.json", model_type="t5", architectures=["T5ForConditionalGeneration"])),
)
case("no weights", "has no weights", model_of(lambda c: (c / "model.safetensors").unlink()))
case("pickled weights", "pickled", model_of(only("pytorch_model.bin")))
case("an adapter", "holds an adapter", model_of(only("adapter_model.safetensors")))
case("truncated weights", "truncated", model_of(cut_weights))
case(
    "weights that are text",
    "truncated or damaged",
    model_of(lambda c: (c / "model.safetensors").write_text("version https://git-lfs")),
)
case(
    "an index that is not JSON",
    "index of the weights",
    model_of(lambda c: (c / "model.safetensors.index.json").write_text("{")),
)
case(
    "a shard that is missing",
    "lacks 1 of its 1",
    model_of(only("model.safetensors.index.json", '{"weight_map": {"a": "b.safetensors"}}')),
)
case(
    "weights that are not finite", "not finite", model_of(tensors(lambda t: t["model.norm.weight"].fill_(float("nan"))))
)
case("a tensor that is missing", "lack tensors", model_of(tensors(lambda t: t.pop("model.norm.weight"))))
case("tensors of another shape", "cannot be loaded", model_of(edit("config.json", intermediate_size=72)))
case("no tokenizer", "tokenizer cannot be loaded", model_of(lambda c: [f.unlink() for f in c.glob("tok*")]))
case("a tokenizer of another model", "does not belong to these weights", model_of(edit("config.json", vocab_size=90)))
case("no chat template", "the tokenizer has none", model_of(lambda c: (c / "chat_template.jinja").unlink()))
case(
    "a chat template that cannot be rendered",
    "cannot be rendered",
    model_of(lambda c: (c / "chat_template.jinja").write_text("{% for m in x")),
)


@pytest.mark.parametrize("name", CASES)
def test_what_is_malformed_is_refused_with_what_where_found_and_the_next_step(
    name: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    make, told = CASES[name]
    suite, checkpoint = make(tmp_path, models / "parent")
    words = ["run", str(checkpoint), "--suite", str(suite), "--out", str(tmp_path / "out"), "--json"]
    code = main([*words, "--device", "cpu", "--dtype", "float32"])
    printed, logged = capsys.readouterr()
    error = json.loads(printed)["error"]
    assert code == error["exit_code"] == 2, error
    assert told in error["what"], error
    missing = [part for part in ("what", "where", "found", "next") if not error[part]]
    assert missing == [], error
    assert "Traceback" not in logged
    assert not (tmp_path / "out" / "scorecard.json").exists()


def test_there_are_at_least_fifty_of_them() -> None:
    assert len(CASES) >= 50
