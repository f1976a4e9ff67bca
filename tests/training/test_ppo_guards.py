"""PPO stops by itself where it goes wrong, says with figures why, and keeps the best policy that it had."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from training.checkpoint import Checkpoint
from training.compute_plan import PostTraining
from training.errors import UsageError
from training.metric_names import metric_names
from training.plan_command import recipes
from training.ppo_guards import Measured, best, reason_to_stop
from training.ppo_recipe import GuardSettings, PPORecipe, PPOSettings
from training.ppo_run import train_ppo
from training.recipe import DataSettings, Generation, LoraSettings, find_recipe
from training.run_record import RunRecord
from training.yaml_file import load


def lines(**columns: list[float]) -> list[dict]:
    """Metrics of as many updates as the columns have numbers."""
    plain = {"kl": 1.0, "response_tokens": 20.0, "reward_mean": 0.0}
    length = len(next(iter(columns.values())))
    return [
        {"step": place + 1, **plain, **{name: column[place] for name, column in columns.items()}}
        for place in range(length)
    ]


def test_without_guards_nothing_stops() -> None:
    wild = lines(kl=[0.0, 900.0] * 4, response_tokens=[1.0] * 4 + [99.0] * 4)
    assert reason_to_stop(wild, [], GuardSettings()) is None


def test_a_kl_over_the_limit_stops_and_names_the_last_update_within_it() -> None:
    guards = GuardSettings(max_kl=10.0)
    assert reason_to_stop(lines(kl=[1.0, 12.0, 9.0]), [], guards) is None
    stop = reason_to_stop(lines(kl=[1.0, 9.0, 12.5]), [], guards)
    assert "KL 12.50 nats a response in update 3" in stop.figures
    assert "update within it was 2 with 9.00" in stop.figures
    assert "ppo.kl_coef" in stop.next_step


@pytest.mark.parametrize(("last", "word"), [([60.0] * 3, "longer"), ([5.0] * 3, "shorter"), ([20.0, 20.0, 60.0], None)])
def test_a_length_that_runs_away_stops_and_one_odd_batch_does_not(last: list[float], word: str | None) -> None:
    stop = reason_to_stop(lines(response_tokens=[20.0] * 3 + last), [], GuardSettings(max_length_change=2.0))
    assert (stop is None) == (word is None)
    if stop is not None:
        assert word in stop.what
        assert "20.0 in the first 3" in stop.figures


def measured(update: int, mean: float, kl: float = 1.0) -> Measured:
    return Measured(update, [mean + 0.1 * (place % 4) for place in range(8)], kl)


def test_rewards_that_rise_while_held_out_ones_fall_twice_stop() -> None:
    guards = GuardSettings(heldout_every=2, heldout_patience=2)
    rising = lines(reward_mean=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    seen = [measured(0, 0.0), measured(2, 0.5), measured(4, 0.3), measured(6, 0.2)]
    stop = reason_to_stop(rising, seen, guards)
    assert "held-out 0.650, then 0.450, 0.350" in stop.figures
    assert reason_to_stop(rising, seen[:3], guards) is None, "once is not enough"
    assert reason_to_stop(lines(reward_mean=[0.6, 0.5, 0.4, 0.3, 0.2, 0.1]), seen, guards) is None, "both fall"
    noisy = [*seen[:2], Measured(4, [2.0, -1.5] * 4, 1.0), Measured(6, [2.0, -1.6] * 4, 1.0)]
    assert reason_to_stop(rising, noisy, guards) is None, "within the noise of the prompts"


def test_the_best_is_the_highest_held_out_reward_within_the_kl_limit() -> None:
    seen = [measured(0, 9.0), measured(2, 0.5, kl=3.0), measured(4, 0.9, kl=30.0), measured(6, 0.4)]
    assert best(seen, max_kl=10.0).update == 2
    assert best(seen, max_kl=None).update == 4
    assert best(seen[:1], max_kl=None) is None


# What is good for the prompts trained on is bad for the held-out ones, which are marked.
TWO_FACED = """
def judge(samples, prompts, outputs):
    shares = [sum(letter < "a" for letter in output) / 12 for output in outputs]
    return [-share if "HELDOUT" in prompt else share for share, prompt in zip(shares, prompts)]
"""
RISING = """
def judge(outputs, **_):
    return [sum(letter < "a" for letter in output) / 12 for output in outputs]
"""


def run_ppo(tiny: Path, out: Path, function: str, guards: GuardSettings, **settings: object) -> RunRecord:
    out.parent.mkdir(exist_ok=True, parents=True)
    file = out.parent / "judge.py"
    file.write_text(function)
    rows = [{"prompt": f"Question {number}{' HELDOUT' if number >= 8 else ''}"} for number in range(16)]
    for name, some in (("train", rows[:8]), ("test", rows[8:])):
        folder = out.parent / "data"
        folder.mkdir(exist_ok=True)
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    values = {
        "total_episodes": 160,
        "lr_scheduler_type": "constant",
        "batch_size": 8,
        "mini_batch_size": 8,
        "learning_rate": 1e-3,
        "kl_coef": 0.0,
    }
    recipe = PPORecipe(
        method="ppo",
        base=str(tiny),
        reward_function=f"{file}:judge",
        prompts=DataSettings(source=str(out.parent / "data"), heldout_split="test"),
        max_prompt_length=200,
        dtype="float32",
        lora=None,
        generation=Generation(max_new_tokens=12),
        guards=guards,
        ppo=PPOSettings(**{**values, **settings}),
    )
    record = train_ppo(recipe, out)
    assert set(record.metrics) <= metric_names(recipe)
    return record


def test_a_run_that_leaves_the_kl_limit_keeps_the_best_policy_that_was_within_it(tiny: Path, tmp_path: Path) -> None:
    guards = GuardSettings(max_kl=2.0, heldout_every=1)
    record = run_ppo(tiny, tmp_path / "guarded", RISING, guards)
    assert "run away from the reference" in record.stopped
    figures, log = record.metrics, (tmp_path / "guarded" / "metrics.jsonl").read_text().splitlines()
    updates = [json.loads(line) for line in log]
    assert len(updates) < 20
    assert updates[-1]["kl"] > 2.0 >= updates[-2]["kl"]
    within = [line for line in updates if line["heldout_kl"] <= 2.0]
    assert figures["heldout_reward_after"] == max(line["heldout_reward"] for line in within)
    assert figures["heldout_reward_after"] > figures["heldout_reward_before"]
    assert figures["heldout_kl_after"] <= 2.0
    assert figures["heldout_reward_after_resampled"] > figures["heldout_reward_before"]
    # The checkpoint is that update's policy: a run that ends there has the same.
    until = run_ppo(tiny, tmp_path / "until", RISING, GuardSettings(), total_episodes=8 * int(figures["best_update"]))
    assert (
        until.checkpoint_digest == record.checkpoint_digest == Checkpoint.open(tmp_path / "guarded/checkpoint").digest
    )


@pytest.mark.parametrize("every", [None, 100], ids=["never measured", "left between two measurements"])
def test_a_run_stopped_for_its_kl_keeps_the_last_policy_within_the_limit(
    tiny: Path, tmp_path: Path, every: int | None
) -> None:
    record = run_ppo(tiny, tmp_path / "guarded", RISING, GuardSettings(max_kl=2.0, heldout_every=every))
    assert "run away from the reference" in record.stopped
    updates = [json.loads(line) for line in (tmp_path / "guarded" / "metrics.jsonl").read_text().splitlines()]
    assert updates[-1]["kl"] > 2.0 >= updates[-2]["kl"], "the update samples from the policy before it"
    kept = record.metrics["best_update" if every else "kept_update"]
    # Measured, the policy that the run was stopped with may be within the limit on held-out prompts, and better.
    assert kept in ([updates[-2]["step"] - 1, updates[-1]["step"]] if every else [updates[-2]["step"] - 1])
    assert record.metrics["heldout_reward_after"] > record.metrics["heldout_reward_before"]
    assert ("heldout_reward_after_resampled" in record.metrics) == bool(every)
    until = run_ppo(tiny, tmp_path / "until", RISING, GuardSettings(), total_episodes=8 * int(kept))
    assert until.checkpoint_digest == record.checkpoint_digest


def test_a_run_stopped_for_its_lengths_keeps_the_last_policy_whose_lengths_were_within_the_limit(
    tiny: Path, tmp_path: Path
) -> None:
    """The limit is so narrow that the few answers which end by themselves trip it."""
    record = run_ppo(tiny, tmp_path / "guarded", RISING, GuardSettings(max_length_change=1.0001))
    assert "the responses have become much" in record.stopped
    updates = [json.loads(line) for line in (tmp_path / "guarded" / "metrics.jsonl").read_text().splitlines()]
    assert 6 <= len(updates) < 20, "the first three updates are compared with three others"
    assert record.metrics["kept_update"] == len(updates) - 2, (
        "of that policy the update before the last one told the length"
    )
    until = run_ppo(tiny, tmp_path / "until", RISING, GuardSettings(), total_episodes=8 * (len(updates) - 2))
    assert until.checkpoint_digest == record.checkpoint_digest


def test_a_run_within_its_limits_is_to_the_bit_the_run_without_them(tiny: Path, tmp_path: Path) -> None:
    with_limits = GuardSettings(max_kl=25.0, max_length_change=4.0)
    small = {"total_episodes": 56, "lr_scheduler_type": "linear"}
    one, other = (
        run_ppo(tiny, tmp_path / f"{n}", RISING, g, **small) for n, g in enumerate((with_limits, GuardSettings()))
    )
    assert one.stopped is None
    assert one.checkpoint_digest == other.checkpoint_digest
    assert one.metrics["heldout_reward_after"] == other.metrics["heldout_reward_after"]


def test_the_recipes_that_ship_stop_by_themselves(tmp_path: Path) -> None:
    starter = load(find_recipe("ppo-starter"), PPORecipe, [])
    planned = recipes(PostTraining(), gpus=8)["ppo"]
    for recipe in (starter, planned):
        assert isinstance(recipe, PPORecipe)
        assert recipe.guards.max_kl is not None
        assert recipe.guards.max_length_change is not None
    assert planned.guards.heldout_every == 20, "a run of 500 updates keeps its best policy, not merely the last"


def test_a_run_of_one_episode_has_a_record_without_an_error_of_its_gain(tiny: Path, tmp_path: Path) -> None:
    one = {"total_episodes": 1, "batch_size": 1, "mini_batch_size": 1, "scale_rewards": False}
    metrics = run_ppo(tiny, tmp_path / "run", RISING, GuardSettings(), **one).metrics
    assert (metrics["episodes"], metrics["reward_gain"]) == (1.0, 0.0)
    assert "reward_gain_stderr" not in metrics


def test_a_target_for_a_coefficient_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'kl_target' multiplies 'kl_coef'"):
        PPOSettings(kl_coef=0.0, kl_target=1.0)


def test_dropout_which_learning_would_not_share_with_sampling_is_refused() -> None:
    prompts = DataSettings(source="starter")
    lora = LoraSettings(lora_dropout=0.1)
    with pytest.raises(ValueError, match=r"'lora.lora_dropout' must be 0"):
        PPORecipe(method="ppo", base="base", reward_model="reward", prompts=prompts, lora=lora)


def test_a_run_whose_held_out_reward_only_falls_stops_and_keeps_nothing(tiny: Path, tmp_path: Path) -> None:
    guards = GuardSettings(heldout_every=2)
    fast = {"batch_size": 32, "mini_batch_size": 16, "learning_rate": 5e-3, "total_episodes": 640}
    said = r"held-out reward falls[\s\S]*held-out -?\d[\s\S]*none was better on held-out prompts than the base"
    with pytest.raises(UsageError, match=said):
        run_ppo(tiny, tmp_path / "run", TWO_FACED, guards, **fast)
    assert not (tmp_path / "run" / "run.json").exists()
    lines = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert len(lines.splitlines()) < 20
    with pytest.raises(UsageError, match=said):
        run_ppo(tiny, tmp_path / "run", TWO_FACED, guards, **fast)
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == lines, "the same command does not train on"


def test_a_run_that_diverges_says_so(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"diverged: the gradient is (nan|inf) in update 1[\s\S]*learning_rate"):
        run_ppo(tiny, tmp_path / "run", RISING, GuardSettings(), learning_rate=1e30)


def test_measuring_on_held_out_prompts_needs_some(tiny: Path, tmp_path: Path) -> None:
    recipe = PPORecipe(
        method="ppo",
        base=str(tiny),
        reward_url="http://127.0.0.1:9/",
        prompts=DataSettings(source="starter", heldout_fraction=0.0),
        max_prompt_length=200,
        guards=GuardSettings(heldout_every=1),
    )
    with pytest.raises(UsageError, match=r"guards\.heldout_every measures on held-out prompts"):
        train_ppo(recipe, tmp_path / "run")
