"""What PPO does with a rollout: epochs of clipped policy and value steps over shuffled mini batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.errors import UsageError
from training.ppo_math import masked_mean, policy_loss, value_loss
from training.ppo_recipe import PPOSettings
from training.ptx import Mixing, learned_tokens, summed_loss
from training.rollout import Experience

if TYPE_CHECKING:
    from training.ppo_placement import Placement


class Diverged(UsageError):
    """A gradient that is not finite. No step was made with it, and the state of before the update is the saved one."""


class PPOSteps:
    """The optimiser's side of PPO, on an ActorCritic that lies as `place` says."""

    def __init__(
        self, settings: PPOSettings, temperature: float, place: Placement, mixing: Mixing | None = None
    ) -> None:
        self.settings, self.temperature = settings, temperature
        self.place, self.actor, self.accelerator = place, place.actor, place.accelerator
        self.mixing = mixing
        self.critic_is_apart = self.actor.critic is not None
        self.base_rates = [float(group["lr"]) for group in place.optimizer.param_groups]
        self.update = 0

    def learn(
        self, experience: Experience, advantages: Tensor, returns: Tensor, update: int, updates: int
    ) -> dict[str, float]:
        """The epochs of update number `update` (from 0) of `updates`; returns the means of what they saw, and the steps made.

        They end early at the first mini batch on which the policy is found `early_stop_kl` away from the one that sampled.
        """
        self.update = update
        self._set_learning_rate(update, updates)
        seen: list[Tensor] = []
        steps = 0
        for chosen in self._mini_batches(len(advantages)):
            found, too_far = self._step(experience, advantages, returns, chosen)
            seen.append(found)
            if too_far:
                break
            steps += 1
        means = self.accelerator.reduce(torch.stack(seen).mean(dim=0), reduction="mean").tolist()
        names = [
            "policy_loss",
            "value_loss",
            "entropy",
            "clip_fraction",
            "value_clip_fraction",
            "approx_kl",
            "grad_norm",
            *(["critic_grad_norm"] if self.critic_is_apart else []),
            *(["ptx_loss"] if self.mixing else []),
        ]
        return {**dict(zip(names, means, strict=True)), "steps": steps}

    def _mini_batches(self, episodes: int) -> Iterator[Tensor]:
        """Which episodes each step learns from, epoch after epoch."""
        for _ in range(self.settings.num_ppo_epochs):
            order = torch.randperm(episodes)
            for start in range(0, episodes, self.settings.mini_batch_size):
                yield order[start : start + self.settings.mini_batch_size]

    def _step(self, experience: Experience, advantages: Tensor, returns: Tensor, chosen: Tensor) -> tuple[Tensor, bool]:
        """One optimiser step on the chosen episodes, in `gradient_accumulation_steps` pieces.

        Returns what it saw, and whether the policy was too far from the one that sampled for the step to be made.

        Each process learns from its share of a piece, which counts by its share of all tokens of the mini batch, so that how a mini
        batch is cut into pieces and spread over processes does not change the step.
        """
        settings, accelerator, responses = self.settings, self.accelerator, experience.responses
        tokens = responses.mask[chosen].sum()
        seen = torch.zeros(6, device=advantages.device)
        mixed = [] if self.mixing is None else [self._mix_in(self.mixing)]
        pieces = chosen.tensor_split(min(settings.gradient_accumulation_steps, len(chosen)))
        for number, whole_piece in enumerate(pieces):
            piece = whole_piece[accelerator.process_index :: accelerator.num_processes]
            counts = len(piece) > 0
            if not counts:  # all take part in each exchange, this process for nothing
                piece = whole_piece[:1]
            columns = responses.columns(piece)
            length = responses.length - (responses.input_ids.shape[1] - columns.stop)
            mask = responses.mask[piece, :length]
            share = counts * mask.sum() / tokens * accelerator.num_processes
            with self.place.not_yet_exchanged() if number + 1 < len(pieces) else nullcontext():
                with self.place.autocast():
                    logprobs, values, entropies = self.place.forward(
                        responses.input_ids[piece, columns],
                        responses.attention_mask[piece, columns],
                        length,
                        self.temperature,
                        None if experience.trunk is None else experience.trunk[piece, columns],
                        settings.entropy_coef > 0,
                    )
                old = experience.logprobs[piece, :length]
                policy, clipped = policy_loss(logprobs, old, advantages[piece, :length], mask, settings.cliprange)
                value, value_clipped = value_loss(
                    values,
                    experience.values[piece, :length],
                    returns[piece, :length],
                    mask,
                    settings.cliprange_value,
                )
                open_choices = masked_mean(entropies, mask)
                loss = policy + settings.vf_coef * value
                if settings.entropy_coef > 0:
                    loss = loss - settings.entropy_coef * open_choices
                self.place.backward(loss * share)
            with torch.no_grad():
                approx_kl = masked_mean((logprobs - old) ** 2, mask) / 2
                seen += share * torch.stack([policy, value, open_choices, clipped, value_clipped, approx_kl])
        norms = self._clip_gradients()
        limit = settings.early_stop_kl
        too_far = limit is not None and float(accelerator.reduce(seen[5], reduction="mean")) > limit
        if too_far:
            self.place.drop_gradients()
        else:
            self.place.step()
        others = torch.stack([norm.detach().float().to(seen.device) for norm in norms] + mixed)
        return torch.cat([seen.detach(), others]), too_far

    def _clip_gradients(self) -> list[Tensor]:
        """Clip to `max_grad_norm`, policy and value head together, a critic of its own by itself; return the norms before.

        A critic's gradient would otherwise shorten the policy's. Raises Diverged where one is not finite.
        """
        policy, values = self.actor.trainable_groups()
        parts = [policy, values] if self.critic_is_apart else [policy + values]
        norms = self.place.clip(parts, self.settings.max_grad_norm)
        for norm, rate in zip(norms, ("learning_rate", "value_learning_rate"), strict=False):
            if not torch.isfinite(norm):
                raise Diverged(
                    f"training diverged: the gradient is {norm} in update {self.update + 1}",
                    next_step=f"lower ppo.{rate} or raise ppo.kl_coef; the last saved state is from before this update",
                )
        return norms

    def _mix_in(self, mixing: Mixing) -> Tensor:
        """Add the gradient of PPO-ptx's term, and return the mean loss a learned token over all processes' batches.

        It comes before the clipped loss, whose last piece exchanges what has gathered on every process.
        """
        accelerator = self.accelerator
        model = self.place.language_model
        batch = mixing.next_batch(accelerator.process_index, accelerator.num_processes)
        tokens = accelerator.reduce(torch.tensor(learned_tokens(batch), device=accelerator.device), reduction="sum")
        total = torch.zeros((), device=accelerator.device)
        pieces = min(self.settings.gradient_accumulation_steps, len(batch))
        for piece in range(pieces):
            with self.place.not_yet_exchanged():
                with self.place.autocast():
                    loss = summed_loss(model, batch[piece::pieces], mixing.pad) / tokens * accelerator.num_processes
                self.place.backward(mixing.settings.coef * loss)
            total += loss.detach()
        return total

    def _set_learning_rate(self, update: int, updates: int) -> None:
        settings = self.settings
        scale = min(1.0, (update + 1) / settings.warmup_updates) if settings.warmup_updates else 1.0
        if settings.lr_scheduler_type == "linear":
            scale *= 1.0 - 0.9 * min(1.0, update / max(1, updates - 1))
        for group, rate in zip(self.place.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * scale
