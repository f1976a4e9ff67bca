"""A PPO run from recipe to record: set up, loop with saved states, measure on held-out prompts, save the policy."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.checkpoint import Checkpoint
from training.completions import cut_completions
from training.lora_layers import with_chosen_layers
from training.ppo_loop import choose_policy, heldout_reward, measure, metrics_lines, train
from training.ppo_recipe import PPORecipe
from training.ppo_saved import STATE_FILE, Carried, resume, save, saved
from training.ppo_setup import Setup, set_up
from training.reference import save_with_reference
from training.reward_sources import TextRewards, same_source, scored_alike_from, scored_by
from training.run_directory import RunDirectory, with_chosen_dtype
from training.run_record import RewardSource, RunRecord, git_revision, hardware, now, package_versions
from training.trackers import Tracker, tracked
from training.weights_dtype import cast_weights


def train_ppo(recipe: PPORecipe, out: Path) -> RunRecord:
    """Run PPO and return its record. Where `out` is complete already, nothing is done."""
    recipe = with_chosen_layers(with_chosen_dtype(recipe, out), out)
    run = RunDirectory.open(out, recipe)
    if run.complete:
        return run.record()
    started, clock = now(), time.monotonic()
    setup = set_up(recipe)
    run.hold_inputs(setup.parents, setup.sources, continues=(run.state / STATE_FILE).is_file())
    ppo = setup.ppo
    carried = begin(setup, run)
    seconds_before = sum(float(line["seconds"]) for line in metrics_lines(run))
    told: Tracker | list[Tracker] = recipe.report_to if ppo.accelerator.is_main_process else "none"
    with tracked(told, run.path, recipe, ppo.updates_done) as tell:
        train(ppo, run, carried, setup.heldout, tell)
    chosen = choose_policy(ppo, run, carried)
    measured = {
        "heldout_reward_before": carried.heldout_before,
        "heldout_reward_after": None if "best_update" in chosen else heldout_reward(ppo, setup.heldout),
        # The best of several measurements is flattered by having been chosen for it; other answers are not.
        "heldout_reward_after_resampled": heldout_reward(ppo, setup.heldout, 1) if "best_update" in chosen else None,
        "ptx_heldout_loss_before": carried.mixed_before,
        "ptx_heldout_loss_after": setup.mixed_loss(),
        **chosen,
    }
    ppo.accelerator.wait_for_everyone()
    policy = ppo.place.whole_policy()
    if not ppo.accelerator.is_main_process:
        return run.wait_for_record()
    record = RunRecord(
        method="ppo",
        checkpoint_digest=save_policy(policy, setup, run.scratch / "checkpoint"),
        recipe=recipe.model_dump(mode="json"),
        parents=setup.parents,
        data=setup.sources,
        rewards=carried.rewards,
        seed=recipe.seed,
        packages=package_versions(),
        git_revision=git_revision(),
        hardware=hardware(str(ppo.accelerator.device)),
        started=started,
        seconds=round(seconds_before + time.monotonic() - clock, 2),
        metrics=summary(run, carried.rewards) | {name: value for name, value in measured.items() if value is not None},
        stopped=f"{carried.stopped.what}: {carried.stopped.figures}" if carried.stopped else None,
    )
    return run.finish(record)


def begin(setup: Setup, run: RunDirectory) -> Carried:
    """Continue from the saved state; or measure what there is to measure before the first update, and save that."""
    ppo = setup.ppo
    state = saved(run)
    source = ppo.rewards.source if isinstance(ppo.rewards, TextRewards) else None
    if state is None:
        if ppo.accelerator.is_main_process:
            cut_completions(run.path, 0)
        carried = Carried(mixed_before=setup.mixed_loss(), rewards=scored_by([], source, 0) if source else [])
        _measure_before(setup, carried)
        save(ppo, run, carried)
        return carried
    before = Carried()
    noted = [RewardSource(**each) for each in state["rewards"]]
    changed = source is not None and bool(noted) and not same_source(noted[-1], source)
    if changed:  # the policy is still the base
        _measure_before(setup, before)
    carried = resume(ppo, run, state)
    if ppo.accelerator.is_main_process:
        cut_completions(run.path, ppo.updates_done)
    if source is not None:
        carried.rewards = scored_by(carried.rewards, source, ppo.updates_done)
    if changed:  # what the other function said of held-out answers is not to be compared with what this one says
        carried.heldout_before, carried.measured = before.heldout_before, before.measured
    return carried


def _measure_before(setup: Setup, carried: Carried) -> None:
    """What the base's answers to held-out prompts are worth, before it has learned anything."""
    if setup.ppo.recipe.guards.heldout_every:
        carried.measured = [measure(setup.ppo, setup.heldout)]
    else:
        carried.heldout_before = heldout_reward(setup.ppo, setup.heldout)


def save_policy(policy: Any, setup: Setup, directory: Path) -> str:
    """Write `Placement.whole_policy` as a whole checkpoint in the base's precision; return its digest."""
    policy = cast_weights(policy, setup.base.checkpoint.dtype)
    policy.generation_config = setup.generation_config
    save_with_reference(policy, setup.ppo.tokenizer, directory)
    return Checkpoint.open(directory).digest


def summary(run: RunDirectory, rewards: Sequence[RewardSource] = ()) -> dict[str, float]:
    """The run in a few figures. A fifth is a fifth of the episodes; the standard error is that of a difference of means.

    Of a single episode there is none. Where the function that gives the `rewards` was changed on the way, the figures of rewards
    are of the episodes that the last one scored.
    """
    lines = metrics_lines(run)
    since = scored_alike_from(rewards, lines[-1]["step"])
    episodes = sum(len(line["scores"]) for line in lines)
    scores = [score for line in lines if line["step"] >= since for score in line["scores"]]
    fifth = max(2, len(scores) // 5)
    first, last = scores[:fifth], scores[-fifth:]
    error = {}
    if len(scores) > 1:
        both = statistics.variance(first) / len(first) + statistics.variance(last) / len(last)
        error = {"reward_gain_stderr": math.sqrt(both)}
    return {
        "episodes": float(episodes),
        "reward_first_fifth": statistics.fmean(first),
        "reward_last_fifth": statistics.fmean(last),
        "reward_gain": statistics.fmean(last) - statistics.fmean(first),
        **error,
        "kl_last": lines[-1]["kl"],
        "kl_max": max(line["kl"] for line in lines),
        "response_tokens_last": lines[-1]["response_tokens"],
        "episodes_per_second": episodes / sum(line["seconds"] for line in lines),
    }
