"""Two CPU processes under FSDP2, each with half of the weights, train as one process does: SFT, reward model and PPO."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from training import ppo_loop, trl_run
from training.__main__ import main

CONFIGURATION = Path(trl_run.__file__).parent / "launch" / "fsdp2.yaml"
METHODS = ("sft", "reward", "ppo")
SEEN = {"sft": ("loss",), "reward": ("loss",), "ppo": ("reward_mean", "kl", "policy_loss", "value_loss", "grad_norm")}
# What both processes do: each method from the start, on from one process's saved state, and up to a state of their own.
LAUNCHED = """
import sys
from test_sharding import METHODS, stop_when_first_saved, train
for method in METHODS:
    assert train(method, sys.argv[1], "two") == 0
    assert train(method, sys.argv[1], "one-then-two") == 0
stop_when_first_saved()
for method in METHODS:
    assert train(method, sys.argv[1], "two-then-one") == 1
"""
JUDGE = """
def vowels(samples, prompts, outputs):
    return [sum(letter in "aeiou" for letter in output) / 4 - len(output) / 20 for output in outputs]
"""


class Interrupted(Exception):
    """What stops a run in the middle of this process."""


def stop_when_first_saved() -> None:
    of_trl, of_ppo = trl_run._Journal.on_save, ppo_loop.save

    def on_save(self: object, args: object, state: object, control: object, **more: object) -> None:
        of_trl(self, args, state, control, **more)
        raise Interrupted

    def save(*values: object) -> None:
        of_ppo(*values)
        raise Interrupted

    trl_run._Journal.on_save, ppo_loop.save = on_save, save


def train(method: str, folder: str | Path, name: str) -> int:
    return main([method, "--recipe", f"{folder}/{method}.yaml", "--out", f"{folder}/{method}-{name}"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    return write_recipes(tmp_path_factory.mktemp("sharding"), tiny)


def write_recipes(folder: Path, tiny: Path) -> Path:
    """Recipes whose steps one process makes alone and two share."""
    rows = [
        {"prompt": f"Colour {number}?", "chosen": "blue" + "e" * (number % 5), "rejected": "red" + "d" * (number % 3)}
        for number in range(20)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "judge.py").write_text(JUDGE)
    args = {
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 5e-3,
        "save_steps": 2,
        "logging_steps": 1,
    }
    both = {"base": str(tiny), "dtype": "float32", "lora": None}
    pairs = {**both, "data": {"source": str(folder / "pairs.jsonl")}, "max_length": 100, "batch_size": 8, "args": args}
    adapters = {"r": 4, "target_modules": ["q_proj", "v_proj"]}
    ppo = {
        **both,
        "reward_function": f"{folder}/judge.py:vowels",
        "prompts": {"source": "starter", "limit": 8, "heldout_limit": 2, "heldout_split": "heldout"},
        "max_prompt_length": 200,
        "generation": {"max_new_tokens": 6},
        "ppo": {
            "total_episodes": 24, "batch_size": 8, "mini_batch_size": 4, "gradient_accumulation_steps": 2,
            "num_ppo_epochs": 1, "learning_rate": 1e-3, "save_updates": 1,
        },
    }  # fmt: skip
    for method, recipe in (("sft", pairs), ("reward", {**pairs, "lora": adapters}), ("ppo", ppo)):
        (folder / f"{method}.yaml").write_text(yaml.safe_dump({"method": method, **recipe}))
    return folder


def test_two_processes_with_half_of_the_weights_each_train_as_one_does(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(trl_run._Journal, "on_save", trl_run._Journal.on_save)  # put back after what follows
        patch.setattr(ppo_loop, "save", ppo_loop.save)
        stop_when_first_saved()
        for method in METHODS:
            assert train(method, folder, "one-then-two") == 1
    said = launch(folder, LAUNCHED, CONFIGURATION)
    shares = [
        tuple(int(number.replace(",", "")) for number in found)
        for found in re.findall(r"holds (\S+) of (\S+) weights", said)
    ]
    assert len(shares) == 9
    assert all(here < 0.52 * every for here, every in shares), shares
    for method in METHODS:
        weights = same_whatever_the_launch(method, folder)
    loaded, report = AutoModelForCausalLM.from_pretrained(folder / "ppo-two" / "checkpoint", output_loading_info=True)
    assert not report["missing_keys"]
    assert loaded.num_parameters() == sum(tensor.numel() for tensor in weights.values())


def same_whatever_the_launch(method: str, folder: Path) -> dict[str, torch.Tensor]:
    """Train on one process, and on from where two were stopped; assert that all four runs saw the same. Returns the weights."""
    assert train(method, folder, "one") == 0
    assert train(method, folder, "two-then-one") == 0
    runs = [folder / f"{method}-{name}" for name in ("one", "two", "one-then-two", "two-then-one")]
    expected = seen(method, runs[0])
    assert len(expected) == (3 if method == "ppo" else 4)
    weights = load_file(runs[0] / "checkpoint" / "model.safetensors")
    for run in runs[1:]:
        for found, wanted in zip(seen(method, run), expected, strict=True):
            assert found == pytest.approx(wanted, rel=1e-3, abs=1e-5), run
        held = load_file(run / "checkpoint" / "model.safetensors")
        assert held.keys() == weights.keys()
        for name, tensor in held.items():
            assert torch.allclose(tensor, weights[name], atol=1e-4), (run, name)
    return weights


def seen(method: str, run: Path) -> list[list[float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [[line[key] for key in SEEN[method]] for line in lines if SEEN[method][0] in line]


def launch(folder: Path, code: str, configuration: Path, timeout: float = 280, **variables: str) -> str:
    """What two processes under a file of training/launch/ said on stderr."""
    script = folder / "launched.py"
    script.write_text(code)
    here = Path(__file__).parent
    paths = os.pathsep.join(map(str, (here, here.parent, here.parents[1])))
    words = ["-m", "accelerate.commands.launch", "--config_file", str(configuration), "--num_processes", "2"]
    finished = subprocess.run(
        [sys.executable, *words, str(script), str(folder)],
        env={**os.environ, "PYTHONPATH": paths, **variables}, capture_output=True, text=True, check=False, timeout=timeout,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stderr
