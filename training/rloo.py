"""`python -m training rloo`: REINFORCE leave-one-out against a reward model, by TRL's RLOOTrainer (Ahmadian et al. 2024).

Each prompt is answered several times, and an answer's advantage is its reward less the mean of the others'. Answers are scored as
PPO's are, at the end-of-turn token. Interrupted, the same command continues from the last saved step.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.chat import prompt_ids
from training.data import Messages, Prompt, load_prompts
from training.errors import UsageError
from training.ppo_run import check_same_tokens
from training.pretrained import load_policy, resolve_base
from training.recipe import Generation, RLOORecipe
from training.rewards import RewardModel
from training.run_record import RunRecord, kept
from training.trl_run import TRLRun

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SCORED_AT_ONCE = 16


def train_rloo(recipe: RLOORecipe, out: Path) -> RunRecord:
    """Train, save and measure; returns the record. Where `out` is complete already, nothing is done.

    Metrics: heldout_reward_before and heldout_reward_after of one sampled answer to each held-out prompt, by the same random
    numbers, and the mean reward in the first and the last fifth of the logged steps.
    """
    run = TRLRun.begin(recipe, out)
    if run.complete:
        return run.directory.record()

    import torch
    from datasets import Dataset
    from trl import RLOOConfig, RLOOTrainer

    arguments = run.arguments(
        RLOOConfig,
        max_completion_length=recipe.generation.max_new_tokens,
        temperature=recipe.generation.temperature,
    )
    base, reward = run.base(), resolve_base(recipe.reward_model)
    data = load_prompts(recipe.prompts, recipe.seed)
    model, tokenizer = load_policy(base.checkpoint, run.load_dtype)
    reward_model = RewardModel.load(
        reward.checkpoint, run.recipe.dtype, device="cuda" if torch.cuda.is_available() else None
    )
    check_same_tokens(tokenizer, reward_model.tokenizer)
    rows, heldout = (
        [row for row in rows if len(prompt_ids(tokenizer, row.prompt)) <= recipe.max_prompt_length]
        for rows in (data.train, data.heldout)
    )
    if not rows:
        raise UsageError(
            f"every prompt is longer than {recipe.max_prompt_length} tokens",
            next_step="raise max_prompt_length in the recipe",
        )
    metrics = {}
    if heldout:
        metrics["heldout_prompts"] = float(len(heldout))
        metrics["heldout_reward_before"] = sampled_reward(model, tokenizer, reward_model, heldout, recipe.generation)
    ordered = in_order(rows, epochs(arguments, len(rows)), recipe.seed)
    arguments.num_train_epochs, arguments.shuffle_dataset = 1, False
    trainer = RLOOTrainer(
        model=model,
        reward_funcs=reward_function(tokenizer, reward_model),
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": row.prompt} for row in ordered]),
        processing_class=tokenizer,
        peft_config=run.lora("CAUSAL_LM"),
    )
    trained = run.train(trainer, base)
    if heldout:
        metrics["heldout_reward_after"] = sampled_reward(trained, tokenizer, reward_model, heldout, recipe.generation)
    logged = [json.loads(line) for line in run.directory.metrics.read_text(encoding="utf-8").splitlines()]
    rewards = [line["reward"] for line in logged if "reward" in line]
    if rewards:
        fifth = max(1, len(rewards) // 5)
        metrics["reward_first_fifth"] = statistics.fmean(rewards[:fifth])
        metrics["reward_last_fifth"] = statistics.fmean(rewards[-fifth:])
    run.save_policy(trained, base)
    source = kept(data.source, len(rows), len(data.train) - len(rows), recipe.max_prompt_length)
    scorer = reward.parent.model_copy(update={"role": "reward_model", "hub_id": None})
    return run.finish([base.parent, scorer], source, metrics)


def epochs(arguments: Any, rows: int) -> int:
    """How often the prompts are gone through in all, from RLOOConfig's max_steps or num_train_epochs."""
    if arguments.max_steps <= 0:
        wanted: float = arguments.num_train_epochs
        return math.ceil(wanted)
    prompts: int = arguments.generation_batch_size // arguments.num_generations  # of one generation
    steps: int = arguments.steps_per_generation * arguments.num_iterations // arguments.gradient_accumulation_steps
    most: int = arguments.max_steps
    return math.ceil(most / max(1, steps)) * prompts // rows + 1


def in_order(rows: list[Prompt], times: int, seed: int) -> list[Prompt]:
    """The rows `times` over, each time in another order.

    One long epoch, because TRL's own sampler forgets after an interruption how many epochs it had shuffled.
    """
    ordered = []
    for epoch in range(times):
        shuffled = list(rows)
        random.Random(f"{seed}/{epoch}").shuffle(shuffled)
        ordered += shuffled
    return ordered


def reward_function(tokenizer: PreTrainedTokenizerBase, model: RewardModel) -> Callable[..., list[float]]:
    """TRL's reward function: a score for each completion, read where the reward model was trained to be read."""

    def reward_model(prompts: list[Messages], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return score_in_batches(
            model,
            [prompt_ids(tokenizer, prompt) + answer for prompt, answer in zip(prompts, completion_ids, strict=True)],
        )

    return reward_model


def sampled_reward(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    reward_model: RewardModel,
    rows: list[Prompt],
    generation: Generation,
) -> float:
    """Mean score of one sampled answer to each prompt. The random numbers are the same at every call."""
    import torch

    from training.decoding import Decoding, decode

    longest, eos = generation.max_new_tokens, tokenizer.eos_token_id
    prompts = [prompt_ids(tokenizer, row.prompt) for row in rows]
    uniforms = torch.rand(len(prompts), longest, generator=torch.Generator().manual_seed(0))
    training = model.training
    model.eval()
    decoding = Decoding(max_new_tokens=longest, temperature=generation.temperature)
    sequences = []
    for start in range(0, len(prompts), SCORED_AT_ONCE):
        some = slice(start, start + SCORED_AT_ONCE)
        answers = decode(model, prompts[some], 1, decoding, uniforms[some], [eos])
        # An answer that is shorter than it might be was ended by its end-of-turn token, which `decode` leaves out.
        sequences += [
            prompt + answer + ([eos] if len(answer) < longest else [])
            for prompt, answer in zip(prompts[some], answers, strict=True)
        ]
    model.train(training)
    return statistics.fmean(score_in_batches(reward_model, sequences))


def score_in_batches(model: RewardModel, sequences: list[list[int]]) -> list[float]:
    """The reward model's scores of token sequences, in their order."""
    scores: list[float] = []
    for start in range(0, len(sequences), SCORED_AT_ONCE):
        scores += model.score_ids(sequences[start : start + SCORED_AT_ONCE]).tolist()
    return scores
