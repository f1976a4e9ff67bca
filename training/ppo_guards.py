"""When PPO should not go on: the KL or the length out of hand, or rewards that rise while held-out ones fall. Pure functions.

    stop = reason_to_stop(lines, measured, recipe.guards)       # None, or what was seen and what to change
    kept = best(measured, recipe.guards.max_kl)                 # the policy to keep

`lines` are those of metrics.jsonl, `measured` the policy on held-out prompts, from before the first update on.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.ppo_recipe import GuardSettings

WINDOW = 3  # updates whose mean is compared, so that one odd batch stops nothing
SURE = 2.0  # standard errors of the paired difference by which a held-out reward must have fallen


@dataclass(frozen=True)
class Measured:
    """The policy after some updates: its score on each held-out prompt, in their order, and its KL in nats a response."""

    update: int
    scores: list[float]
    kl: float

    @property
    def reward(self) -> float:
        return statistics.fmean(self.scores)


@dataclass(frozen=True)
class Stop:
    """Why a run ended before its last update, in figures, and what to change for the next one."""

    what: str
    figures: str
    next_step: str


def best(measured: Sequence[Measured], max_kl: float | None) -> Measured | None:
    """The trained policy with the highest held-out reward among those within the KL limit; None where there is none."""
    fit = [one for one in measured if one.update > 0 and (max_kl is None or one.kl <= max_kl)]
    return max(fit, key=lambda one: one.reward) if fit else None


def reason_to_stop(
    lines: Sequence[dict[str, Any]], measured: Sequence[Measured], guards: GuardSettings, since: int = 1
) -> Stop | None:
    """The first of the guards that the run has tripped, or None. Rewards before update `since` were another function's."""
    scored = [line for line in lines if line["step"] >= since]
    for found in (_kl(lines, guards), _length(lines, guards), _hacking(scored, measured, guards)):
        if found is not None:
            return found
    return None


def within_limits(lines: Sequence[dict[str, Any]], guards: GuardSettings) -> bool:
    """Whether the last update was within the limits on KL and length, so far as there are any."""
    return _kl(lines, guards) is None and _length(lines, guards) is None


def _kl(lines: Sequence[dict[str, Any]], guards: GuardSettings) -> Stop | None:
    if guards.max_kl is None or lines[-1]["kl"] <= guards.max_kl:
        return None
    within = [line for line in lines if line["kl"] <= guards.max_kl]
    before = f"; the last update within it was {within[-1]['step']} with {within[-1]['kl']:.2f}" if within else ""
    return Stop(
        "the policy has run away from the reference",
        f"KL {lines[-1]['kl']:.2f} nats a response in update {lines[-1]['step']}, over guards.max_kl {guards.max_kl:g}{before}",
        "raise ppo.kl_coef, set ppo.kl_target, or lower ppo.learning_rate",
    )


def _length(lines: Sequence[dict[str, Any]], guards: GuardSettings) -> Stop | None:
    if guards.max_length_change is None or len(lines) < 2 * WINDOW:
        return None
    first, last = (
        statistics.fmean(line["response_tokens"] for line in some) for some in (lines[:WINDOW], lines[-WINDOW:])
    )
    if 1 / guards.max_length_change <= last / first <= guards.max_length_change:
        return None
    longer = last > first
    return Stop(
        f"the responses have become much {'longer' if longer else 'shorter'}",
        f"{last:.1f} tokens in updates {lines[-WINDOW]['step']} to {lines[-1]['step']}, {first:.1f} in the first {WINDOW}: "
        f"{last / first:.2f} times, beyond guards.max_length_change {guards.max_length_change:g}",
        "set ppo.missing_eos_penalty, or train a reward model that does not prefer length"
        if longer
        else "raise ppo.kl_coef, or train a reward model that does not prefer short answers",
    )


def _hacking(lines: Sequence[dict[str, Any]], measured: Sequence[Measured], guards: GuardSettings) -> Stop | None:
    """Reward up, held-out reward down: of the same prompts, in each of the last `heldout_patience` measurements."""
    recent = measured[-guards.heldout_patience :]
    if not measured or len(recent) < guards.heldout_patience:
        return None
    top = max(measured, key=lambda one: one.reward)
    if any(one.update <= top.update or not _fell(top, one) for one in recent):
        return None
    until = [line["reward_mean"] for line in lines if line["step"] <= top.update] or [lines[0]["reward_mean"]]
    before, after = (statistics.fmean(some[-WINDOW:]) for some in (until, [line["reward_mean"] for line in lines]))
    if after <= before:
        return None
    return Stop(
        "the reward rises while the held-out reward falls: the policy learns the training prompts, or the reward's flaws",
        f"reward {before:.3f} at update {top.update}, {after:.3f} at update {lines[-1]['step']}; held-out {top.reward:.3f}, "
        f"then {', '.join(f'{one.reward:.3f}' for one in recent)}",
        "use more prompts, fewer ppo.total_episodes, a higher ppo.kl_coef, or a reward model of more pairs",
    )


def _fell(before: Measured, after: Measured) -> bool:
    """Whether the mean score is lower by more than SURE standard errors of the difference, prompt by prompt."""
    changes = [new - old for old, new in zip(before.scores, after.scores, strict=True)]
    if len(changes) < 2:
        return False
    error = statistics.stdev(changes) / math.sqrt(len(changes))
    return statistics.fmean(changes) < -SURE * error
