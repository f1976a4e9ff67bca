"""The whole thread with the commands that a user types, on a tiny model: base, reward, PPO, scores, release, verify."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_model import save_model

from release.local_hub.server import RunningHub, running_hub

ROOT = Path(__file__).parents[1]
REPO, TAG = "slipway/tiny-ppo", "v1.0.0"
SCORES = ("--suite", "starter", "--limit", "20", "--dtype", "float32", "--judge", "runs/reward/checkpoint")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

LOAD = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
for argument in sys.argv[1:]:
    name, _, tag = argument.partition("@")
    where = {"revision": tag} if tag else {}
    tokenizer = AutoTokenizer.from_pretrained(name, **where)
    model = AutoModelForCausalLM.from_pretrained(name, **where)
    inputs = tokenizer("Tell me a story", return_tensors="pt", return_token_type_ids=False)
    print(model.generate(**inputs, max_new_tokens=16, do_sample=False).tolist())
"""


class Commands:
    """Runs commands in one folder, against one Hub."""

    def __init__(self, folder: Path, hub: RunningHub, token: str) -> None:
        self.folder = folder
        self.environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": token,
            "HF_HOME": str(folder / "hf"),
            "PYTHONPATH": str(ROOT),
        }

    def __call__(self, *words: str, code: int = 0) -> dict:
        """Run `python -m WORDS --json`; the object that it prints."""
        finished = self.python("-m", *words, "--json")
        assert finished.returncode == code, finished.stderr
        return json.loads(finished.stdout)

    def python(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            cwd=self.folder,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningHub, str]]:
    with running_hub(tmp_path_factory.mktemp("hub")) as running:
        yield running, running.store.create_user("slipway")


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, hub: tuple[RunningHub, str]) -> Commands:
    """A folder in which base, reward and ppo have been trained, scored, and ppo published."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "reward.yaml").write_text(
        "method: reward\nbase: runs/base\ndata: {source: starter}\ndtype: float32\nlora: null\nmax_length: 2000\n"
        "args: {max_steps: 2, per_device_train_batch_size: 4}\n"
    )
    (folder / "ppo.yaml").write_text(
        "method: ppo\nbase: runs/base\nreward_model: runs/reward\ndtype: float32\nmax_prompt_length: 200\n"
        "prompts: {source: starter, split: train, limit: 16}\ngeneration: {max_new_tokens: 8}\n"
        "ppo: {total_episodes: 32, batch_size: 16, mini_batch_size: 16, num_ppo_epochs: 1, learning_rate: 1.0e-3}\n"
    )
    save_model(folder / "tiny", context=2048)
    run = Commands(folder, *hub)
    run("training", "base", "tiny", "--license", "mit", "--out", "runs/base")
    run("training", "reward", "--recipe", "reward.yaml", "--out", "runs/reward")
    run("training", "ppo", "--recipe", "ppo.yaml", "--out", "runs/ppo")
    run("evals", "run", "runs/base/checkpoint", *SCORES, "--out", "runs/base")
    run("evals", "run", "runs/ppo/checkpoint", *SCORES, "--out", "runs/ppo", "--baseline", "runs/base")
    run("evals", "contamination", "runs/ppo")
    run("release", "publish", "--run", "runs/ppo", "--repo", REPO, "--tag", TAG, "--space")
    return run


def test_the_released_weights_are_the_trained_ones_and_not_the_parents(released: Commands) -> None:
    found = released("release", "verify", f"{REPO}@{TAG}", "--run", "runs/ppo")
    receipt = json.loads((released.folder / "runs/ppo/receipt.json").read_text())
    record = json.loads((released.folder / "runs/ppo/run.json").read_text())
    assert receipt["checkpoint_digest"] == record["checkpoint_digest"]
    assert record["parents"][0]["digest"] != record["checkpoint_digest"]
    assert record["checkpoint_digest"] in json.dumps(found)


def test_from_pretrained_by_name_in_an_empty_cache_answers_as_the_local_checkpoint(released: Commands) -> None:
    both = (f"{REPO}@{TAG}", "runs/ppo/checkpoint")
    loaded = released.python("-c", LOAD, *both, HF_HOME=str(released.folder / "empty"))
    assert loaded.returncode == 0, loaded.stderr
    there, here = loaded.stdout.splitlines()
    assert there == here


def test_everything_again_does_nothing_and_says_the_same(released: Commands) -> None:
    commit = json.loads((released.folder / "runs/ppo/receipt.json").read_text())["commit"]
    before = (released.folder / "runs/ppo/run.json").stat().st_mtime_ns
    released("training", "ppo", "--recipe", "ppo.yaml", "--out", "runs/ppo")
    cards = [released.folder / "runs" / name / "scorecard.json" for name in ("base", "ppo")]
    bytes_before = [card.read_bytes() for card in cards]
    released("evals", "run", "runs/base/checkpoint", *SCORES, "--out", "runs/base")
    released("evals", "run", "runs/ppo/checkpoint", *SCORES, "--out", "runs/ppo", "--baseline", "runs/base")
    assert [card.read_bytes() for card in cards] == bytes_before
    assert (released.folder / "runs/ppo/run.json").stat().st_mtime_ns == before
    released("release", "publish", "--run", "runs/ppo", "--repo", REPO, "--tag", TAG, "--space")
    assert json.loads((released.folder / "runs/ppo/receipt.json").read_text())["commit"] == commit


def test_a_checkpoint_made_worse_on_purpose_is_not_published_without_scores_of_its_own(released: Commands) -> None:
    """Noise in the weights: the scores are of other bytes."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    worse = shutil.copytree(released.folder / "runs/ppo", released.folder / "runs/worse")
    for name in ("plan.json", "journal.jsonl", "receipt.json", "bundle"):
        target = worse / name
        shutil.rmtree(target) if target.is_dir() else target.unlink()
    weights = worse / "checkpoint" / "model.safetensors"
    noisy = {name: tensor + 0.1 * torch.randn_like(tensor) for name, tensor in load_file(weights).items()}
    save_file(noisy, weights, metadata={"format": "pt"})
    refused = released("release", "publish", "--run", "runs/worse", "--repo", "slipway/worse", "--tag", TAG, code=3)
    assert "scorecard_pinned" in json.dumps(refused)
    missing = released("release", "verify", f"slipway/worse@{TAG}", code=5)
    assert "slipway/worse" in json.dumps(missing)


def test_one_flipped_byte_in_the_store_is_found_and_the_file_is_named(
    released: Commands, hub: tuple[RunningHub, str]
) -> None:
    blob = max((path for path in hub[0].store.root.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    try:
        mismatch = released("release", "verify", f"{REPO}@{TAG}", "--run", "runs/ppo", code=4)
        assert "model.safetensors" in json.dumps(mismatch)
    finally:
        content[-1] ^= 1
        blob.write_bytes(content)
    released("release", "verify", f"{REPO}@{TAG}", "--run", "runs/ppo")
