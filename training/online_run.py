"""A run of a TRL trainer that samples answers and is told their rewards: what rloo.py and grpo.py share.

    train_online(run, GRPOConfig, GRPOTrainer)      # returns the record

Each prompt is answered several times. The rewards come from a reward model, which reads the sampled tokens up to and with the
end-of-turn token, or from a function or a server, which are given texts; PPO's come from the same sources.
"""

from __future__ import annotations

import json
import math
import random
import statistics
from collections.abc import Callable
from fractions import Fraction
from typing import TYPE_CHECKING, Any, TypeVar

from training.chat import prompt_ids, stop_tokens
from training.command import log
from training.data import Messages, Prompt, load_prompts
from training.errors import UsageError
from training.pair_report import with_interval
from training.ppo_setup import check_same_tokens, load_rewards, require_room_to_answer
from training.pretrained import load_policy
from training.recipe import Generation, OnlineRecipe
from training.reward_sources import TextRewards, scored_alike_from
from training.run_directory import training_device
from training.run_record import RunRecord, kept
from training.scorer import mean_and_stderr
from training.special_tokens import words_only
from training.trl_run import TRLRun
from training.weights_dtype import as_saved

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.rewards import RewardModel

SCORED_AT_ONCE = 16

Online = TypeVar("Online", bound=OnlineRecipe)


def train_online(run: TRLRun[Online], config: type[Any], trainer: type[Any]) -> RunRecord:
    """Train with TRL's `trainer` by its `config`, save and measure; returns the record.

    Metrics: heldout_reward_before and heldout_reward_after of one sampled answer to each held-out prompt, by the same random
    numbers, heldout_reward_change paired by prompt with its standard error and 95% interval (_stderr, _low, _high), and the mean
    reward and KL (TRL's, nats a token, none where beta is 0) in the first and the last fifth of the logged steps; of the reward,
    where its function was changed on the way, the steps that the last one scored. Raises RewardFailed where a function or a
    server gives no rewards: the last saved step stays, and the same command continues from it.
    """
    from datasets import Dataset

    recipe = run.recipe
    arguments = run.arguments(
        config, max_completion_length=recipe.generation.max_new_tokens, temperature=recipe.generation.temperature
    )
    arguments.save_steps = whole_generations(arguments)
    base = run.base()
    rewards, parents = load_rewards(recipe, training_device())
    data = load_prompts(recipe.prompts, recipe.seed)
    run.hold_inputs([base.parent, *parents], data.source)
    if isinstance(rewards, TextRewards):
        run.note_rewards(rewards.source)
    model, tokenizer = load_policy(base.checkpoint, run.load_dtype)
    data = words_only(data, tokenizer)
    stops = stop_tokens(tokenizer, model.generation_config)
    model.generation_config.eos_token_id = stops  # where TRL ends answers; what is saved has the base's own
    if not isinstance(rewards, TextRewards):
        check_same_tokens(tokenizer, rewards.tokenizer)
    rows, heldout = (
        [row for row in rows if len(prompt_ids(tokenizer, row.prompt)) <= recipe.max_prompt_length]
        for rows in (data.train, data.heldout)
    )
    if not rows:
        raise UsageError(
            f"every prompt is longer than {recipe.max_prompt_length} tokens",
            next_step="raise max_prompt_length in the recipe",
        )
    ids = [prompt_ids(tokenizer, row.prompt) for row in rows + heldout]
    require_room_to_answer(recipe, ids, model.config, rewards)
    metrics: dict[str, float | None] = {}
    if heldout:
        metrics["heldout_prompts"] = float(len(heldout))
        with as_saved(model, base.checkpoint.dtype):
            before = sampled_rewards(model, tokenizer, rewards, heldout, recipe.generation, stops)
        metrics["heldout_reward_before"] = statistics.fmean(before)
    ordered = in_order(rows, epochs(arguments, len(rows)), recipe.seed)
    arguments.num_train_epochs, arguments.shuffle_dataset = 1, False
    trained = run.train(
        trainer(
            model=model,
            reward_funcs=reward_function(tokenizer, rewards),
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": row.prompt} for row in ordered]),
            processing_class=tokenizer,
            peft_config=run.lora("CAUSAL_LM"),
        ),
        base,
    )
    if trained is None:  # the first process measures and records
        return run.directory.wait_for_record()
    if heldout:
        after = sampled_rewards(trained, tokenizer, rewards, heldout, recipe.generation, stops)
        metrics["heldout_reward_after"] = statistics.fmean(after)
        changes = [now - then for now, then in zip(after, before, strict=True)]
        metrics |= with_interval("heldout_reward_change", *mean_and_stderr(changes))
    logged = [json.loads(line) for line in run.directory.metrics.read_bytes().splitlines()]
    rewarded = [line for line in logged if "reward" in line]
    since = scored_alike_from(run.rewards, rewarded[-1]["step"]) if rewarded else 1
    metrics |= fifths("reward", [line["reward"] for line in rewarded if line["step"] >= since])
    metrics |= fifths("kl", [line["kl"] for line in logged if "kl" in line])
    run.save_policy(trained, base)
    source = kept(data.source, len(rows), len(data.train) - len(rows), recipe.max_prompt_length)
    return run.finish([base.parent, *parents], source, metrics)


def epochs(arguments: Any, rows: int) -> int:
    """How often the prompts are gone through in all, from the config's max_steps or num_train_epochs."""
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


def reward_function(
    tokenizer: PreTrainedTokenizerBase, rewards: RewardModel | TextRewards
) -> Callable[..., list[float]]:
    """TRL's reward function: a reward for each completion of the prompts, which come once for each of them."""

    def reward(prompts: list[Messages], completion_ids: list[list[int]], **_: Any) -> list[float]:
        return rewards_of(rewards, tokenizer, [prompt_ids(tokenizer, prompt) for prompt in prompts], completion_ids)

    return reward


def rewards_of(
    rewards: RewardModel | TextRewards,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    answers: list[list[int]],
) -> list[float]:
    """A reward for each answer, both as token ids, the end-of-turn token included where an answer came to it.

    A reward model is asked where it was trained to be read; a function or a server is given texts without that token.
    """
    if isinstance(rewards, TextRewards):
        return rewards.score(
            [tokenizer.decode(prompt) for prompt in prompts],
            [tokenizer.decode(answer, skip_special_tokens=True) for answer in answers],
        )
    sequences = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
    scores: list[float] = []
    for start in range(0, len(sequences), SCORED_AT_ONCE):
        scores += rewards.score_ids(sequences[start : start + SCORED_AT_ONCE]).tolist()
    return scores


def sampled_rewards(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    rewards: RewardModel | TextRewards,
    rows: list[Prompt],
    generation: Generation,
    stops: list[int],
) -> list[float]:
    """The reward of one sampled answer to each prompt, ended by any of `stops`. The random numbers are the same at every call."""
    import torch

    from training.decoding import Decoding, decode

    longest = generation.max_new_tokens
    prompts = [prompt_ids(tokenizer, row.prompt) for row in rows]
    uniforms = torch.rand(len(prompts), longest, generator=torch.Generator().manual_seed(0))
    training = model.training
    model.eval()
    decoding = Decoding(max_new_tokens=longest, temperature=generation.temperature)
    answers: list[list[int]] = []
    for start in range(0, len(prompts), SCORED_AT_ONCE):
        some = slice(start, start + SCORED_AT_ONCE)
        answers += decode(model, prompts[some], 1, decoding, uniforms[some], stops, keep_stop=True)
    model.train(training)
    return rewards_of(rewards, tokenizer, prompts, answers)


def fifths(name: str, values: list[float]) -> dict[str, float]:
    """The mean of the first and the last fifth of the logged steps; nothing where none was logged."""
    if not values:
        return {}
    fifth = max(1, len(values) // 5)
    return {
        f"{name}_first_fifth": statistics.fmean(values[:fifth]),
        f"{name}_last_fifth": statistics.fmean(values[-fifth:]),
    }


def whole_generations(arguments: Any) -> float:
    """The steps between two saves, rounded up to where no answers are in hand: TRL keeps them in memory only.

    Answers are used in `steps_per_generation` passes, `num_iterations` times; a step takes `gradient_accumulation_steps` passes.
    """
    passes = arguments.steps_per_generation * arguments.num_iterations
    steps = Fraction(passes, arguments.gradient_accumulation_steps).numerator
    if arguments.save_steps < 1:  # a share of the run, as transformers reads it
        return float(arguments.save_steps)
    wanted = int(arguments.save_steps)
    rounded = -(-wanted // steps) * steps
    if rounded != wanted:
        log(
            f"saved every {rounded} steps, not every {wanted}: answers are used for {steps} steps, and a save keeps none of them"
        )
    return rounded
