"""Runs as the other packages write them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from card_runs import a_run_record, make_checkpoint, write_scorecard

from training.run_record import ParentCheckpoint


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """A PPO run with everything: checkpoint, records, metrics, scorecard, samples, baseline. Parts can be left out."""

    def make(
        name: str = "ppo", *, record: bool = True, scored: bool = True, baseline: bool = True, **parent: Any
    ) -> Path:
        run = tmp_path / name
        digest = make_checkpoint(run / "checkpoint").digest
        parent_digest = "sha256:" + "5" * 64
        if record:
            base = {
                "hub_id": "HuggingFaceTB/SmolLM2-135M-Instruct",
                "license": "apache-2.0",
                "note": "dequantised",
            } | parent
            a_run_record(
                digest, ParentCheckpoint(role="base", name="/home/me/runs/base", digest=parent_digest, **base)
            ).write(run / "run.json")
            lines = [
                {
                    "step": n,
                    "episodes": 32 * n,
                    "reward_mean": n / 10,
                    "reward_std": 0.5,
                    "kl": n / 50,
                    "policy_loss": 0.1,
                }
                for n in range(1, 11)
            ]
            (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if scored:
            write_scorecard(run, digest, good=16)
        if baseline:
            write_scorecard(run / "baseline", parent_digest, good=6)
        return run

    return make
