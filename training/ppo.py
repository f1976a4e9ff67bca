"""`python -m training ppo`: align a policy with PPO against rewards (Ouyang et al. 2022, section 3.5).

One update is: sample a batch of responses; score them; charge each token with its distance from the reference; estimate
advantages; a few epochs of clipped policy and value steps over shuffled mini batches. The loop runs on accelerate, so
the same code is one process on a CPU, one on a GPU, or many under `accelerate launch`, data parallel or in parts
(training/ppo_placement.py).

Interrupted or killed, the same command continues from the last saved update on the same trajectory.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from training.command import log
from training.completions import first_completions
from training.critic import share_memory
from training.policy import ActorCritic, token_positions
from training.ppo_math import (
    Moments,
    adapted_kl_coef,
    advantages_and_returns,
    combined,
    kl_per_token,
    moments,
    shaped_rewards,
    whiten,
)
from training.ppo_placement import placed
from training.ppo_recipe import PPORecipe
from training.ppo_steps import PPOSteps
from training.ptx import Mixing
from training.reward_sources import RewardFailed, TextRewards
from training.rollout import Experience, Kept, Responses, gathered_experience, in_shuffled_epochs, sample
from training.sharding import layout

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase

    from training.rewards import RewardModel
    from training.vllm_rollouts import VLLMRollouts

EQUAL = 1e-6  # a deviation below this share of the mean is float32's rounding of equal scores


@dataclass
class RewardScale:
    """What scores are reduced by, then divided by (Ziegler et al. 2019)."""

    mean: float = 0.0
    std: float = 1.0


class PPO:
    """PPO's state between two updates. `update` is a whole one; `state` and `load_state` carry everything over a kill."""

    def __init__(
        self,
        recipe: PPORecipe,
        actor: ActorCritic,
        tokenizer: PreTrainedTokenizerBase,
        rewards: RewardModel | TextRewards,
        prompts: list[list[int]],
        accelerator: Accelerator,
        mixing: Mixing | None = None,
        engine: VLLMRollouts | None = None,
    ) -> None:
        self.recipe, self.tokenizer, self.rewards, self.engine = recipe, tokenizer, rewards, engine
        self.prompts, self.accelerator = prompts, accelerator
        actor.to(accelerator.device)
        self.trunk_is_shared = not isinstance(rewards, TextRewards) and actor.shares_trunk(rewards)
        if layout(accelerator) == "whole" and actor.critic is not None:
            others = [actor.language_model, getattr(rewards, "model", None)]
            share_memory(actor.critic.language_model, [each for each in others if each is not None])
        self.actor, self.place = actor, placed(recipe, actor, accelerator)
        self.steps = PPOSteps(recipe.ppo, recipe.generation.temperature, self.place, mixing)
        self.scale: RewardScale | None = None
        self.seen_scores: Moments | None = None
        self.kl_coef = recipe.ppo.kl_coef
        self.updates_done = 0
        self.completions: list[dict[str, Any]] = []  # a few of the last update, as texts

    @property
    def episodes_per_update(self) -> int:
        return self.recipe.ppo.batch_size

    @property
    def total_updates(self) -> int:
        return -(-self.recipe.ppo.total_episodes // self.episodes_per_update)

    def update(self) -> dict[str, Any]:
        """Sample a batch, learn from it, and return what there is to log.

        Raises RewardFailed where there are no rewards: everything is then as it was before this update.
        """
        clock = time.monotonic()
        random_state = torch.get_rng_state()
        try:
            experience = gathered_experience(self._rollout_of_this_process(), self.accelerator)
            scores = experience.scores
            if not torch.isfinite(scores).all():
                raise RewardFailed(
                    "the reward model's scores are not all finite numbers",
                    found=f"{int((~torch.isfinite(scores)).sum())} of {len(scores)} are NaN or infinite",
                    next_step="use another reward model, or dtype: float32",
                )
        except RewardFailed:
            torch.set_rng_state(random_state)  # the same responses are sampled when the run continues
            raise
        sampled = time.monotonic()
        settings = self.recipe.ppo
        mask = experience.responses.mask
        found = moments(scores)
        self._set_scale(found)
        if self.updates_done == 0:
            experience = self._in_scaled_units(experience)
        kl_coef = self.kl_coef
        kl = kl_per_token(experience.logprobs, experience.ref_logprobs) * mask
        self.completions = first_completions(self.tokenizer, experience, kl, settings.log_completions)
        rewards = shaped_rewards(self._scaled(experience), kl, mask, kl_coef)
        advantages, returns = advantages_and_returns(rewards, experience.values, mask, settings.gamma, settings.lam)
        if settings.whiten_advantages:
            advantages = whiten(advantages, mask)
        losses = self.steps.learn(experience, advantages, returns, self.updates_done, self.total_updates)
        self.updates_done += 1
        response_kl = float(kl.sum(dim=1).mean())
        if settings.kl_target is not None:
            gain = self.episodes_per_update / settings.kl_horizon
            self.kl_coef = adapted_kl_coef(kl_coef, response_kl, settings.kl_target, gain)
        return {
            "step": self.updates_done,
            "episodes": self.updates_done * self.episodes_per_update,
            "reward_mean": float(scores.mean()),
            "reward_std": found.std,
            "scores": [round(score, 5) for score in scores.tolist()],
            "kl": response_kl,
            "kl_coef": kl_coef,
            **losses,
            "response_tokens": float(mask.sum(dim=1).float().mean()),
            "ended": float(experience.responses.ended.float().mean()),
            "seconds_sampling": round(sampled - clock, 3),
            "seconds": round(time.monotonic() - clock, 3),
        }

    def rollout(self, prompts: list[list[int]], uniforms: Tensor | None = None) -> Experience:
        """Sample a response to each prompt, with its reward and what policy and reference think of it.

        `uniforms` `(B, max_new_tokens)` are the random numbers to sample with; else they are drawn.
        """
        with self.place.whole_weights(), torch.no_grad(), self.place.autocast():
            responses, kept, trunk, scores = self._sample_and_score(
                prompts, self.recipe.ppo.keep_from_sampling, uniforms
            )
            inputs = (
                responses.input_ids,
                responses.attention_mask,
                responses.length,
                self.recipe.generation.temperature,
            )
            if trunk is None:
                trunk = self.actor.trunk_states(responses.input_ids, responses.attention_mask)
            if kept is None:
                logprobs, values = self.actor(*inputs, trunk)[:2]
            else:
                logprobs, values = kept.logprobs, kept.values
                if self.actor.critic is not None:
                    values = self.actor.critic(*inputs[:3], trunk)
            ref_logprobs = self.actor.reference_logprobs(*inputs, trunk)
        return Experience(responses, logprobs, ref_logprobs, values, scores, trunk)

    def scores(self, prompts: list[list[int]]) -> Tensor:
        """Scores `(B,)` of a sampled response to each prompt."""
        with self.place.whole_weights():
            return self._sample_and_score(prompts)[3]

    def _sample_and_score(
        self, prompts: list[list[int]], keep: bool = False, uniforms: Tensor | None = None
    ) -> tuple[Responses, Kept | None, Tensor | None, Tensor]:
        """Responses, what sampling kept of them, the frozen layers' states where they are known by then, and scores `(B,)`."""
        with torch.no_grad(), self.place.autocast():
            generation = self.recipe.generation
            responses, kept = sample(self.actor, self.tokenizer, prompts, generation, keep, uniforms, self.engine)
            trunk = kept.trunk if kept else None
            if isinstance(self.rewards, TextRewards):
                return responses, kept, trunk, self._asked(self.rewards, prompts, responses)
            if self.trunk_is_shared:
                if trunk is None:
                    trunk = self.actor.trunk_states(responses.input_ids, responses.attention_mask)
                assert trunk is not None
                count, mask = self.actor.frozen_layers, responses.attention_mask
                return responses, kept, trunk, self.rewards.score_states(trunk, count, mask, token_positions(mask))
        sequences = [prompt + answer for prompt, answer in zip(prompts, responses.tokens(), strict=True)]
        return responses, kept, trunk, self.rewards.score_ids(sequences)

    def _asked(self, rewards: TextRewards, prompts: list[list[int]], responses: Responses) -> Tensor:
        """Rewards of texts, `(B,)` float32. Where they fail for one process, RewardFailed is raised on all of them."""
        from accelerate.utils import gather_object

        decode = self.tokenizer.decode
        failure: RewardFailed | None = None
        scores: list[float] = []
        try:
            scores = rewards.score(
                [decode(prompt) for prompt in prompts],
                [decode(answer, skip_special_tokens=True) for answer in responses.tokens()],
            )
        except RewardFailed as error:
            failure = error
        if self.accelerator.num_processes > 1:  # or the others would wait for this one at the next exchange
            failure = next((each for each in [failure, *gather_object([failure])] if each is not None), None)
        if failure is not None:
            raise failure
        return torch.tensor(scores, dtype=torch.float32, device=responses.mask.device)

    def state(self) -> dict[str, Any]:
        """Everything that the next update depends on; `torch.load(weights_only=True)` reads it back."""
        from accelerate.utils import gather_object

        return {
            "updates_done": self.updates_done,
            "trainable": self.place.trainable_state(),
            "optimizer": self.place.optimizer_state(),
            "scale": [self.scale.mean, self.scale.std] if self.scale else None,
            "seen_scores": list(self.seen_scores) if self.seen_scores else None,
            "kl_coef": self.kl_coef,
            "mixed_batches": self.steps.mixing.taken if self.steps.mixing else 0,
            "random": gather_object([torch.get_rng_state()]),
            "random_cuda": gather_object([torch.cuda.get_rng_state_all()]),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`, whatever number of processes saved it, and however the weights lay on them.

        Random numbers are drawn alike on all processes, but for those of dropout, which another number continues otherwise.
        """
        same = len(state["random"]) == self.accelerator.num_processes
        process = int(self.accelerator.process_index) if same else 0
        self.updates_done = state["updates_done"]
        self.place.load_trainable(state["trainable"])
        self.place.load_optimizer_state(state["optimizer"])
        self.scale = RewardScale(*state["scale"]) if state["scale"] else None
        self.seen_scores = Moments(*state["seen_scores"]) if state["seen_scores"] else None
        self.kl_coef = state["kl_coef"]
        if self.steps.mixing is not None:
            self.steps.mixing.taken = state["mixed_batches"]
        torch.set_rng_state(state["random"][process].cpu())
        if torch.cuda.is_available() and len(state["random_cuda"][process]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["random_cuda"][process])

    def _rollout_of_this_process(self) -> Experience:
        """This process's share of the next batch; every epoch over the prompts has an order of its own.

        Random numbers are drawn for all of it, so that a response does not depend on the process that samples it.
        """
        size, process, processes = (
            self.episodes_per_update,
            self.accelerator.process_index,
            self.accelerator.num_processes,
        )
        own = slice(process * size // processes, (process + 1) * size // processes)
        prompts = in_shuffled_epochs(self.prompts, self.updates_done * size, size, self.recipe.seed)
        return self.rollout(prompts[own], torch.rand(size, self.recipe.generation.max_new_tokens)[own])

    def _set_scale(self, found: Moments) -> None:
        """Settle what this update's scores are scaled by. `found` is of all processes' scores, and so the same on each.

        A fixed scale is that of the first rollout, or, where its scores are all equal, of all scores up to the first that differs.
        """
        kind = self.recipe.ppo.scale_rewards
        if not kind:
            self.scale = RewardScale()
        if not kind or (kind is True and self.scale is not None):
            return
        seen = self.seen_scores = combined(self.seen_scores, found) if self.seen_scores else found
        differ = seen.std > EQUAL * abs(seen.mean)
        if kind == "running":
            self.scale = RewardScale(0.0, seen.std if differ else 1.0)
        elif differ:
            self.scale = RewardScale(seen.mean, seen.std)
        elif self.accelerator.is_main_process:
            log(f"every reward so far is {seen.mean:g}; the scale waits for one that differs (ppo.scale_rewards)")

    def _scale_now(self) -> RewardScale:
        if self.scale is None:  # every score so far is the same, and so no better than another
            assert self.seen_scores is not None
            return RewardScale(self.seen_scores.mean, 1.0)
        return self.scale

    def _in_scaled_units(self, experience: Experience) -> Experience:
        """The first rollout, with the values of a critic that begins as the reward model in the units of scaled rewards."""
        critic, scale = self.actor.critic, self._scale_now()
        if critic is None or not critic.is_reward_model:
            return experience
        std = scale.std + 1e-8
        self.place.rescale_critic(scale.mean, std)
        return replace(experience, values=(experience.values - scale.mean) / std)

    def _scaled(self, experience: Experience) -> Tensor:
        """Scores as the optimiser meets them: scaled, clipped, with the penalty for not ending. `(B,)`"""
        settings, scale = self.recipe.ppo, self._scale_now()
        scores = (experience.scores - scale.mean) / (scale.std + 1e-8)
        if settings.reward_clip is not None:
            scores = scores.clamp(-settings.reward_clip, settings.reward_clip)
        if settings.missing_eos_penalty is not None:
            scores = scores - settings.missing_eos_penalty * (~experience.responses.ended).float()
        return scores
