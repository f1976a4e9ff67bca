"""A PPO run from recipe to record: load, loop with saved states, measure on held-out prompts, save the policy."""

from __future__ import annotations

import json
import math
import statistics
import time
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
from training.run_directory import RunDirectory, with_chosen_dtype
from training.run_record import RunRecord, git_revision, hardware, now, package_versions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.ppo import PPO

STATE_FILE = "ppo.pt"


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
    from training.rewards import RewardModel

    accelerator = Accelerator(mixed_precision="bf16" if recipe.lora is None and recipe.dtype == "bfloat16" else "no")
    base, reward = resolve_base(recipe.base), resolve_base(recipe.reward_model)
    data = load_prompts(recipe.prompts, recipe.seed)
    # Full fine-tuning keeps its weights in float32 and computes in bfloat16: a small step vanishes in bfloat16.
    model, tokenizer = load_policy(base.checkpoint, recipe.dtype if recipe.lora else "float32")
    generation_config = model.generation_config
    prompts, too_long = tokenize_prompts(tokenizer, data.train, recipe.max_prompt_length)
    heldout, _ = tokenize_prompts(tokenizer, data.heldout, recipe.max_prompt_length) if data.heldout else ([], 0)
    reward_model = RewardModel.load(reward.checkpoint, recipe.dtype, device=str(accelerator.device))
    check_same_tokens(tokenizer, reward_model.tokenizer)
    set_seed(recipe.seed)  # before the adapters: theirs is the same on every process
    actor = ActorCritic(model, recipe.lora)
    ppo = PPO(recipe, actor, tokenizer, reward_model, prompts, accelerator)
    # Sampling differs by process and is carried by the saved state.
    torch.manual_seed(recipe.seed * 1_000_003 + accelerator.process_index)
    before = _resume(ppo, run)
    if before is None:
        before = heldout_reward(ppo, heldout)
        _save(ppo, run, before)
    seconds_before = _seconds(run)
    with Progress("ppo", ppo.total_updates, ppo.updates_done) as progress:
        while ppo.updates_done < ppo.total_updates:
            metrics = ppo.update()
            if accelerator.is_main_process:
                run.log_metrics(metrics)
            progress.advance(
                f"reward {metrics['reward_mean']:+.3f}  kl {metrics['kl']:.2f}  tokens {metrics['response_tokens']:.0f}  "
                f"{ppo.episodes_per_update / metrics['seconds']:.1f} episodes/s"
            )
            if ppo.updates_done % recipe.ppo.save_updates == 0 or ppo.updates_done == ppo.total_updates:
                _save(ppo, run, before)
    after = heldout_reward(ppo, heldout)
    metrics = summary(run)
    metrics.update(
        {f"heldout_reward_{when}": value for when, value in (("before", before), ("after", after)) if value is not None}
    )
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
        parents=[base.parent, reward.parent.model_copy(update={"role": "reward_model", "hub_id": None})],
        data=[
            data.source.model_copy(
                update={
                    "rows": len(prompts),
                    "rows_dropped": data.source.rows_dropped + too_long,
                    "why_dropped": {**data.source.why_dropped, **dropped},
                }
            )
        ],
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


def _save(ppo: PPO, run: RunDirectory, before: float | None) -> None:
    import torch

    state: dict[str, Any] = {"ppo": ppo.state(), "heldout_before": before}
    if ppo.accelerator.is_main_process:
        temporary = run.state / f"{STATE_FILE}.writing"
        torch.save(state, temporary)
        temporary.replace(run.state / STATE_FILE)
    ppo.accelerator.wait_for_everyone()


def _resume(ppo: PPO, run: RunDirectory) -> float | None:
    """Continue from the saved state if there is one; metrics of updates after it are cut off, for they come again."""
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
    before: float | None = state["heldout_before"]
    return before


def _seconds(run: RunDirectory) -> float:
    """Seconds spent on updates before an interruption."""
    if not run.metrics.is_file():
        return 0.0
    return sum(float(json.loads(line)["seconds"]) for line in run.metrics.read_text(encoding="utf-8").splitlines())


def _wait_for_record(run: RunDirectory) -> RunRecord:
    while not run.complete:
        time.sleep(0.2)
    return run.record()
