"""TRL's methods and the reward model: each learns, writes a run, and continues after a kill on its trajectory."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from tiny_model import save_reward_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from training import trl_args, trl_run
from training.__main__ import METHODS as TRAINED_BY
from training.__main__ import main
from training.checkpoint import Checkpoint, read_safetensors_header
from training.metric_names import metric_names
from training.recipe import find_recipe
from training.reference import Reference, difference
from training.run_record import RunRecord
from training.yaml_file import load

METHODS = ["sft", "reward", "dpo", "kto", "rloo", "grpo"]
ONLINE = ["rloo", "grpo"]
LORA = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]}


@pytest.fixture(scope="module")
def colours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs that a tiny model can learn: the good answer is always the same colour."""
    file = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    rows = [{"prompt": f"Colour {number}?", "chosen": "blue", "rejected": "red"} for number in range(40)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reward_model(tmp_path_factory.mktemp("judge") / "checkpoint")


def recipe(folder: Path, method: str, base: Path, data: Path, judge: Path, lora: bool = True, **args: object) -> Path:
    """A recipe of a few seconds in float32, written into `folder`."""
    value = {
        "method": method,
        "base": str(base),
        "dtype": "float32",
        "lora": LORA if lora else None,
        "args": {"max_steps": 6, "per_device_train_batch_size": 8, "logging_steps": 1, "learning_rate": 5e-3, **args},
    }
    if method in ONLINE:
        value |= {"reward_model": str(judge), "prompts": {"source": str(data)}, "generation": {"max_new_tokens": 6}}
    else:
        value |= {"data": {"source": str(data)}, "max_length": 100}
    file = folder / f"{method}.yaml"
    file.write_text(yaml.safe_dump(value))
    return file


def online_recipe(folder: Path, method: str, base: Path, data: Path, function: str, **args: object) -> Path:
    """`recipe` with all weights trained, and the rewards from a Python function."""
    file = recipe(folder, method, base, data, base, lora=False, **args)
    value = yaml.safe_load(file.read_text())
    del value["reward_model"]
    file.write_text(yaml.safe_dump(value | {"reward_function": function}))
    return file


def train(method: str, recipe: Path, out: Path, *overrides: str) -> int:
    return main([method, "--recipe", str(recipe), "--out", str(out), *overrides])


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_a_whole_checkpoint_with_its_record_and_metrics(
    method: str, tmp_path: Path, tiny: Path, colours: Path, judge: Path
) -> None:
    out = tmp_path / "run"
    file = recipe(tmp_path, method, tiny, colours, judge)
    assert train(method, file, out) == 0
    record = RunRecord.read(out / "run.json")
    assert record.method == method
    assert record.checkpoint_digest == Checkpoint.open(out / "checkpoint").digest != Checkpoint.open(tiny).digest
    assert [parent.role for parent in record.parents] == ["base", *(["reward_model"] if method in ONLINE else [])]
    assert record.data[0].rows == {"kto": 64}.get(method, 32)
    assert any(name.startswith("heldout_") for name in record.metrics)
    assert set(record.metrics) <= metric_names(load(file, TRAINED_BY[method].recipe))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4, 5, 6]
    assert not (out / ".state").exists()
    # What it said in memory, before it was saved; a reward model predicts no tokens.
    assert (out / "reference.json").is_file() == (method != "reward")
    if method != "reward":
        reference = Reference.read(out / "reference.json")
        assert (reference.checkpoint_digest, reference.dtype) == (record.checkpoint_digest, "float32")
        assert difference(reference, AutoModelForCausalLM.from_pretrained(out / "checkpoint")) < 1e-4
    before = (out / "run.json").stat().st_mtime_ns
    assert train(method, file, out) == 0  # a second run finds it done
    assert (out / "run.json").stat().st_mtime_ns == before


def test_sft_lowers_the_loss_of_answers_it_has_not_seen(tmp_path: Path, tiny: Path, colours: Path, judge: Path) -> None:
    file = recipe(tmp_path, "sft", tiny, colours, judge, lora=False, max_steps=20)
    assert train("sft", file, tmp_path / "run") == 0
    metrics = RunRecord.read(tmp_path / "run" / "run.json").metrics
    assert metrics["heldout_tokens"] == 8 * len("blue.")  # four bytes and the end of the turn
    assert metrics["heldout_loss_after"] < 0.3 * metrics["heldout_loss_before"]
    change = metrics["heldout_loss_after"] - metrics["heldout_loss_before"]
    assert metrics["heldout_loss_change"] == pytest.approx(change)
    assert metrics["heldout_loss_change_low"] <= change <= metrics["heldout_loss_change_high"] < 0


def test_dpo_and_kto_come_to_prefer_what_was_preferred(tmp_path: Path, tiny: Path, colours: Path, judge: Path) -> None:
    for method, figure in (("dpo", "heldout_accuracy"), ("kto", "heldout_auc")):
        file = recipe(tmp_path, method, tiny, colours, judge, max_steps=12)
        assert train(method, file, tmp_path / method) == 0
        metrics = RunRecord.read(tmp_path / method / "run.json").metrics
        assert metrics[figure] == 1.0


@pytest.mark.parametrize("method", ONLINE)
def test_the_reward_of_a_function_rises(method: str, tmp_path: Path, tiny: Path, colours: Path) -> None:
    """By a reward that a tiny model can learn in seconds: the share of the answer's characters that are plain letters."""
    function = tmp_path / "rewards.py"
    function.write_text(
        "def plain(samples, prompts, outputs):\n"
        "    assert all(s == p + o for s, p, o in zip(samples, prompts, outputs))\n"
        "    assert all(p.endswith('assistant\\n') for p in prompts)\n"
        "    return [sum(c.isascii() and c.isalpha() for c in o) / max(6, len(o)) for o in outputs]\n"
    )
    file = online_recipe(
        tmp_path, method, tiny, colours, f"{function}:plain", max_steps=20, per_device_train_batch_size=32,
        num_generations=8, beta=0.0,
    )  # fmt: skip
    assert train(method, file, tmp_path / "run") == 0
    record = RunRecord.read(tmp_path / "run" / "run.json")
    assert record.metrics["reward_last_fifth"] > record.metrics["reward_first_fifth"] + 0.2
    assert record.metrics["heldout_reward_after"] > record.metrics["heldout_reward_before"] + 0.2
    assert record.metrics["heldout_reward_change_low"] > 0
    assert [parent.role for parent in record.parents] == ["base"]
    assert [(source.kind, source.name) for source in record.rewards] == [("function", f"{function}:plain")]


def test_rewards_that_fail_leave_the_last_saved_step_to_continue_from(
    tmp_path: Path, tiny: Path, colours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    function, out = tmp_path / "rewards.py", tmp_path / "run"
    file = online_recipe(tmp_path, "grpo", tiny, colours, f"{function}:length", save_steps=1, num_generations=4)
    whole = "def length(samples, prompts, outputs):\n    return [len(o) / 6 for o in outputs]\n"
    function.write_text(
        "calls = []\n" + whole.replace("return", "calls.append(1)\n    return [] if len(calls) > 4 else")
    )
    assert train("grpo", file, out) == 2
    assert re.search(r"not rewards[\s\S]*8 finite numbers[\s\S]*0 of them", capsys.readouterr().err)
    assert json.loads((out / ".state" / "saved.json").read_text())["checkpoint"] != "checkpoint-0"
    function.write_text(whole)
    assert train("grpo", file, out) == 0
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 7  # six steps and the trainer's own summary


class Interrupted(Exception):
    """What stops a run in the middle of this process."""


@pytest.mark.parametrize(
    ("method", "order"),
    [*((method, {}) for method in METHODS), ("reward", {"train_sampling_strategy": "group_by_length"})],
)
def test_an_interrupted_run_ends_with_the_weights_of_one_that_was_not(
    method: str,
    order: dict[str, str],
    tmp_path: Path,
    tiny: Path,
    colours: Path,
    judge: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interrupted after its second epoch began, while the trainer was writing a later state that is never whole."""
    file = recipe(tmp_path, method, tiny, colours, judge, max_steps=14, save_steps=3, **order)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert train(method, file, straight) == 0
    journal = trl_run._Journal
    whole = journal.on_save

    def stop(self: object, args: object, state: object, control: object, **more: object) -> None:
        if state.global_step > 9:
            (stopped / ".state" / "trainer" / "checkpoint-12" / "trainer_state.json").unlink()
            raise Interrupted
        whole(self, args, state, control, **more)

    monkeypatch.setattr(journal, "on_save", stop)
    assert train(method, file, stopped) == 1
    assert not (stopped / "run.json").exists()
    monkeypatch.setattr(journal, "on_save", whole)
    assert train(method, file, stopped) == 0
    records = [RunRecord.read(run / "run.json") for run in (straight, stopped)]
    assert records[0].checkpoint_digest == records[1].checkpoint_digest
    steps = [
        [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
        for run in (straight, stopped)
    ]
    assert steps[0] == steps[1]


@pytest.mark.parametrize(("method", "lora"), [("dpo", True), ("dpo", False), ("reward", True)])
def test_a_run_interrupted_while_it_was_measured_does_not_train_again(
    method: str, lora: bool, tmp_path: Path, tiny: Path, colours: Path, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise Interrupted

    file = recipe(tmp_path, method, tiny, colours, judge, lora, max_steps=4)
    assert train(method, file, tmp_path / "straight") == 0
    with monkeypatch.context() as patch:
        patch.setattr(f"training.{method}.pair_report", stop)
        assert train(method, file, tmp_path / "run") == 1
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert train(method, file, tmp_path / "run") == 0
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == lines
    records = [RunRecord.read(tmp_path / run / "run.json") for run in ("straight", "run")]
    assert records[0].checkpoint_digest == records[1].checkpoint_digest
    assert records[0].metrics == records[1].metrics


@pytest.mark.slow
def test_a_killed_command_continues(tmp_path: Path, tiny: Path, colours: Path, judge: Path) -> None:
    file = recipe(tmp_path, "dpo", tiny, colours, judge, max_steps=60, save_steps=2)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert train("dpo", file, straight) == 0
    words = [sys.executable, "-m", "training", "dpo", "--recipe", str(file), "--out", str(killed)]
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 90
    while not (killed / ".state" / "saved.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert not (killed / "run.json").exists()
    assert train("dpo", file, killed, "seed=5") == 2  # another recipe
    assert train("dpo", file, killed) == 0
    records = [RunRecord.read(run / "run.json") for run in (straight, killed)]
    assert records[0].checkpoint_digest == records[1].checkpoint_digest


@pytest.mark.parametrize(
    ("method", "rows", "what"),
    [
        ("sft", [{"prompt": "Hi", "completion": "Hello"}, {"question": "Why?"}], r"row 2[\s\S]*\{messages\}[\s\S]*Why"),
        ("sft", [{"messages": [{"role": "user", "content": "Hi"}]}], r"row 1[\s\S]*Hi"),
        ("dpo", [{"prompt": "Hi", "completion": "Hello", "label": True}], r"row 1[\s\S]*Hello"),
        ("kto", [{"prompt": "Hi", "completion": "Hello", "label": "yes"}], r"row 1[\s\S]*true or false[\s\S]*yes"),
        ("grpo", [{"question": "Why?"}], r"row 1[\s\S]*\{prompt\}[\s\S]*Why"),
    ],
)
def test_a_row_of_no_known_format_is_shown(
    method: str, rows: list[dict], what: str, tmp_path: Path, tiny: Path, judge: Path, capsys
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert train(method, recipe(tmp_path, method, tiny, data, judge), tmp_path / "run") == 2
    assert re.search(what, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("method", "override", "what"),
    [
        ("sft", "args.output_dir=elsewhere", "set by the run itself"),
        ("sft", "args.save_only_model=true", "set by the run itself"),
        ("sft", "args.save_strategy=best", "there is no best step to save"),
        ("dpo", "args.sync_ref_model=true", "which cannot follow the policy"),
        ("grpo", "args.ignore_data_skip=true", "set by the run itself"),
        ("sft", "lora.target_modules=[q_proj,lm_head]", "its adapter would never be trained"),
        ("dpo", "args.betta=0.1", "did you mean 'args.beta'?"),
        ("sft", "args.learning_rate=fast", "wrong value for 'args.learning_rate'"),
        ("sft", "args.max_steps=1.5", "wrong value for 'args.max_steps'"),
        ("sft", "args.num_train_epochs=0 args.max_steps=-1", "would make no step"),
        ("kto", "args.per_device_train_batch_size=1", "a batch of one has none"),
        ("rloo", "args.num_generations=3", "RLOOConfig refuses"),
        ("grpo", "args.num_generations=3", "GRPOConfig refuses"),
        ("grpo", "args.max_completion_length=9", "set by the run itself"),
        ("grpo", "reward_url=http://127.0.0.1:9/", "exactly one of"),
        ("sft", "max_length=9", "every demonstration is longer than 9 tokens"),
        ("dpo", "max_length=9", "every pair is longer than 9 tokens"),
        ("rloo", "reward_model={base}", "not a reward model"),
    ],
)
def test_a_recipe_that_cannot_be_run_is_refused_with_the_reason(
    method: str, override: str, what: str, tmp_path: Path, tiny: Path, colours: Path, judge: Path, capsys
) -> None:
    file = recipe(tmp_path, method, tiny, colours, judge)
    assert train(method, file, tmp_path / "run", *override.format(base=tiny).split()) == 2
    assert what in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", ["sft-starter", "reward-starter", "dpo-starter", "kto-starter", "rloo-starter", "grpo-starter"]
)
def test_the_recipes_that_ship_are_known_to_trl(name: str) -> None:
    import trl

    method = name.partition("-")[0]
    cls = TRAINED_BY[method].recipe
    config = getattr(trl, f"{method.capitalize() if method == 'reward' else method.upper()}Config")
    trl_args.check_args(load(find_recipe(name), cls).args, config, trl_args.RESERVED_ARGS)


def test_what_is_saved_has_the_precision_of_its_base(tmp_path: Path, tiny: Path, colours: Path, judge: Path) -> None:
    base = tmp_path / "base"
    AutoModelForCausalLM.from_pretrained(tiny, dtype="bfloat16").save_pretrained(base)
    AutoTokenizer.from_pretrained(tiny).save_pretrained(base)
    assert train("sft", recipe(tmp_path, "sft", base, colours, judge), tmp_path / "run") == 0
    assert RunRecord.read(tmp_path / "run" / "run.json").recipe["dtype"] == "float32"
    saved = Checkpoint.open(tmp_path / "run" / "checkpoint")
    assert saved.dtype == "bfloat16"
    header = read_safetensors_header(saved.path / "model.safetensors")
    assert {entry["dtype"] for name, entry in header.items() if name != "__metadata__"} == {"BF16"}


@pytest.mark.parametrize(
    ("passes", "iterations", "accumulated", "wanted", "saved"),
    [(1, 1, 1, 1, 1), (1, 2, 1, 1, 2), (4, 2, 4, 3, 4), (6, 1, 4, 4, 6)],
)
def test_a_state_is_saved_where_no_answers_are_in_hand(
    passes: int, iterations: int, accumulated: int, wanted: int, saved: int
) -> None:
    from types import SimpleNamespace

    from training.online_run import whole_generations

    arguments = SimpleNamespace(
        steps_per_generation=passes,
        num_iterations=iterations,
        gradient_accumulation_steps=accumulated,
        save_steps=wanted,
    )
    assert whole_generations(arguments) == saved
