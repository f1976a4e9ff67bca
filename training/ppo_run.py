"""A PPO run from recipe to record: load, loop with saved states, measure on held-out prompts, save the policy."""

from __future__ import annotations

import json
import math
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.chat import prompt_ids
from training.checkpoint import Checkpoint
from training.command import log
from training.data import Prompt, load_prompts
from training.errors import UsageError
from training.pretrained import load_policy, resolve_base
from training.progress import Progress
from training.recipe import PPORecipe
from training.reward_sources import RewardFailed, TextRewards, load_reward_function, reward_endpoint
from training.run_directory import RunDirectory, with_chosen_dtype
from training.run_record import (
    ParentCheckpoint,
    RewardSource,
    RunRecord,
    git_revision,
    hardware,
    now,
    package_versions,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.ppo import PPO
    from training.rewards import RewardModel

STATE_FILE = "ppo.pt"


@dataclass
class Carried:
    """What a run carries from one attempt to the next beside PPO's own state."""

    heldout_before: float | None = None
    rewards: list[RewardSource] = field(default_factory=list)  # of a function or a server; the last is in use


def train_ppo(recipe: PPORecipe, out: Path) -> RunRecord:
    """Run PPO and return its record. Where `out` is complete already, nothing is done."""
    recipe = with_chosen_dtype(recipe, out)
    run = RunDirectory.open(out, recipe)
    if run.complete:
        return run.record()
    started, clock = now(), time.monotonic()

    import torch
    from accelerate import Accelerator
    from accelerate.utils import set_seed

    from training.policy import ActorCritic
    from training.ppo import PPO

    accelerator = Accelerator(mixed_precision="bf16" if recipe.lora is None and recipe.dtype == "bfloat16" else "no")
    base = resolve_base(recipe.base)
    rewards, reward_parents = load_rewards(recipe, str(accelerator.device))
    data = load_prompts(recipe.prompts, recipe.seed)
    # Full fine-tuning keeps its weights in float32 and computes in bfloat16: a small step vanishes in bfloat16.
    model, tokenizer = load_policy(base.checkpoint, recipe.dtype if recipe.lora else "float32")
    generation_config = model.generation_config
    prompts, too_long = tokenize_prompts(tokenizer, data.train, recipe.max_prompt_length)
    heldout, _ = tokenize_prompts(tokenizer, data.heldout, recipe.max_prompt_length) if data.heldout else ([], 0)
    if not isinstance(rewards, TextRewards):
        check_same_tokens(tokenizer, rewards.tokenizer)
    set_seed(recipe.seed)  # before the adapters: theirs is the same on every process
    actor = ActorCritic(model, recipe.lora)
    ppo = PPO(recipe, actor, tokenizer, rewards, prompts, accelerator)
    # Sampling differs by process and is carried by the saved state.
    torch.manual_seed(recipe.seed * 1_000_003 + accelerator.process_index)
    carried = _resume(ppo, run)
    begins = carried is None
    carried = carried or Carried()
    if isinstance(rewards, TextRewards):
        note_reward_source(carried, rewards.source, ppo.updates_done)
    if begins:
        carried.heldout_before = heldout_reward(ppo, heldout)
        _save(ppo, run, carried)
    seconds_before = _seconds(run)
    with Progress("ppo", ppo.total_updates, ppo.updates_done) as progress:
        while ppo.updates_done < ppo.total_updates:
            try:
                metrics = ppo.update()
            except RewardFailed:
                _save(ppo, run, carried)
                log(f"saved after update {ppo.updates_done} of {ppo.total_updates}")
                raise
            if accelerator.is_main_process:
                run.log_metrics(metrics)
            progress.advance(
                f"reward {metrics['reward_mean']:+.3f}  kl {metrics['kl']:.2f}  tokens {metrics['response_tokens']:.0f}  "
                f"{ppo.episodes_per_update / metrics['seconds']:.1f} episodes/s"
            )
            if ppo.updates_done % recipe.ppo.save_updates == 0 or ppo.updates_done == ppo.total_updates:
                _save(ppo, run, carried)
    metrics = summary(run)
    for when, value in (("before", carried.heldout_before), ("after", heldout_reward(ppo, heldout))):
        if value is not None:
            metrics[f"heldout_reward_{when}"] = value
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return _wait_for_record(run)
    saved = run.scratch / "checkpoint"
    merged = actor.merged().to(getattr(torch, base.checkpoint.dtype))
    merged.generation_config = generation_config
    merged.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    dropped = {f"longer than {recipe.max_prompt_length} tokens": too_long} if too_long else {}
    record = RunRecord(
        method="ppo",
        checkpoint_digest=Checkpoint.open(saved).digest,
        recipe=recipe.model_dump(mode="json"),
        parents=[base.parent, *reward_parents],
        data=[
            data.source.model_copy(
                update={
                    "rows": len(prompts),
                    "rows_dropped": data.source.rows_dropped + too_long,
                    "why_dropped": {**data.source.why_dropped, **dropped},
                }
            )
        ],
        rewards=carried.rewards,
        seed=recipe.seed,
        packages=package_versions(),
        git_revision=git_revision(),
        hardware=hardware(str(accelerator.device)),
        started=started,
        seconds=round(seconds_before + time.monotonic() - clock, 2),
        metrics=metrics,
    )
    run.finish(record)
    return record


def load_rewards(recipe: PPORecipe, device: str) -> tuple[RewardModel | TextRewards, list[ParentCheckpoint]]:
    """What gives the rewards, and the checkpoint that it comes from, if it is a reward model."""
    if recipe.reward_function is not None:
        return load_reward_function(recipe.reward_function), []
    if recipe.reward_url is not None:
        return reward_endpoint(recipe.reward_url, recipe.reward_timeout, recipe.reward_tries), []
    from training.rewards import RewardModel

    assert recipe.reward_model is not None  # the recipe has exactly one of the three
    reward = resolve_base(recipe.reward_model)
    parent = reward.parent.model_copy(update={"role": "reward_model", "hub_id": None})
    return RewardModel.load(reward.checkpoint, recipe.dtype, device=device), [parent]


def note_reward_source(carried: Carried, source: RewardSource, updates_done: int) -> None:
    """Enter what gives the rewards from the next update on, where it is not what gave them before."""
    last = carried.rewards[-1] if carried.rewards else None
    if last is not None and (last.name, last.sha256) == (source.name, source.sha256):
        return
    if last is not None:
        log(f"{source.name} has changed; the record names both, this one from update {updates_done + 1} on")
    carried.rewards.append(source.model_copy(update={"from_update": updates_done + 1}))


def tokenize_prompts(
    tokenizer: PreTrainedTokenizerBase, rows: list[Prompt], max_length: int
) -> tuple[list[list[int]], int]:
    """Prompts as token ids, and how many were longer than `max_length`."""
    ids = [prompt_ids(tokenizer, row.prompt) for row in rows]
    kept = [prompt for prompt in ids if len(prompt) <= max_length]
    if not kept:
        raise UsageError(
            f"every prompt is longer than {max_length} tokens",
            found=f"the shortest has {min(len(prompt) for prompt in ids)}",
            next_step="raise max_prompt_length in the recipe",
        )
    return kept, len(ids) - len(kept)


def check_same_tokens(policy: PreTrainedTokenizerBase, reward: PreTrainedTokenizerBase) -> None:
    """The reward model reads the policy's token ids as they are; raise UsageError where its vocabulary differs."""
    if policy.get_vocab() != reward.get_vocab() or policy.eos_token_id != reward.eos_token_id:
        raise UsageError(
            "policy and reward model do not share a vocabulary",
            expected=f"{len(policy)} tokens, end of turn {policy.eos_token!r}",
            found=f"{len(reward)} tokens, end of turn {reward.eos_token!r}",
            next_step="train a reward model from the same family of base model",
        )


def heldout_reward(ppo: PPO, prompts: list[list[int]]) -> float | None:
    """Mean score of one sampled response to each held-out prompt, by a seed of its own; the run's randomness is left
    as it was. None where nothing is held out.
    """
    import torch

    if not prompts:
        return None
    scores: list[float] = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for start in range(0, len(prompts), ppo.recipe.ppo.batch_size):
            scores += ppo.scores(prompts[start : start + ppo.recipe.ppo.batch_size]).tolist()
    return statistics.fmean(scores)


def summary(run: RunDirectory) -> dict[str, float]:
    """The run in a few figures. A fifth is a fifth of the episodes; the standard error is that of a difference of means."""
    lines = [json.loads(line) for line in run.metrics.read_text(encoding="utf-8").splitlines()]
    scores = [score for line in lines for score in line["scores"]]
    fifth = max(2, len(scores) // 5)
    first, last = scores[:fifth], scores[-fifth:]
    error = math.sqrt(statistics.variance(first) / len(first) + statistics.variance(last) / len(last))
    return {
        "episodes": float(len(scores)),
        "reward_first_fifth": statistics.fmean(first),
        "reward_last_fifth": statistics.fmean(last),
        "reward_gain": statistics.fmean(last) - statistics.fmean(first),
        "reward_gain_stderr": error,
        "kl_last": lines[-1]["kl"],
        "kl_max": max(line["kl"] for line in lines),
        "response_tokens_last": lines[-1]["response_tokens"],
        "episodes_per_second": len(scores) / sum(line["seconds"] for line in lines),
    }


def _save(ppo: PPO, run: RunDirectory, carried: Carried) -> None:
    import torch

    state: dict[str, Any] = {
        "ppo": ppo.state(),
        "heldout_before": carried.heldout_before,
        "rewards": [source.model_dump() for source in carried.rewards],
    }
    if ppo.accelerator.is_main_process:
        temporary = run.state / f"{STATE_FILE}.writing"
        torch.save(state, temporary)
        temporary.replace(run.state / STATE_FILE)
    ppo.accelerator.wait_for_everyone()


def _resume(ppo: PPO, run: RunDirectory) -> Carried | None:
    """Continue from the saved state, or return None where there is none.

    Metrics of updates after it are cut off, for they come again.
    """
    import torch

    file = run.state / STATE_FILE
    if not file.is_file():
        run.metrics.unlink(missing_ok=True)
        return None
    state = torch.load(file, map_location="cpu", weights_only=True)
    ppo.load_state(state["ppo"])
    if ppo.accelerator.is_main_process:
        lines = run.metrics.read_text(encoding="utf-8").splitlines() if run.metrics.is_file() else []
        run.metrics.write_text("".join(line + "\n" for line in lines[: ppo.updates_done]), encoding="utf-8")
        log(f"continuing after update {ppo.updates_done} of {ppo.total_updates}")
    return Carried(state["heldout_before"], [RewardSource(**source) for source in state["rewards"]])


def _seconds(run: RunDirectory) -> float:
    """Seconds spent on updates before an interruption."""
    if not run.metrics.is_file():
        return 0.0
    return sum(float(json.loads(line)["seconds"]) for line in run.metrics.read_text(encoding="utf-8").splitlines())


def _wait_for_record(run: RunDirectory) -> RunRecord:
    while not run.complete:
        time.sleep(0.2)
    return run.record()
