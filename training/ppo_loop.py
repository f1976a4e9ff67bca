"""The updates of a PPO run: logged, saved, measured on held-out prompts, and ended early where a guard says so."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from training.allocator import Holes
from training.command import log
from training.completions import write_completions
from training.errors import UsageError
from training.ppo_guards import Measured, Stop, best, reason_to_stop, within_limits
from training.ppo_saved import Carried, keep_policy, load_policy, save
from training.progress import Progress
from training.records import write_atomically
from training.reward_sources import RewardFailed, scored_alike_from
from training.run_directory import RunDirectory

if TYPE_CHECKING:
    from training.ppo import PPO


def train(
    ppo: PPO,
    run: RunDirectory,
    carried: Carried,
    heldout: list[list[int]],
    tell: Callable[[dict[str, Any]], None] = lambda _: None,
) -> None:
    """Update until the last one, or until a guard stops the run; `carried.stopped` then says why.

    Raises RewardFailed, with everything saved, where rewards fail; and where training diverges what PPOSteps raises, unless an
    earlier policy can be kept. `tell` is given each update's line, with what was measured after it.
    """
    from training.ppo_steps import Diverged

    guards, settings = ppo.recipe.guards, ppo.recipe.ppo
    limited = guards.max_kl is not None or guards.max_length_change is not None
    lines = metrics_lines(run)
    if _is_due(ppo, carried):  # the rewards failed when this was to be measured
        _measure(ppo, run, carried, lines, heldout)
    holes = Holes()
    with Progress("ppo", ppo.total_updates, ppo.updates_done) as progress:
        while ppo.updates_done < ppo.total_updates and carried.stopped is None:
            try:
                if limited and ppo.updates_done:
                    keep_policy(ppo, run)  # the update samples from it, and so tells its KL and its length
                metrics = ppo.update()
                lines.append(metrics)
                if limited and within_limits(lines, guards) and ppo.updates_done > 1:
                    carried.within = ppo.updates_done - 1
                if ppo.accelerator.is_main_process:
                    run.log_metrics(metrics)
                    if ppo.updates_done in (1, ppo.total_updates) or ppo.updates_done % settings.save_updates == 0:
                        write_completions(run.path, ppo.updates_done, ppo.completions)
                if _is_due(ppo, carried):
                    _measure(ppo, run, carried, lines, heldout)
            except RewardFailed:
                save(ppo, run, carried)
                log(f"saved after update {ppo.updates_done} of {ppo.total_updates}")
                raise
            except Diverged as error:
                if not (worth_keeping(carried, guards.max_kl) or _only_limited(carried)):
                    raise
                # What is saved stays from before this update, and its weights are not used.
                carried.stopped = Stop(error.what, f"in update {ppo.updates_done + 1}", error.next_step or "")
                return
            tell(metrics)
            holes.give_back()
            progress.advance(
                f"reward {metrics['reward_mean']:+.3f}  kl {metrics['kl']:.2f}  tokens {metrics['response_tokens']:.0f}  "
                f"{ppo.episodes_per_update / metrics['seconds']:.1f} episodes/s"
            )
            carried.stopped = reason_to_stop(
                lines, carried.measured, guards, scored_alike_from(carried.rewards, ppo.updates_done)
            )
            if carried.stopped is not None and carried.measured:
                if carried.measured[-1].update != ppo.updates_done:
                    _measure(ppo, run, carried, lines, heldout)
                _measure_last_within(ppo, run, carried, heldout)
            last = ppo.updates_done == ppo.total_updates
            if carried.stopped or last or ppo.updates_done % settings.save_updates == 0:
                save(ppo, run, carried)


def _is_due(ppo: PPO, carried: Carried) -> bool:
    """Whether the policy as it is now is still to be measured on the held-out prompts."""
    every, done = ppo.recipe.guards.heldout_every, ppo.updates_done
    if not every or carried.measured[-1].update == done:
        return False
    return done == ppo.total_updates or done % every == 0


def _measure(
    ppo: PPO, run: RunDirectory, carried: Carried, lines: list[dict[str, Any]], heldout: list[list[int]]
) -> None:
    """Measure the policy, write the figures into the update's line, and keep the policy if it is the best so far."""
    one = measure(ppo, heldout)
    carried.measured.append(one)
    lines[-1] |= {"heldout_reward": one.reward, "heldout_kl": one.kl}
    if ppo.accelerator.is_main_process:
        write_atomically(run.metrics, "".join(json.dumps(line, sort_keys=True) + "\n" for line in lines).encode())
    if best(carried.measured, ppo.recipe.guards.max_kl) is one:
        keep_policy(ppo, run)


def _measure_last_within(ppo: PPO, run: RunDirectory, carried: Carried, heldout: list[list[int]]) -> None:
    """Measure the last policy within the limits, for a run may leave it between two measurements. It is then the actor's.

    Nothing is trained after this: the run has been stopped.
    """
    update = carried.within
    if update is None or update in [one.update for one in carried.measured]:
        return
    load_policy(ppo, run, update)
    one = replace(measure(ppo, heldout), update=update)
    carried.measured = sorted([*carried.measured, one], key=lambda each: each.update)


def choose_policy(ppo: PPO, run: RunDirectory, carried: Carried) -> dict[str, float]:
    """Put the policy to keep into the actor, and return the figures about the choice.

    It is the best on held-out prompts within the KL limit where these were measured on the way, else the last, or of a run
    that was stopped the last within the guards' limits. Raises UsageError where it was stopped and had no policy worth keeping.
    """
    guards, stop = ppo.recipe.guards, carried.stopped
    if stop is not None and carried.within is not None and _only_limited(carried):
        load_policy(ppo, run, carried.within)
        log(f"stopped: {stop.what}\n  found:    {stop.figures}\n  next:     {stop.next_step}")
        log(
            f"keeping the policy of update {carried.within}, the last within the guards' limits; what it is worth was not compared"
        )
        return {"kept_update": float(carried.within)}
    if stop is not None and not worth_keeping(carried, guards.max_kl):
        kept = "none that was trained was within the guards' limits"
        if carried.measured:
            kept = f"none was better on held-out prompts than the base, {carried.measured[0].reward:.3f}"
        raise UsageError(
            f"stopped: {stop.what}",
            where=str(run.path),
            expected="a policy to keep",
            found=f"{stop.figures}; {kept}",
            next_step=f"{stop.next_step}; begin again with another --out",
        )
    one = best(carried.measured, guards.max_kl)
    if one is None:
        return {}
    last = carried.measured[-1]
    if stop is not None:
        log(f"stopped: {stop.what}\n  found:    {stop.figures}\n  next:     {stop.next_step}")
    if stop is not None or one is not last:
        load_policy(ppo, run, one.update)
        log(f"keeping the policy of update {one.update}, held-out reward {one.reward:.3f}, KL {one.kl:.2f}")
    return {
        "best_update": float(one.update),
        "heldout_reward_before": carried.measured[0].reward,
        "heldout_reward_after": one.reward,
        "heldout_reward_last": last.reward,
        "heldout_kl_after": one.kl,
        "heldout_kl_last": last.kl,
    }


def worth_keeping(carried: Carried, max_kl: float | None) -> bool:
    """Whether some trained policy within the KL limit was better on held-out prompts than the base."""
    one = best(carried.measured, max_kl)
    return one is not None and one.reward > carried.measured[0].reward


def _only_limited(carried: Carried) -> bool:
    """Whether there is a policy within the guards' limits, and nothing was measured on the way that says another is better."""
    return carried.within is not None and not carried.measured


def measure(ppo: PPO, prompts: list[list[int]]) -> Measured:
    """One sampled response to each held-out prompt, its score and its KL, by a seed of its own."""
    import torch

    scores: list[float] = []
    kls: list[float] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for start in range(0, len(prompts), ppo.recipe.ppo.batch_size):
            found = ppo.rollout(prompts[start : start + ppo.recipe.ppo.batch_size])
            scores += found.scores.tolist()
            kls += ((found.logprobs - found.ref_logprobs) * found.responses.mask).sum(dim=1).tolist()
    return Measured(ppo.updates_done, scores, statistics.fmean(kls))


def heldout_reward(ppo: PPO, prompts: list[list[int]], seed: int = 0) -> float | None:
    """Mean score of one sampled response to each held-out prompt, by a seed of its own; the run's randomness is left
    as it was. None where nothing is held out.
    """
    import torch

    if not prompts:
        return None
    scores: list[float] = []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for start in range(0, len(prompts), ppo.recipe.ppo.batch_size):
            scores += ppo.scores(prompts[start : start + ppo.recipe.ppo.batch_size]).tolist()
    return statistics.fmean(scores)


def metrics_lines(run: RunDirectory) -> list[dict[str, Any]]:
    """What metrics.jsonl holds, a line for each update."""
    if not run.metrics.is_file():
        return []
    return [json.loads(line) for line in run.metrics.read_bytes().splitlines()]
