"""What a PPO run saves, and continues from on the same trajectory after it was interrupted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.command import log
from training.ppo_guards import Measured, Stop, best
from training.run_directory import RunDirectory
from training.run_record import RewardSource
from training.saved_state import load_state, save_state

if TYPE_CHECKING:
    from training.ppo import PPO

STATE_FILE = "ppo.pt"


@dataclass
class Carried:
    """What a run carries from one attempt to the next beside PPO's own state."""

    heldout_before: float | None = None
    mixed_before: float | None = None  # PPO-ptx's held-out loss, nats a token
    rewards: list[RewardSource] = field(default_factory=list)  # of a function or a server; the last is in use
    measured: list[Measured] = field(default_factory=list)  # on held-out prompts on the way, where guards ask for it
    stopped: Stop | None = None
    within: int | None = None  # the last update whose policy was seen to be within the guards' limits; it is kept
    # Updates whose policies the state on disk names, with which a run may continue.
    named: set[int] = field(default_factory=set)

    def wanted(self, max_kl: float | None) -> set[int]:
        """The updates of which one may be the policy to keep: the best so far, and the last within the limits."""
        one = best(self.measured, max_kl)
        return {update for update in (one.update if one else None, self.within) if update is not None}


def save(ppo: PPO, run: RunDirectory, carried: Carried) -> None:
    """Write everything that the next update depends on, whole or not at all."""
    state: dict[str, Any] = {
        "ppo": ppo.state(),
        "heldout_before": carried.heldout_before,
        "mixed_before": carried.mixed_before,
        "rewards": [source.model_dump() for source in carried.rewards],
        "measured": [vars(one) for one in carried.measured],
        "stopped": vars(carried.stopped) if carried.stopped else None,
        "within": carried.within,
    }
    if ppo.accelerator.is_main_process:
        run.sync_metrics()
        save_state(state, run.state / STATE_FILE)
        run.note_energy()
        carried.named = carried.wanted(ppo.recipe.guards.max_kl)
        _drop_others(run, carried.named)
    ppo.accelerator.wait_for_everyone()


def saved(run: RunDirectory) -> dict[str, Any] | None:
    """What an earlier attempt saved, or None where there is nothing. Raises UsageError where it is damaged."""
    file = run.state / STATE_FILE
    if not file.is_file():
        run.metrics.unlink(missing_ok=True)
        return None
    return load_state(file)


def resume(ppo: PPO, run: RunDirectory, state: dict[str, Any]) -> Carried:
    """Continue from what was `saved`.

    Metrics of updates after it are cut off, for they come again. Raises UsageError where a line of metrics is damaged.
    """
    ppo.load_state(state["ppo"])
    if ppo.accelerator.is_main_process:
        run.cut_metrics(ppo.updates_done)
        log(f"continuing after update {ppo.updates_done} of {ppo.total_updates}")
    ppo.accelerator.wait_for_everyone()
    carried = Carried(
        state["heldout_before"],
        state["mixed_before"],
        [RewardSource(**source) for source in state["rewards"]],
        [Measured(**one) for one in state["measured"]],
        Stop(**state["stopped"]) if state["stopped"] else None,
        state.get("within"),
    )
    carried.named = carried.wanted(ppo.recipe.guards.max_kl)
    return carried


def keep_policy(ppo: PPO, run: RunDirectory, carried: Carried) -> None:
    """Keep what the policy alone has learned so far by the number of its update.

    Of earlier ones stay those that may be kept in the end, and those that the state on disk names: four and this one at most.
    """
    learned = ppo.place.policy_state()  # every process takes part
    if ppo.accelerator.is_main_process:
        save_state(learned, _kept(run, ppo.updates_done))
        _drop_others(run, {ppo.updates_done} | carried.named | carried.wanted(ppo.recipe.guards.max_kl))


def load_policy(ppo: PPO, run: RunDirectory, update: int) -> None:
    """Put the kept policy of an update into the actor."""
    ppo.accelerator.wait_for_everyone()
    ppo.place.load_trainable(load_state(_kept(run, update)))


def _kept(run: RunDirectory, update: int) -> Path:
    return run.state / f"policy-{update}.pt"


def _drop_others(run: RunDirectory, updates: set[int]) -> None:
    """Remove kept policies that nothing needs any longer: all but those of `updates`."""
    kept = [_kept(run, update) for update in updates]
    for file in run.state.glob("policy-*.pt"):
        if file not in kept:
            file.unlink()
