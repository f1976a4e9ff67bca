"""A PPO run from recipe to record: load, loop with saved states, measure on held-out prompts, save the policy."""

from __future__ import annotations

import math
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

from training.chat import prompt_ids
from training.checkpoint import Checkpoint
from training.data import Prompt, load_prompts
from training.errors import UsageError
from training.ppo_loop import choose_policy, heldout_reward, measure, metrics_lines, train
from training.ppo_saved import Carried, note_reward_source, resume, save
from training.pretrained import load_policy, resolve_base
from training.processes import launched_accelerator
from training.recipe import OnlineRecipe, PPORecipe
from training.reference import save_with_reference
from training.reward_sources import TextRewards, load_reward_function, reward_endpoint
from training.run_directory import RunDirectory, with_chosen_dtype
from training.run_record import (
    ParentCheckpoint,
    RunRecord,
    git_revision,
    hardware,
    kept,
    now,
    package_versions,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.rewards import RewardModel


def train_ppo(recipe: PPORecipe, out: Path) -> RunRecord:
    """Run PPO and return its record. Where `out` is complete already, nothing is done."""
    recipe = with_chosen_dtype(recipe, out)
    run = RunDirectory.open(out, recipe)
    if run.complete:
        return run.record()
    started, clock = now(), time.monotonic()

    import torch
    from accelerate.utils import set_seed

    from training.policy import ActorCritic
    from training.ppo import PPO
    from training.ptx import Mixing, heldout_loss, load_ptx

    accelerator = launched_accelerator(recipe)
    base = resolve_base(recipe.base)
    rewards, reward_parents = load_rewards(recipe, str(accelerator.device))
    data = load_prompts(recipe.prompts, recipe.seed)
    model, tokenizer = load_policy(base.checkpoint, recipe.weights_dtype)
    generation_config = model.generation_config
    prompts, too_long = tokenize_prompts(tokenizer, data.train, recipe.max_prompt_length)
    heldout, _ = tokenize_prompts(tokenizer, data.heldout, recipe.max_prompt_length) if data.heldout else ([], 0)
    if recipe.guards.heldout_every and not heldout:
        raise UsageError(
            "guards.heldout_every measures on held-out prompts, and there are none",
            next_step="set prompts.heldout_fraction or prompts.heldout_split, or remove guards.heldout_every",
        )
    mixed = load_ptx(recipe.ptx, tokenizer, recipe.seed) if recipe.ptx else None
    mixing = None
    if mixed and recipe.ptx and recipe.ptx.coef > 0:
        mixing = Mixing(mixed.train, recipe.ptx, tokenizer.pad_token_id, recipe.seed)
    if not isinstance(rewards, TextRewards):
        check_same_tokens(tokenizer, rewards.tokenizer)
    set_seed(recipe.seed)  # before the adapters: theirs is the same on every process
    actor = ActorCritic(model, recipe.lora)
    ppo = PPO(recipe, actor, tokenizer, rewards, prompts, accelerator, mixing)

    def mixed_loss() -> float | None:
        """How well the policy still knows what is held out of the mixed-in data, in nats a token."""
        if not mixed or not mixed.heldout:
            return None
        with accelerator.autocast():
            return heldout_loss(actor.language_model, mixed.heldout, tokenizer.pad_token_id)

    # Sampling differs by process and is carried by the saved state.
    torch.manual_seed(recipe.seed * 1_000_003 + accelerator.process_index)
    carried = resume(ppo, run)
    begins = carried is None
    carried = carried or Carried()
    if isinstance(rewards, TextRewards):
        note_reward_source(carried, rewards.source, ppo.updates_done)
    if begins:
        carried.mixed_before = mixed_loss()
        if recipe.guards.heldout_every:
            carried.measured.append(measure(ppo, heldout))
        else:
            carried.heldout_before = heldout_reward(ppo, heldout)
        save(ppo, run, carried)
    seconds_before = sum(float(line["seconds"]) for line in metrics_lines(run))
    train(ppo, run, carried, heldout)
    chosen = choose_policy(ppo, run, carried)
    metrics = summary(run)
    measured = {
        "heldout_reward_before": carried.heldout_before,
        "heldout_reward_after": None if chosen else heldout_reward(ppo, heldout),
        "ptx_heldout_loss_before": carried.mixed_before,
        "ptx_heldout_loss_after": mixed_loss(),
        **chosen,
    }
    metrics.update({name: value for name, value in measured.items() if value is not None})
    accelerator.wait_for_everyone()
    if not accelerator.is_main_process:
        return run.wait_for_record()
    saved = run.scratch / "checkpoint"
    merged = actor.merged().to(getattr(torch, base.checkpoint.dtype))
    merged.generation_config = generation_config
    save_with_reference(merged, tokenizer, saved)
    sources = [kept(data.source, len(prompts), too_long, recipe.max_prompt_length)] + ([mixed.source] if mixed else [])
    record = RunRecord(
        method="ppo",
        checkpoint_digest=Checkpoint.open(saved).digest,
        recipe=recipe.model_dump(mode="json"),
        parents=[base.parent, *reward_parents],
        data=sources,
        rewards=carried.rewards,
        seed=recipe.seed,
        packages=package_versions(),
        git_revision=git_revision(),
        hardware=hardware(str(accelerator.device)),
        started=started,
        seconds=round(seconds_before + time.monotonic() - clock, 2),
        metrics=metrics,
        stopped=f"{carried.stopped.what}: {carried.stopped.figures}" if carried.stopped else None,
    )
    return run.finish(record)


def load_rewards(
    recipe: PPORecipe | OnlineRecipe, device: str
) -> tuple[RewardModel | TextRewards, list[ParentCheckpoint]]:
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


def summary(run: RunDirectory) -> dict[str, float]:
    """The run in a few figures. A fifth is a fifth of the episodes; the standard error is that of a difference of means."""
    lines = metrics_lines(run)
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
