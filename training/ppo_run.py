"""A PPO run from recipe to record: set up, loop with saved states, measure on held-out prompts, save the policy."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import Any

from training.checkpoint import Checkpoint
from training.completions import cut_completions
from training.lora_layers import with_chosen_layers
from training.ppo_loop import choose_policy, heldout_reward, measure, metrics_lines, train
from training.ppo_saved import STATE_FILE, Carried, note_reward_source, resume, save
from training.ppo_setup import Setup, set_up
from training.recipe import PPORecipe
from training.reference import save_with_reference
from training.reward_sources import TextRewards
from training.run_directory import RunDirectory, with_chosen_dtype
from training.run_record import RunRecord, git_revision, hardware, now, package_versions
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
        metrics=summary(run) | {name: value for name, value in measured.items() if value is not None},
        stopped=f"{carried.stopped.what}: {carried.stopped.figures}" if carried.stopped else None,
    )
    return run.finish(record)


def begin(setup: Setup, run: RunDirectory) -> Carried:
    """Continue from the saved state; or measure what there is to measure before the first update, and save that."""
    ppo = setup.ppo
    found = resume(ppo, run)
    if ppo.accelerator.is_main_process:
        cut_completions(run.path, ppo.updates_done)
    carried = found or Carried()
    if isinstance(ppo.rewards, TextRewards):
        note_reward_source(carried, ppo.rewards.source, ppo.updates_done)
    if found is not None:
        return carried
    carried.mixed_before = setup.mixed_loss()
    if ppo.recipe.guards.heldout_every:
        carried.measured.append(measure(ppo, setup.heldout))
    else:
        carried.heldout_before = heldout_reward(ppo, setup.heldout)
    save(ppo, run, carried)
    return carried


def save_policy(policy: Any, setup: Setup, directory: Path) -> str:
    """Write `Placement.whole_policy` as a whole checkpoint in the base's precision; return its digest."""
    policy = cast_weights(policy, setup.base.checkpoint.dtype)
    policy.generation_config = setup.generation_config
    save_with_reference(policy, setup.ppo.tokenizer, directory)
    return Checkpoint.open(directory).digest


def summary(run: RunDirectory) -> dict[str, float]:
    """The run in a few figures. A fifth is a fifth of the episodes; the standard error is that of a difference of means.

    Of a single episode there is none.
    """
    lines = metrics_lines(run)
    scores = [score for line in lines for score in line["scores"]]
    fifth = max(2, len(scores) // 5)
    first, last = scores[:fifth], scores[-fifth:]
    error = {}
    if len(scores) > 1:
        both = statistics.variance(first) / len(first) + statistics.variance(last) / len(last)
        error = {"reward_gain_stderr": math.sqrt(both)}
    return {
        "episodes": float(len(scores)),
        "reward_first_fifth": statistics.fmean(first),
        "reward_last_fifth": statistics.fmean(last),
        "reward_gain": statistics.fmean(last) - statistics.fmean(first),
        **error,
        "kl_last": lines[-1]["kl"],
        "kl_max": max(line["kl"] for line in lines),
        "response_tokens_last": lines[-1]["response_tokens"],
        "episodes_per_second": len(scores) / sum(line["seconds"] for line in lines),
    }
