"""Gradient checkpointing: a layer's states are computed again in the backward pass instead of being kept until then.

    checkpoint_layers(model)     # from now on, wherever gradients are asked for; losses and gradients stay what they were

transformers' own switch works in training mode only, in which dropout would move PPO's policy away from the one that sampled; and
it makes the embeddings' output ask for gradients, which layers below the lowest adapter do without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from training.errors import UsageError


def checkpoint_layers(model: Any) -> None:
    """Checkpoint each decoder layer of the model. Raises UsageError for one whose layers transformers cannot checkpoint."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise UsageError(
            "the model's layers cannot be checkpointed",
            expected="layers that transformers checkpoints",
            found=type(model).__name__,
            next_step="remove gradient_checkpointing from the recipe",
        )
    for layer in layers:
        layer.forward = _checkpointed(layer.forward)


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    def again(*args: Any, **kwargs: Any) -> Any:
        # A cache would be filled a second time.
        if not torch.is_grad_enabled() or kwargs.get("past_key_values") is not None:
            return forward(*args, **kwargs)
        return checkpoint(forward, *args, use_reentrant=False, **kwargs)

    return again
