"""Runs that one process makes alone or two share: what they train, and whether each continues what the other began."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from training import ppo_loop, trl_run
from training.__main__ import main

METHODS = ("sft", "reward", "ppo")
SEEN = {"sft": ("loss",), "reward": ("loss",), "ppo": ("reward_mean", "kl", "policy_loss", "value_loss", "grad_norm")}
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
