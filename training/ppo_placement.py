"""How PPO's actor lies on the processes, and what a pass, a step and a saved state are there.

place = placed(recipe, actor, accelerator)      # whole on each process, or in parts by FSDP2 or ZeRO-3
with place.whole_weights():                     # each process computes at its own pace: sampling
    ...
place.backward(loss(place.forward(...)))
norms = place.clip([parameters], 1.0)
place.step()
place.trainable_state(), place.optimizer_state()    # as one process would save them, whatever the placement
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from training.master_weights import MasterAdamW
from training.merged import merged
from training.ppo_recipe import PPORecipe
from training.sharding import gathered, layout, optimizer_state_for, rebuilt, say_how_it_lies, shard, whole_weights

if TYPE_CHECKING:
    from accelerate import Accelerator

    from training.policy import ActorCritic


class Placement:
    """The actor whole on each process: one alone, or several that learn data parallel."""

    def __init__(self, recipe: PPORecipe, actor: ActorCritic, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        self.wrapped, self.optimizer = self._prepared(recipe, actor)
        self.actor = actor
        say_how_it_lies(actor, accelerator)

    def _prepared(self, recipe: PPORecipe, actor: ActorCritic) -> tuple[Any, Any]:
        """What is called in the actor's place, and its optimizer."""
        wrapped, optimizer = self.accelerator.prepare(actor, optimizer_of(recipe, actor))
        return wrapped, optimizer

    @property
    def language_model(self) -> Any:
        """What is called in the language model's place for a pass that learns."""
        return self.actor.language_model

    def forward(self, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """A pass of the actor that learns; see `ActorCritic.forward`. Every process makes as many."""
        found: tuple[Tensor, Tensor, Tensor] = self.wrapped(*inputs)
        return found

    def autocast(self) -> AbstractContextManager[Any]:
        """While open, passes compute in the recipe's precision."""
        cast: AbstractContextManager[Any] = self.accelerator.autocast()
        return cast

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of `loss`, whose mean over the processes is learned from."""
        self.accelerator.backward(loss)

    def not_yet_exchanged(self) -> AbstractContextManager[Any]:
        """Gradients of passes made inside wait for those of the last pass, and are exchanged with them."""
        waiting: AbstractContextManager[Any] = self.accelerator.no_sync(self.wrapped)
        return waiting

    def clip(self, parts: Sequence[list[nn.Parameter]], limit: float) -> list[Tensor]:
        """Shorten the gradient of each part by itself to a norm of `limit`; return the norms before."""
        return [gathered(self.accelerator.clip_grad_norm_(part, limit)) for part in parts]

    def step(self) -> None:
        """One step of the optimizer, after which there are no gradients."""
        self.optimizer.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        self.optimizer.zero_grad()

    def whole_weights(self) -> AbstractContextManager[None]:
        """While open, each process has the actor's weights whole and computes at its own pace, without gradients."""
        return nullcontext()

    def rescale_critic(self, mean: float, std: float) -> None:
        """See `Critic.rescale`."""
        assert self.actor.critic is not None
        self.actor.critic.rescale(mean, std)

    def trainable_state(self) -> dict[str, Tensor]:
        """`ActorCritic.trainable_state`, whole. Every process takes part."""
        found: dict[str, Tensor] = gathered(self.actor.trainable_state())
        return found

    def policy_state(self) -> dict[str, Tensor]:
        """`ActorCritic.policy_state`, whole. Every process takes part."""
        found: dict[str, Tensor] = gathered(self.actor.policy_state())
        return found

    def load_trainable(self, state: dict[str, Tensor]) -> None:
        """Take back a `trainable_state` or a `policy_state`."""
        self.actor.load_trainable(state)

    def optimizer_state(self) -> dict[str, Any]:
        """The optimizer's `state_dict`, whole. Every process takes part."""
        found: dict[str, Any] = gathered(self.optimizer.state_dict())
        return found

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        self.optimizer.load_state_dict(optimizer_state_for(self.optimizer, state))

    def whole_policy(self) -> Any | None:
        """The policy as a plain causal language model, adapters merged; the actor is of no use afterwards.

        Every process takes part. Where it lies in parts, all but the first are given None.
        """
        return self.actor.merged()


class InParts(Placement):
    """A part of each weight, gradient and optimizer state on each process, by FSDP2."""

    def _prepared(self, recipe: PPORecipe, actor: ActorCritic) -> tuple[Any, Any]:
        for module in actor.modules_apart():
            shard(module, self.accelerator)
        return actor, optimizer_of(recipe, actor)

    def not_yet_exchanged(self) -> AbstractContextManager[Any]:
        """They are exchanged at once: no process holds them whole."""
        return nullcontext()

    def whole_weights(self) -> AbstractContextManager[None]:
        return whole_weights(self.actor.modules_apart(), self.accelerator)

    def whole_policy(self) -> Any | None:
        weights = self._policy_weights()
        if not self.accelerator.is_main_process:
            return None
        policy = rebuilt(self.actor.model, weights)
        return merged(policy) if self.actor.uses_adapters else policy

    def _policy_weights(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = gathered(self.actor.model.state_dict())
        return found


def placed(recipe: PPORecipe, actor: ActorCritic, accelerator: Accelerator) -> Placement:
    """The actor as the launch asks for it."""
    from training.ppo_zero3 import InPartsByZeRO3

    kinds = {"whole": Placement, "fsdp2": InParts, "zero3": InPartsByZeRO3}
    return kinds[layout(accelerator)](recipe, actor, accelerator)


def optimizer_of(recipe: PPORecipe, actor: ActorCritic) -> torch.optim.Optimizer:
    """AdamW with one group for the policy and one for what says values."""
    policy, values = actor.trainable_groups()
    settings = recipe.ppo
    groups: list[dict[str, Any]] = [
        {"params": policy, "lr": settings.learning_rate},
        {"params": values, "lr": settings.value_learning_rate or settings.learning_rate},
    ]
    adamw: Any = MasterAdamW if recipe.rounded_weights else torch.optim.AdamW
    optimizer: torch.optim.Optimizer = adamw(groups, weight_decay=settings.weight_decay)
    return optimizer
