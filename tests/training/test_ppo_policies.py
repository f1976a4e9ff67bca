"""Policies that a guarded PPO run keeps beside its state: few at any time, and all that an interrupted one continues with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from training import ppo_loop
from training.__main__ import main
from training.ppo import PPO
from training.run_record import RunRecord

JUDGE = "def judge(outputs, **_):\n    return [sum(letter < 'a' for letter in output) / 12 for output in outputs]\n"


class Killed(BaseException):
    """What ends a run in the middle, as a kill does."""


def recipe(folder: Path, tiny: Path, save_updates: int) -> Path:
    (folder / "judge.py").write_text(JUDGE)
    ppo = {"total_episodes": 48, "batch_size": 4, "mini_batch_size": 4, "num_ppo_epochs": 1, "learning_rate": 1e-3}
    value = {
        "method": "ppo",
        "base": str(tiny),
        "reward_function": f"{folder}/judge.py:judge",
        "prompts": {"source": "starter", "limit": 8, "heldout_limit": 3},
        "max_prompt_length": 200,
        "dtype": "float32",
        "lora": None,
        "generation": {"max_new_tokens": 8},
        "guards": {"max_kl": 500.0, "heldout_every": 3},
        "ppo": {**ppo, "save_updates": save_updates},
    }
    file = folder / "ppo.yaml"
    file.write_text(yaml.safe_dump(value))
    return file


def policies(run: Path) -> set[str]:
    return {file.name for file in (run / ".state").glob("policy-*.pt")}


def test_a_guarded_run_keeps_few_policies_however_seldom_it_is_saved(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, counts = tmp_path / "run", []
    keep = ppo_loop.keep_policy

    def counting(*values: Any) -> None:
        keep(*values)
        counts.append(len(policies(out)))

    monkeypatch.setattr(ppo_loop, "keep_policy", counting)
    assert main(["ppo", "--recipe", str(recipe(tmp_path, tiny, save_updates=100)), "--out", str(out)]) == 0
    assert len(counts) >= 11, "the policy is kept before each update but the first"
    assert max(counts) <= 3, "the best, the last within the limits, and the one whose update is in hand"


@pytest.mark.parametrize("after", [5, 7, 10])
def test_a_guarded_run_that_was_killed_between_two_saves_ends_as_if_it_had_not_been(
    after: int, tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = recipe(tmp_path, tiny, save_updates=4)
    straight, killed = tmp_path / "straight", tmp_path / "killed"
    assert main(["ppo", "--recipe", str(file), "--out", str(straight)]) == 0
    with monkeypatch.context() as patch:
        update = PPO.update

        def dies(self: PPO) -> dict:
            if self.updates_done == after:
                raise Killed
            return update(self)

        patch.setattr(PPO, "update", dies)
        with pytest.raises(Killed):
            main(["ppo", "--recipe", str(file), "--out", str(killed)])
    assert len(policies(killed)) <= 5
    assert main(["ppo", "--recipe", str(file), "--out", str(killed)]) == 0
    records = [RunRecord.read(run / "run.json") for run in (straight, killed)]
    assert records[0].checkpoint_digest == records[1].checkpoint_digest
    assert records[0].metrics["best_update"] == records[1].metrics["best_update"]
