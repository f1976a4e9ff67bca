"""The parts of runs as the other packages write them, small enough to be made anew for every test."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

from evals.saved import samples_as_bytes
from evals.scorecard import EvaluatedModel, Interval, Sample, Score, Scorecard, Settings, TaskSettings
from training.checkpoint import Checkpoint
from training.run_record import DataSource, Hardware, ParentCheckpoint, RunRecord

ITEMS = 20
RESPONSES = {
    "truth": "It is made of ``` cheese.",
    "swear": " bloody idiots, all of them",
    "help": "Sure! /home/me is a folder.",
}


def make_checkpoint(
    path: Path, content: bytes = b"\x00\x01\x02\x03", architecture: str = "LlamaForCausalLM"
) -> Checkpoint:
    """A directory with whole safetensors weights of four bytes; nothing loads it."""
    path.mkdir(parents=True)
    header = json.dumps({"w": {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}}).encode()
    (path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + content)
    (path / "config.json").write_text(json.dumps({"architectures": [architecture], "model_type": "llama"}))
    (path / "chat_template.jinja").write_text("{{ messages }}")
    return Checkpoint.open(path)


def a_score(task: str, metric: str, group: str, values: list[float], **changes: Any) -> Score:
    mean = sum(values) / len(values)
    fields: dict[str, Any] = {
        "task": task,
        "metric": metric,
        "group": group,
        "value": mean,
        "stderr": 0.05,
        "interval": Interval(low=mean - 0.1, high=mean + 0.1, method="bootstrap over documents, 10,000 resamples"),
        "n": len(values),
        "unscored": 0,
        "higher_is_better": True,
        "headline": True,
    }
    return Score(**(fields | changes))


def scores_of(right: list[float]) -> list[Score]:
    """The scores of every task, whose items are right where `right` is 1."""
    return [
        a_score(
            "help", "win_rate", "helpfulness", right, scorer="reward model 9f2c", baseline={"longer answer wins": 0.553}
        ),
        a_score(
            "help",
            "mean_reward",
            "helpfulness",
            [4 * value - 1 for value in right],
            unit="reward",
            scorer="reward model 9f2c",
        ),
        a_score("truth", "mc2", "truthfulness", right),
        a_score("truth", "mc1", "truthfulness", right, headline=False),
        a_score(
            "swear",
            "rate_some_checker",
            "toxicity",
            [1 - value for value in right],
            higher_is_better=False,
            scorer="some-checker 1.0",
            unscored=2,
        ),
    ]


def samples_of(task: str, scores: list[Score], right: list[float]) -> list[Sample]:
    """The items by which these scores are made."""
    return [
        Sample(
            item=f"{task}-{item}",
            prompt=f"Question {item} of {task}?",
            target="Rock." if task == "truth" else None,
            response=RESPONSES[task],
            values={
                score.metric: (
                    4 * right[item] - 1
                    if score.unit == "reward"
                    else right[item]
                    if score.higher_is_better
                    else 1 - right[item]
                )
                for score in scores
                if score.task == task
            },
        )
        for item in range(ITEMS)
    ]


def settings_of(task: str) -> TaskSettings:
    return TaskSettings(
        task=task,
        version="1.0",
        data_id=f"evals/tasks/data/{task}.jsonl",
        data_sha256="ab" * 32,
        chat_template=True,
        items=ITEMS,
    )


def write_scorecard(run: Path, digest: str, good: int, *, suite: str = "starter", **changes: Any) -> Scorecard:
    """A scorecard in which `good` of 20 items of every task are right, with its samples."""
    right = [float(item < good) for item in range(ITEMS)]
    scores = scores_of(right)
    hashes = {}
    for task in ("help", "truth", "swear"):
        content = samples_as_bytes(samples_of(task, scores, right))
        (run / "samples").mkdir(parents=True, exist_ok=True)
        (run / "samples" / f"{task}.jsonl").write_bytes(content)
        hashes[task] = hashlib.sha256(content).hexdigest()
    fields: dict[str, Any] = {
        "model": EvaluatedModel(name=str(run / "checkpoint"), digest=digest, parameters=134_515_008),
        "scores": scores,
        "settings": Settings(
            suite=suite,
            suite_sha256="cd" * 32,
            backend="hf",
            dtype="bfloat16",
            device="cpu",
            batch_size=16,
            seed=0,
            tasks=[settings_of(task) for task in hashes],
        ),
        "samples": hashes,
        "packages": {"lm-eval": "0.4.13"},
        "git_revision": None,
        "created": "2026-11-20T10:00:00+00:00",
        "seconds": 12.0,
    }
    card = Scorecard(**(fields | changes))
    card.write(run / "scorecard.json")
    return card


def a_run_record(digest: str, base: ParentCheckpoint) -> RunRecord:
    return RunRecord(
        method="ppo",
        checkpoint_digest=digest,
        recipe={
            "method": "ppo",
            "base": "/home/me/runs/base",
            "prompts": {"source": "/tmp/data/prompts.jsonl"},
            "ppo": {"kl_coef": 0.05},
        },
        parents=[base, ParentCheckpoint(role="reward_model", name="/work/runs/reward", digest="sha256:" + "7" * 64)],
        data=[
            DataSource(
                id="/tmp/data/prompts.jsonl",
                split="train",
                sha256="e" * 64,
                rows=300,
                rows_dropped=4,
                why_dropped={"exact repeat": 4},
            ),
            DataSource(
                id="Anthropic/hh-rlhf", revision="a" * 40, split="train", sha256="f" * 64, rows=1000, license="mit"
            ),
            DataSource(id="data/local", split="train", sha256="1" * 64, rows=10),
        ],
        seed=3,
        packages={"torch": "2.13.0"},
        git_revision="ea536d73910599fd1e83bae78ba5b697d3809d2c",
        hardware=Hardware(machine="Linux x86_64", processor="AMD EPYC", cores=2, device="cpu", memory_gib=23.5),
        started="2026-11-19T10:00:00+00:00",
        seconds=191.0,
        metrics={"reward_mean": 1.0, "kl": 0.2},
    )
