"""A reward function that was changed between two attempts at a run: no file and no figure mixes what two functions said."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from tiny_model import save_reward_model

from training.__main__ import main
from training.best_of_n_record import BestOfNRecord
from training.ppo_guards import Measured, reason_to_stop
from training.ppo_recipe import GuardSettings
from training.reward_sources import scored_alike_from, scored_by
from training.run_record import RewardSource, RunRecord

# Lengths of answers, far below zero once the function was changed; the nth call fails, as one that is told to does.
JUDGE = """
from pathlib import Path

def judge(samples, prompts, outputs):
    calls = Path(__file__).with_suffix(".calls")
    calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
    assert len(calls.read_text()) != FAILS_AT, "tired"
    return [SHIFT + len(output) for output in outputs]
"""


def judge_in(folder: Path, shift: float, fails_at: int = 0) -> str:
    """Write the function; its SHA-256."""
    text = JUDGE.replace("SHIFT", str(shift)).replace("FAILS_AT", str(fails_at))
    (folder / "judge.py").write_text(text)
    return hashlib.sha256(text.encode()).hexdigest()


def recipe(folder: Path, method: str, tiny: Path, **values: object) -> Path:
    rows = [{"prompt": f"question {number}"} for number in range(10)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {
        "method": method,
        "dtype": "float32",
        "reward_function": f"{folder}/judge.py:judge",
        "prompts": {"source": str(folder / "prompts.jsonl"), "heldout_fraction": 0.2},
        "generation": {"max_new_tokens": 6},
        ("policy" if method == "best-of-n" else "base"): str(tiny),
    }
    file = folder / f"{method}.yaml"
    file.write_text(yaml.safe_dump({**common, **values}))
    return file


def train(method: str, file: Path, out: Path) -> int:
    return main([method, "--recipe", str(file), "--out", str(out)])


@pytest.fixture
def ppo(tmp_path: Path, tiny: Path) -> Path:
    settings = {"total_episodes": 24, "batch_size": 4, "mini_batch_size": 4, "num_ppo_epochs": 1, "save_updates": 2}
    return recipe(tmp_path, "ppo", tiny, lora=None, ppo=settings)


def test_answers_of_best_of_n_that_another_function_scored_are_scored_anew(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generation = {"max_new_tokens": 100}
    file = recipe(tmp_path, "best-of-n", tiny, n=4, batch_size=3, generation=generation)
    judge_in(tmp_path, 0.0, fails_at=3)
    assert train("best-of-n", file, tmp_path / "out") == 2
    now = judge_in(tmp_path, -1000.0)
    assert train("best-of-n", file, tmp_path / "out") == 0
    assert "scoring 24 answers of before anew" in capsys.readouterr().err
    record = BestOfNRecord.read(tmp_path / "out" / "best_of_n.json")
    assert [source.sha256 for source in record.rewards] == [now]
    rows = [json.loads(line) for line in (tmp_path / "out" / "samples.jsonl").read_bytes().splitlines()]
    assert [row["reward"] for row in rows] == [-1000 + len(row["response"]) for row in rows]
    assert set(rows[0]) == {"prompt", "response", "reward"}


def test_best_of_n_does_not_continue_with_another_reward_model(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reward = tmp_path / "reward"
    save_reward_model(reward)
    one = {"max_new_tokens": 1}  # no answer ends within it, which is an error that leaves the answers where they are
    model = {"reward_function": None, "reward_model": str(reward)}
    file = recipe(tmp_path, "best-of-n", tiny, n=2, batch_size=3, generation=one, **model)
    assert train("best-of-n", file, tmp_path / "out") == 2
    assert (tmp_path / "out" / ".state" / "samples.jsonl").is_file()
    save_reward_model(reward, seed=7)
    capsys.readouterr()
    assert train("best-of-n", file, tmp_path / "out") == 2
    assert "other contents of the reward model" in capsys.readouterr().err


def test_a_ppo_run_compares_rewards_of_one_function_only(tmp_path: Path, ppo: Path) -> None:
    first = judge_in(tmp_path, 0.0, fails_at=4)  # one call measures the held-out prompts, the fourth is update 3
    assert train("ppo", ppo, tmp_path / "out") == 2
    second = judge_in(tmp_path, -1000.0)
    assert train("ppo", ppo, tmp_path / "out") == 0
    record = RunRecord.read(tmp_path / "out" / "run.json")
    assert [(source.sha256, source.from_update) for source in record.rewards] == [(first, 1), (second, 3)]
    metrics = record.metrics
    assert metrics["episodes"] == 24
    rewards = ("heldout_reward_before", "heldout_reward_after", "reward_first_fifth", "reward_last_fifth")
    assert all(metrics[name] < -900 for name in rewards), "what the first function said is compared with nothing"


def test_ppo_that_keeps_its_best_keeps_the_best_by_the_function_that_it_ends_with(tmp_path: Path, ppo: Path) -> None:
    values = yaml.safe_load(ppo.read_text()) | {"guards": {"heldout_every": 1}}
    ppo.write_text(yaml.safe_dump(values))
    judge_in(tmp_path, 0.0, fails_at=6)  # measured before, after updates 1 and 2, and update 3 scored is the sixth
    assert train("ppo", ppo, tmp_path / "out") == 2
    judge_in(tmp_path, -1000.0)
    assert train("ppo", ppo, tmp_path / "out") == 0
    metrics = RunRecord.read(tmp_path / "out" / "run.json").metrics
    assert all(metrics[f"heldout_reward_{name}"] < -900 for name in ("before", "after", "last"))
    assert metrics["best_update"] >= 2


@pytest.mark.parametrize("method", ["rloo", "grpo"])
def test_the_record_of_trls_methods_names_what_scored_which_steps(method: str, tmp_path: Path, tiny: Path) -> None:
    args = {"max_steps": 6, "per_device_train_batch_size": 4, "num_generations": 2, "logging_steps": 1, "save_steps": 2}
    file = recipe(tmp_path, method, tiny, lora=None, args={**args, "gradient_accumulation_steps": 1})
    first = judge_in(tmp_path, 0.0, fails_at=5)  # one call measures the held-out prompts, the fifth is step 4
    assert train(method, file, tmp_path / "out") == 2
    second = judge_in(tmp_path, -1000.0)
    assert train(method, file, tmp_path / "out") == 0
    record = RunRecord.read(tmp_path / "out" / "run.json")
    assert [(source.sha256, source.from_update) for source in record.rewards] == [(first, 1), (second, 3)]
    rewards = ("heldout_reward_before", "heldout_reward_after", "reward_first_fifth", "reward_last_fifth")
    assert all(record.metrics[name] < -900 for name in rewards)


def test_what_scored_no_update_is_not_named_and_what_is_the_same_is_named_once() -> None:
    first, second, third = (RewardSource(kind="function", name="judge.py:judge", sha256=each) for each in "abc")
    noted = scored_by([], first, 0)
    assert scored_by(noted, first, 4) == noted
    noted = scored_by(noted, second, 4)
    noted = scored_by(noted, third, 4)  # the second failed at once
    assert [(one.sha256, one.from_update) for one in noted] == [("a", 1), ("c", 5)]
    assert [scored_alike_from(noted, last) for last in (4, 5, 9)] == [1, 5, 5]
    assert scored_alike_from([], 3) == 1


def test_a_fall_of_the_reward_where_its_function_was_changed_is_no_sign_of_hacking() -> None:
    lines = [
        {"step": step, "reward_mean": -1000.0 if step < 5 else 1.0, "kl": 0.0, "response_tokens": 6}
        for step in range(1, 9)
    ]
    fell = [Measured(0, [3.0, 3.1, 3.0], 0.0), Measured(6, [1.0, 1.1, 1.0], 0.0), Measured(8, [1.0, 1.1, 1.0], 0.0)]
    guards = GuardSettings(heldout_every=2)
    assert reason_to_stop(lines, fell, guards) is not None
    assert reason_to_stop(lines, fell, guards, since=5) is None
