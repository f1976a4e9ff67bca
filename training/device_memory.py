"""Bytes that training takes on each device under DDP, ZeRO and FSDP: pure mathematics, no torch.

    for estimate in device_memory(shape, devices=8, micro_batch=1, context=2048):
        estimate.strategy, estimate.states, estimate.total(checkpointing=True)

Mixed precision with Adam holds 16 bytes a parameter: 2 of weights and 2 of gradients in bfloat16, and in float32 a master
copy and two moments, 4 each (Rajbhandari et al. 2020, section 3.1). Allocator fragments, CUDA's context and communication
buffers are not in it.
"""

from __future__ import annotations

from dataclasses import dataclass

from training.compute_plan import Shape

WEIGHTS, GRADIENTS, OPTIMIZER = 2, 2, 12  # bytes a parameter
LOGITS = 10  # bytes for each token and vocabulary entry: bfloat16, float32, and the float32 gradient


@dataclass(frozen=True)
class Strategy:
    """Which of the three kinds of state are divided among the devices."""

    weights: bool
    gradients: bool
    optimizer: bool

    def states(self, parameters: int, devices: int) -> float:
        """Bytes of weights, gradients and optimizer on each device (Rajbhandari et al. 2020, figure 1)."""
        return parameters * sum(
            size / devices if divided else size
            for size, divided in ((WEIGHTS, self.weights), (GRADIENTS, self.gradients), (OPTIMIZER, self.optimizer))
        )


STRATEGIES = {
    "DDP": Strategy(weights=False, gradients=False, optimizer=False),
    "ZeRO-1": Strategy(weights=False, gradients=False, optimizer=True),
    "ZeRO-2": Strategy(weights=False, gradients=True, optimizer=True),
    "ZeRO-3": Strategy(weights=True, gradients=True, optimizer=True),
    "FSDP full shard": Strategy(weights=True, gradients=True, optimizer=True),
}


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device."""

    strategy: str
    states: float
    gathered: float  # weights and gradients of what is whole for the moment, where weights are divided
    activations: float  # kept from the forward pass
    activations_checkpointed: float  # with every layer computed again in the backward pass
    logits: float

    def total(self, checkpointing: bool) -> float:
        return (
            self.states
            + self.gathered
            + self.logits
            + (self.activations_checkpointed if checkpointing else self.activations)
        )


def device_memory(shape: Shape, devices: int, micro_batch: int, context: int) -> list[DeviceMemory]:
    """An estimate for each of STRATEGIES, with `micro_batch` sequences of `context` tokens on each device."""
    tokens = micro_batch * context
    layer = layer_activations(shape) * tokens
    inputs = 2 * shape.width * tokens  # what a checkpointed layer keeps: its input, in bfloat16
    found = []
    for name, strategy in STRATEGIES.items():
        # The largest piece that is gathered at once, the next one already on its way, and the gradient of one.
        largest = max(shape.layer_parameters, shape.vocabulary * shape.width)
        whole = (2 * WEIGHTS + GRADIENTS) * largest if strategy.weights and devices > 1 else 0
        found.append(
            DeviceMemory(
                strategy=name,
                states=strategy.states(shape.parameters, devices),
                gathered=whole,
                activations=shape.layers * layer,
                activations_checkpointed=shape.layers * inputs + layer,
                logits=LOGITS * tokens * shape.vocabulary,
            )
        )
    return found


def layer_activations(shape: Shape) -> float:
    """Bytes that one layer keeps for each token in bfloat16, with attention that keeps no matrix of weights.

    The reckoning of Korthikanti et al. 2022 (section 4.1: 34 bytes for each unit of width with GELU and dropout), for this
    architecture: the input and output of two norms, queries, and the attention's result are `width` each; keys and values;
    gate, up, the activated gate, and their product are `feed_forward` each; the softmax's float32 sum for each head.
    """
    attention = 4 * shape.width + 2 * shape.heads * shape.head_dim + 2 * shape.kv_heads * shape.head_dim
    return float(2 * (attention + 4 * shape.feed_forward) + 4 * shape.heads)
