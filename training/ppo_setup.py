"""What a PPO run works with, loaded from its recipe: policy, rewards, prompts, and what is mixed in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.chat import prompt_ids
from training.context_length import require_context
from training.data import Prompt, load_prompts
from training.errors import UsageError
from training.ppo_recipe import PPORecipe
from training.pretrained import BaseModel, load_policy, load_tokenizer, resolve_base
from training.processes import launched_accelerator
from training.recipe import OnlineRecipe
from training.reward_sources import TextRewards, load_reward_function, reward_endpoint
from training.run_record import DataSource, ParentCheckpoint, kept
from training.special_tokens import words_only

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.critic import Critic
    from training.ppo import PPO
    from training.ptx import PTXData
    from training.rewards import RewardModel
    from training.vllm_rollouts import VLLMRollouts


@dataclass(frozen=True)
class Setup:
    """A PPO run before its first update."""

    ppo: PPO
    base: BaseModel
    generation_config: Any  # the base's own, for the policy to be saved with
    heldout: list[list[int]]  # prompts as token ids
    mixed: PTXData | None  # PPO-ptx's data
    parents: list[ParentCheckpoint]
    sources: list[DataSource]

    def mixed_loss(self) -> float | None:
        """How well the policy still knows what is held out of the mixed-in data, in nats a token."""
        from training.ptx import heldout_loss

        if not self.mixed or not self.mixed.heldout:
            return None
        with self.ppo.place.whole_weights(), self.ppo.place.autocast():
            return heldout_loss(self.ppo.actor.language_model, self.mixed.heldout, self.ppo.tokenizer.pad_token_id)


def set_up(recipe: PPORecipe) -> Setup:
    """Load everything. Raises UsageError where parts do not fit together."""
    import torch
    from accelerate.utils import set_seed

    from training.policy import ActorCritic
    from training.ppo import PPO
    from training.ptx import Mixing, load_ptx
    from training.vllm_rollouts import require_vllm

    accelerator = launched_accelerator(recipe)
    require_shares(recipe, accelerator.num_processes)
    if recipe.ppo.rollouts == "vllm":
        require_vllm(accelerator.num_processes)
    base = resolve_base(recipe.base)
    rewards, parents = load_rewards(recipe, str(accelerator.device))
    data = load_prompts(recipe.prompts, recipe.seed)
    model, tokenizer = load_policy(base.checkpoint, recipe.weights_dtype)
    data = words_only(data, tokenizer)
    generation_config = model.generation_config
    prompts, too_long = tokenize_prompts(tokenizer, data.train, recipe.max_prompt_length)
    heldout, _ = tokenize_prompts(tokenizer, data.heldout, recipe.max_prompt_length) if data.heldout else ([], 0)
    if recipe.guards.heldout_every and not heldout:
        raise UsageError(
            "guards.heldout_every measures on held-out prompts, and there are none",
            next_step="set prompts.heldout_fraction or prompts.heldout_split, or remove guards.heldout_every",
        )
    require_room_to_answer(recipe, prompts + heldout, model.config, rewards)
    mixed = load_ptx(recipe.ptx, tokenizer, recipe.seed) if recipe.ptx else None
    if mixed and recipe.ptx:
        lengths = [len(ids) for ids, _ in mixed.train + mixed.heldout]
        require_context(model.config, lengths, "lower ptx.max_length", limit=recipe.ptx.max_length)
    mixing = None
    if mixed and recipe.ptx and recipe.ptx.coef > 0:
        mixing = Mixing(mixed.train, recipe.ptx, tokenizer.pad_token_id, recipe.seed)
    if not isinstance(rewards, TextRewards):
        check_same_tokens(tokenizer, rewards.tokenizer)
    set_seed(recipe.seed)  # before the adapters: theirs is the same on every process
    critic = None
    if recipe.ppo.critic == "separate":
        critic, started_from = separate_critic(recipe, tokenizer, prompts + heldout, rewards)
        parents.append(started_from)
    actor = ActorCritic(model, recipe.lora, recipe.gradient_checkpointing, critic)
    engine = vllm_engine(recipe, base) if recipe.ppo.rollouts == "vllm" else None
    ppo = PPO(recipe, actor, tokenizer, rewards, prompts, accelerator, mixing, engine)
    torch.manual_seed(recipe.seed * 1_000_003)  # all processes draw the same numbers, of which each uses its own
    sources = [kept(data.source, len(prompts), too_long, recipe.max_prompt_length)] + ([mixed.source] if mixed else [])
    return Setup(ppo, base, generation_config, heldout, mixed, [base.parent, *parents], sources)


def vllm_engine(recipe: PPORecipe, base: BaseModel) -> VLLMRollouts:
    """vLLM on the base's weights, for the longest prompt and answer that there may be."""
    from training.vllm_rollouts import VLLMRollouts

    longest = recipe.max_prompt_length + recipe.generation.max_new_tokens
    return VLLMRollouts(base.checkpoint.path, recipe.dtype, longest, recipe.ppo.vllm_gpu_memory_utilization)


def require_shares(recipe: PPORecipe, processes: int) -> None:
    """Raise UsageError where the processes cannot take equal shares of a rollout, or of what is mixed in."""
    sizes = {"ppo.batch_size": recipe.ppo.batch_size}
    if recipe.ptx is not None:
        sizes["ptx.batch_size"] = recipe.ptx.batch_size
    for key, size in sizes.items():
        if size % processes:
            raise UsageError(
                "the batch cannot be shared out evenly among the processes",
                where=key,
                expected=f"a multiple of {processes}, the number of processes",
                found=str(size),
                next_step=f"change {key}, or launch another number of processes",
            )


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


def require_room_to_answer(
    recipe: PPORecipe | OnlineRecipe, prompts: Sequence[list[int]], policy: Any, rewards: RewardModel | TextRewards
) -> None:
    """Raise UsageError where a prompt and an answer may be beyond the context of the policy (its config) or of the reward model."""
    read_by = [policy] if isinstance(rewards, TextRewards) else [policy, rewards.model.config]
    for config in read_by:
        _require_room(recipe, prompts, config)


def _require_room(recipe: PPORecipe | OnlineRecipe, prompts: Sequence[list[int]], config: Any) -> None:
    require_context(
        config,
        map(len, prompts),
        "lower max_prompt_length or generation.max_new_tokens",
        limit=recipe.max_prompt_length,
        sampled=recipe.generation.max_new_tokens,
    )


def separate_critic(
    recipe: PPORecipe,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[list[int]],
    rewards: RewardModel | TextRewards,
) -> tuple[Critic, ParentCheckpoint]:
    """A critic with a trunk of its own, and what it starts from. The random state is left as it was.

    Raises UsageError where it could not read what the policy writes.
    """
    import torch

    from training.critic import load_critic

    start = resolve_base(recipe.critic_source)
    check_same_tokens(tokenizer, load_tokenizer(start.checkpoint), "critic", "let critic_model name one of its family")
    is_reward_model = not isinstance(rewards, TextRewards) and rewards.digest == start.checkpoint.digest
    with torch.random.fork_rng():  # the policy's adapters are those that it would have without this critic
        critic = load_critic(recipe, start.checkpoint, is_reward_model)
    _require_room(recipe, prompts, critic.language_model.config)
    return critic, start.parent.model_copy(update={"role": "critic", "hub_id": None})


def check_same_tokens(
    policy: PreTrainedTokenizerBase,
    other: PreTrainedTokenizerBase,
    name: str = "reward model",
    next_step: str = "train a reward model from the same family of base model",
) -> None:
    """The other model reads the policy's token ids as they are; raise UsageError where its vocabulary differs."""
    if policy.get_vocab() != other.get_vocab() or policy.eos_token_id != other.eos_token_id:
        raise UsageError(
            f"policy and {name} do not share a vocabulary",
            expected=f"{len(policy)} tokens, end of turn {policy.eos_token!r}",
            found=f"{len(other)} tokens, end of turn {other.eos_token!r}",
            next_step=next_step,
        )
