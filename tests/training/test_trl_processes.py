"""Two processes train as one does, ILQL too, by data parallelism and by FSDP2, and either continues what the other began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml
from accelerate import Accelerator
from safetensors.torch import load_file

from training import ilql_run, trl_run
from training.__main__ import main
from training.errors import UsageError
from training.ppo_recipe import PPORecipe
from training.processes import require_parts, require_zero3
from training.recipe import find_recipe
from training.run_record import RunRecord
from training.trl_processes import accumulation, check_continues
from training.yaml_file import load

METHODS = ("sft", "reward", "ilql")
# What every process of the launch does: each method from the start, on from one process's third step, and up to its own third.
LAUNCHED = """
import sys
from test_trl_processes import METHODS, stop_after_three_steps, train
for method in METHODS:
    assert train(method, sys.argv[1], "two") == 0
    assert train(method, sys.argv[1], "one-then-two") == 0
stop_after_three_steps()
for method in METHODS:
    assert train(method, sys.argv[1], "two-then-one") == 1
"""


class Interrupted(Exception):
    """What stops a run in the middle of this process."""


def stop_after_three_steps() -> None:
    whole = trl_run._Journal.on_save

    def stop(self: object, args: object, state: object, control: object, **more: object) -> None:
        whole(self, args, state, control, **more)
        raise Interrupted

    save = ilql_run._save

    def stop_ilql(ilql: object, run: object) -> None:
        save(ilql, run)
        raise Interrupted

    trl_run._Journal.on_save, ilql_run._save = stop, stop_ilql


def train(method: str, folder: str | Path, name: str) -> int:
    return main([method, "--recipe", f"{folder}/{method}.yaml", "--out", f"{folder}/{method}-{name}"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """Recipes whose steps take 8 rows, 4 at once: one process accumulates, two share them."""
    folder = tmp_path_factory.mktemp("processes")
    rows = [
        {"prompt": f"Colour {number}?", "chosen": "blue" + "e" * (number % 5), "rejected": "red" + "d" * (number % 3)}
        for number in range(40)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for method in METHODS:
        recipe = {
            "method": method,
            "base": str(tiny),
            "dtype": "float32",
            "lora": {"r": 4, "target_modules": ["q_proj", "v_proj"]} if method == "reward" else None,
            "data": {"source": str(folder / "pairs.jsonl")},
            "max_length": 100,
            "batch_size": 8,
            "args": {
                "max_steps": 6, "per_device_train_batch_size": 4, "learning_rate": 5e-3, "save_steps": 3, "logging_steps": 1
            },
        }  # fmt: skip
        if method == "ilql":
            del recipe["batch_size"], recipe["args"]
            recipe["ilql"] = {"total_steps": 6, "batch_size": 9, "learning_rate": 5e-3, "save_steps": 3}
        (folder / f"{method}.yaml").write_text(yaml.safe_dump(recipe))
    return folder


def test_two_processes_train_as_one_does_and_either_continues_what_the_other_began(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(
            trl_run._Journal, "on_save", trl_run._Journal.on_save
        )  # what follows changes it, and this puts it back
        patch.setattr(ilql_run, "_save", ilql_run._save)
        stop_after_three_steps()
        for method in METHODS:
            assert train(method, folder, "one-then-two") == 1
    launch(folder, LAUNCHED)
    for method in METHODS:
        assert train(method, folder, "one") == 0
        assert train(method, folder, "two-then-one") == 0
        runs = [folder / f"{method}-{name}" for name in ("one", "two", "one-then-two", "two-then-one")]
        expected = [line["loss"] for line in lines(runs[0]) if "loss" in line]
        assert len(expected) == 6
        assert expected[-1] < expected[0] - 0.01
        weights = load_file(runs[0] / "checkpoint" / "model.safetensors")
        for run in runs[1:]:
            assert [line["loss"] for line in lines(run) if "loss" in line] == pytest.approx(expected, rel=1e-4)
            for name, tensor in load_file(run / "checkpoint" / "model.safetensors").items():
                assert torch.allclose(tensor, weights[name], atol=1e-4), (run, name)
        found, wanted = (RunRecord.read(run / "run.json").metrics for run in (runs[1], runs[0]))
        assert found == pytest.approx(wanted, rel=1e-3)


def test_a_step_of_ilql_without_an_answer_for_each_process_is_refused() -> None:
    ilql_run.require_rows_for_all(2, 2)
    with pytest.raises(UsageError, match="fewer answers than there are processes"):
        ilql_run.require_rows_for_all(2, 3)


def lines(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def launch(folder: Path, script: str) -> None:
    file = folder / "launched.py"
    file.write_text(script)
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (here, here.parent, here.parents[1])))}
    words = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(file), str(folder)]
    finished = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False, timeout=280
    )
    assert finished.returncode == 0, finished.stderr[-4000:]


def test_a_batch_that_cannot_be_shared_out_is_refused_with_the_numbers() -> None:
    assert (accumulation(8, 4, 1), accumulation(8, 4, 2)) == (2, 1)
    with pytest.raises(UsageError, match="evenly") as refused:
        accumulation(8, 4, 3)
    assert "a multiple of 12" in refused.value.render()


def test_batches_of_similar_lengths_are_not_continued_on_another_number_of_processes() -> None:
    saved = {"sharding": "zero3", "processes": 2}
    with pytest.raises(UsageError, match="another number of processes"):
        check_continues(saved, 1, by_length=True)
    check_continues(saved, 2, by_length=True)
    check_continues(saved, 1, by_length=False)


@pytest.mark.parametrize("parts", ["DeepSpeed", "FSDP"])
def test_ilql_refuses_a_launch_in_parts(
    parts: str,
    tmp_path: Path,
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As `accelerate launch` with a file of training/launch/ tells its processes."""
    monkeypatch.setenv(f"ACCELERATE_USE_{parts.upper()}", "true")
    words = ["--out", str(tmp_path / "run"), f"base={tiny}", "evaluation=null"]
    assert main(["ilql", "--recipe", "ilql-starter", *words]) == 2
    said = capsys.readouterr().err
    assert "runs data parallel" in said
    assert f"a launch with {parts}" in said


@pytest.mark.skipif(find_spec("deepspeed") is not None, reason="DeepSpeed is installed")
def test_ppo_under_deepspeed_says_what_to_install(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    words = ["--out", str(tmp_path / "run"), f"base={tiny}", "reward_model=null", "reward_function=absent.py:name"]
    assert main(["ppo", "--recipe", "ppo-starter", *words]) == 2
    assert "slipway[zero3]" in capsys.readouterr().err


def test_ppo_refuses_deepspeeds_other_stages_and_a_second_set_of_float32_weights() -> None:
    recipe = load(find_recipe("ppo-starter"), PPORecipe, ["lora=null", "dtype=bfloat16"])
    require_zero3(recipe, "zero3")
    with pytest.raises(UsageError, match="ZeRO-3 only"):
        require_zero3(recipe, "whole")
    masters = load(find_recipe("ppo-starter"), PPORecipe, ["lora=null", "dtype=bfloat16", "ppo.master_weights=true"])
    with pytest.raises(UsageError, match="DeepSpeed's optimizer holds the weights"):
        require_zero3(masters, "zero3")


def test_a_launch_in_parts_is_refused_where_accelerate_leaves_the_model_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    accelerator = Accelerator(cpu=True)
    require_parts(accelerator)  # nothing was asked for
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(UsageError, match="asked for DeepSpeed, and accelerate has not turned it on"):
        require_parts(accelerator)
