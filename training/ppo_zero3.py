"""PPO's actor in parts by DeepSpeed's ZeRO-3: its passes and steps through DeepSpeed's engine, and saved as one process saves it.

The engine clips and steps in one. Here the gradient is clipped between, in the parts that PPO clips, so that a step that is not
to be made (`early_stop_kl`, a gradient that is not finite) is not made.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from training import zero3
from training.policy import ActorCritic
from training.ppo_placement import InParts, optimizer_of
from training.ppo_recipe import PPORecipe

ACTOR = "actor."  # before the names of the actor's parameters in the engine's module


class Passes(nn.Module):
    """What the engine takes for its module: a pass of the whole actor, or of its language model alone.

    The engine counts passes to know whether gradients begin anew or add up, so that all must be its own.
    """

    def __init__(self, actor: ActorCritic, autocasts: bool) -> None:
        super().__init__()
        self.actor, self.autocasts = actor, autocasts

    def forward(self, whole: bool, *inputs: Any, **named: Any) -> Any:
        with self.autocast():  # the engine ends what is open outside of it
            return (self.actor if whole else self.actor.language_model)(*inputs, **named)

    def autocast(self) -> AbstractContextManager[Any]:
        device = next(self.actor.parameters()).device.type
        return torch.autocast(device, torch.bfloat16) if self.autocasts else nullcontext()


class LanguageModel:
    """The language model alone, its passes through the engine."""

    def __init__(self, engine: Any, device: torch.device) -> None:
        self.engine, self.device = engine, device

    def __call__(self, **named: Any) -> Any:
        return self.engine(False, **named)


class InPartsByZeRO3(InParts):
    """A part of each weight, gradient and optimizer state on each process, by DeepSpeed."""

    def _prepared(self, recipe: PPORecipe, actor: ActorCritic) -> tuple[Any, Any]:
        config = self.accelerator.state.deepspeed_plugin.deepspeed_config
        # DeepSpeed divides losses by the one and counts samples by the other; and it is not to clip.
        config |= {"gradient_accumulation_steps": 1, "train_micro_batch_size_per_gpu": 1, "gradient_clipping": 0.0}
        engine, optimizer = self.accelerator.prepare(Passes(actor, recipe.autocasts), optimizer_of(recipe, actor))
        return engine, optimizer

    @property
    def language_model(self) -> Any:
        return LanguageModel(self.wrapped, self.accelerator.device)

    def forward(self, *inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        found: tuple[Tensor, Tensor, Tensor] = self.wrapped(True, *inputs)
        return found

    def autocast(self) -> AbstractContextManager[Any]:
        cast: AbstractContextManager[Any] = self.wrapped.module.autocast()
        return cast

    def backward(self, loss: Tensor) -> None:
        self.wrapped.backward(loss)  # accelerate's would make a step as well

    def not_yet_exchanged(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def clip(self, parts: Sequence[list[nn.Parameter]], limit: float) -> list[Tensor]:
        return [zero3.clip(part, limit) for part in parts]

    def step(self) -> None:
        self.wrapped.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        zero3.drop_gradients(self.wrapped)

    def whole_weights(self) -> AbstractContextManager[None]:
        return zero3.whole_weights(self.wrapped)

    def rescale_critic(self, mean: float, std: float) -> None:
        assert self.actor.critic is not None
        with zero3.changed(list(self.actor.critic.value_head.parameters())):
            self.actor.critic.rescale(mean, std)

    def trainable_state(self) -> dict[str, Tensor]:
        return zero3.learned_weights(self.actor)

    def policy_state(self) -> dict[str, Tensor]:
        return {f"model.{name}": tensor for name, tensor in zero3.learned_weights(self.actor.model).items()}

    def load_trainable(self, state: dict[str, Tensor]) -> None:
        zero3.take_weights(self.wrapped, {ACTOR + name: tensor for name, tensor in state.items()})

    def optimizer_state(self) -> dict[str, Any]:
        return zero3.optimizer_state(self.wrapped, self._groups())

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        zero3.take_optimizer_state(self.wrapped, self._groups(), state)

    def _policy_weights(self) -> dict[str, Tensor]:
        return zero3.weights(self.actor.model)

    def _groups(self) -> list[list[str]]:
        """Names of the parameters of each of the optimizer's groups."""
        names = {id(parameter): name for name, parameter in self.wrapped.module.named_parameters()}
        return [[names[id(parameter)] for parameter in group] for group in self.actor.trainable_groups()]
