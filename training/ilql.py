"""`python -m training ilql`: implicit language Q-learning from answers with rewards, offline (Snell et al. 2022).

One step is: a batch of answers; Q towards the reward and the value of what follows; V towards the better of the data's actions;
words that the data never chose held down; the policy towards the data; the target heads a little after. Nothing is
sampled while training. The loop runs on accelerate: one process on a CPU, one on a GPU, or many are the same code.

Interrupted or killed, the same command continues from the last saved step on the same trajectory.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from training.errors import UsageError
from training.ilql_data import Batch, Transitions, collate
from training.ilql_heads import ValuedPolicy
from training.ilql_math import awac_loss, cql_loss, expectile_loss, q_targets, rewards_at_the_end, td_loss
from training.ilql_recipe import ILQLRecipe
from training.pair_report import correlation
from training.ppo_math import masked_mean
from training.rollout import in_shuffled_epochs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from accelerate import Accelerator

LOSSES = ("loss", "td_loss", "value_loss", "cql_loss", "awac_loss", "q", "value")


class ILQL:
    """ILQL's state between two steps. `step` is a whole one; `state` and `load_state` carry everything over a kill."""

    def __init__(
        self, recipe: ILQLRecipe, policy: ValuedPolicy, pad: int, rows: Sequence[Transitions], accelerator: Accelerator
    ) -> None:
        self.recipe, self.pad, self.rows, self.accelerator = recipe, pad, rows, accelerator
        settings = recipe.ilql
        policy_parameters, head_parameters = policy.trainable_groups()
        optimizer = torch.optim.AdamW(
            [
                {"params": policy_parameters, "lr": settings.learning_rate},
                {"params": head_parameters, "lr": settings.head_learning_rate or settings.learning_rate},
            ],
            weight_decay=settings.weight_decay,
        )
        self.base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self.wrapped, self.optimizer = accelerator.prepare(policy, optimizer)
        self.policy: ValuedPolicy = accelerator.unwrap_model(self.wrapped)
        self.steps_done = 0

    @property
    def total_steps(self) -> int:
        return self.recipe.ilql.total_steps

    def step(self) -> dict[str, Any]:
        """Learn from the next batch, and return what there is to log."""
        clock = time.monotonic()
        settings, accelerator = self.recipe.ilql, self.accelerator
        self._set_learning_rate()
        rows = self._next_rows()
        tokens = accelerator.reduce(
            torch.tensor(sum(len(row.answer) for row in rows), device=accelerator.device), reduction="sum"
        )
        seen = torch.zeros(len(LOSSES), device=accelerator.device)
        pieces = _pieces(rows, settings.gradient_accumulation_steps)
        for number, piece in enumerate(pieces):
            batch = collate(piece, self.pad, accelerator.device)
            # A piece counts by its share of all tokens of the step, so how a batch is cut or spread does not change it.
            share = batch.mask.sum() / tokens * accelerator.num_processes
            with accelerator.no_sync(self.wrapped) if number + 1 < len(pieces) else nullcontext():
                found = self.losses(batch)
                accelerator.backward(found[0] * share)
            seen += share * found.detach()
        norm = accelerator.clip_grad_norm_(self.wrapped.parameters(), settings.max_grad_norm)
        if not torch.isfinite(norm):
            raise UsageError(
                f"training diverged: the gradient is {norm} in step {self.steps_done + 1}",
                next_step="lower ilql.learning_rate, or set scale_rewards; the last saved state is from before this step",
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.policy.heads.follow(settings.polyak_rate)
        self.steps_done += 1
        means = accelerator.reduce(seen, reduction="mean").tolist()
        return {
            "step": self.steps_done,
            "epoch": round(self.steps_done * settings.batch_size / len(self.rows), 3),
            **dict(zip(LOSSES, means, strict=True)),
            "grad_norm": float(norm),
            "seconds": round(time.monotonic() - clock, 3),
        }

    def losses(self, batch: Batch) -> Tensor:
        """The loss with its terms, and the mean of Q at the actions and of V, as LOSSES names them. `(7,)`"""
        settings, mask, actions = self.recipe.ilql, batch.mask, batch.actions
        with self.accelerator.autocast():
            found = self.wrapped(batch.input_ids, batch.attention_mask, mask.shape[1])
        targets = q_targets(
            rewards_at_the_end(batch.rewards, mask), found.values.detach(), mask, settings.gamma, settings.lam
        )
        taken = [q.gather(-1, actions.unsqueeze(-1)).squeeze(-1) for q in (found.q1, found.q2)]
        td = td_loss(taken[0], targets, mask) + td_loss(taken[1], targets, mask)
        value = expectile_loss(found.target_q, found.values, mask, settings.tau)
        cql = cql_loss(found.q1, actions, mask) + cql_loss(found.q2, actions, mask)
        awac = awac_loss(found.logprobs, found.target_q - found.values, mask, settings.awac_beta)
        loss = td + value + settings.cql_scale * cql + settings.awac_scale * awac
        seen = [masked_mean(torch.minimum(*taken), mask), masked_mean(found.values, mask)]
        return torch.stack([loss, td, value, cql, awac, *seen])

    @torch.no_grad()
    def heldout_losses(self, rows: Sequence[Transitions], batch_size: int = 32) -> dict[str, float]:
        """`losses` over all of the rows' tokens, nothing learned."""
        total, tokens = torch.zeros(len(LOSSES), device=self.accelerator.device), 0
        for start in range(0, len(rows), batch_size):
            batch = collate(rows[start : start + batch_size], self.pad, self.accelerator.device)
            total += self.losses(batch) * batch.mask.sum()
            tokens += int(batch.mask.sum())
        return dict(zip(LOSSES, (total / tokens).tolist(), strict=True))

    @torch.no_grad()
    def value_correlation(self, rows: Sequence[Transitions], batch_size: int = 32) -> float:
        """Pearson's correlation of each answer's mean V with its reward: 0 where the heads know nothing of its worth."""
        means: list[float] = []
        for start in range(0, len(rows), batch_size):
            batch = collate(rows[start : start + batch_size], self.pad, self.accelerator.device)
            with self.accelerator.autocast():
                values = self.policy(batch.input_ids, batch.attention_mask, batch.mask.shape[1]).values
            means += ((values * batch.mask).sum(1) / batch.mask.sum(1)).tolist()
        return correlation(means, [row.reward for row in rows])

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on; `torch.load(weights_only=True)` reads it back."""
        from accelerate.utils import gather_object

        return {
            "steps_done": self.steps_done,
            "trainable": self.policy.trainable_state(),
            "optimizer": self.optimizer.state_dict(),
            "random": gather_object([torch.get_rng_state()]),
            "random_cuda": gather_object([torch.cuda.get_rng_state_all()]),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Continue from `state()`, whatever number of processes saved it.

        Random numbers are those of dropout only, which another number of processes continues otherwise.
        """
        same = len(state["random"]) == self.accelerator.num_processes
        process = int(self.accelerator.process_index) if same else 0
        self.steps_done = state["steps_done"]
        self.policy.load_state_dict(state["trainable"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"][process].cpu())
        if torch.cuda.is_available() and len(state["random_cuda"][process]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(state["random_cuda"][process])

    def _next_rows(self) -> list[Transitions]:
        """This process's share of the next batch; every epoch over the rows has an order of its own."""
        size = self.recipe.ilql.batch_size
        batch = in_shuffled_epochs(self.rows, self.steps_done * size, size, self.recipe.seed)
        return batch[self.accelerator.process_index :: self.accelerator.num_processes]

    def _set_learning_rate(self) -> None:
        scale = 1.0
        if self.recipe.ilql.lr_scheduler_type == "linear":
            scale = 1.0 - 0.9 * min(1.0, self.steps_done / max(1, self.total_steps - 1))
        for group, rate in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * scale


def _pieces(rows: list[Transitions], count: int) -> list[list[Transitions]]:
    """The rows in up to `count` pieces of nearly one size, answers of similar lengths together."""
    ordered = sorted(rows, key=lambda row: len(row.prompt) + len(row.answer))
    count = min(count, len(ordered))
    cuts = [round(place * len(ordered) / count) for place in range(count + 1)]
    return [ordered[start:stop] for start, stop in pairwise(cuts)]
