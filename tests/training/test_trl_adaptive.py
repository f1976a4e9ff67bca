"""What TRL's methods adapt beside the weights goes over an interruption: a synchronised reference, a coefficient of entropy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from training import trl_run
from training.__main__ import main
from training.run_record import RunRecord

JUDGE = "def judge(outputs, **_):\n    return [sum(letter < 'a' for letter in output) / 12 for output in outputs]\n"
SYNCED = {"sync_ref_model": True, "ref_model_sync_steps": 2, "beta": 0.1}


class Interrupted(Exception):
    """What stops a run in the middle of this process."""


def recipe(folder: Path, method: str, tiny: Path, args: dict) -> Path:
    rows = [{"prompt": f"Colour {number}?", "chosen": "blue", "rejected": "red"} for number in range(40)]
    data = {"source": str(folder / "pairs.jsonl")}
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "judge.py").write_text(JUDGE)
    online = {"reward_function": f"{folder}/judge.py:judge", "prompts": data, "generation": {"max_new_tokens": 6}}
    common = {
        "max_steps": 10,
        "per_device_train_batch_size": 8,
        "logging_steps": 1,
        "save_steps": 3,
        "learning_rate": 5e-3,
    }
    value = {
        "method": method,
        "base": str(tiny),
        "dtype": "float32",
        "lora": None,
        "args": {**common, **args},
        **(online if method in ("rloo", "grpo") else {"data": data, "max_length": 100}),
    }
    file = folder / f"{method}.yaml"
    file.write_text(yaml.safe_dump(value))
    return file


@pytest.mark.parametrize(
    ("method", "args"),
    [
        ("grpo", SYNCED),
        ("rloo", SYNCED),
        ("dpo", SYNCED),
        ("kto", SYNCED),
        ("grpo", {"use_adaptive_entropy": True, "entropy_target": 5.0, "entropy_coef_delta": 0.01}),
    ],
)
def test_an_interrupted_run_continues_with_what_it_had_adapted(
    method: str, args: dict, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recipe(tmp_path, method, tiny, args)
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    assert main([method, "--recipe", str(file), "--out", str(straight)]) == 0
    whole = trl_run._Journal.on_save

    def stop(self: object, args: object, state: object, control: object, **more: object) -> None:
        if state.global_step > 6:
            raise Interrupted
        whole(self, args, state, control, **more)

    with monkeypatch.context() as patch:
        patch.setattr(trl_run._Journal, "on_save", stop)
        assert main([method, "--recipe", str(file), "--out", str(stopped)]) == 1
    assert main([method, "--recipe", str(file), "--out", str(stopped)]) == 0
    records = [RunRecord.read(run / "run.json") for run in (straight, stopped)]
    assert records[0].checkpoint_digest == records[1].checkpoint_digest
