"""Bytes that a training run takes at its peak, from below: pure arithmetic, no torch.

    need = run_memory(Trained(shape, parameters=134_515_008, trainable=4_884_480, weight_bytes=2, ...), Step(8, 120, 2), ...)
    need.total, need.in_words()

A run is refused by this, so everything here is a lower bound: fragments, kernels' work space and copies of a moment are not in it.
Adam keeps two float32 moments of what is trained, and gradients are of the trained weights' type, which is float32 (Rajbhandari
et al. 2020, section 3.1, without a second master copy, for the trained weights are float32 themselves).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from training.compute_plan import Shape
from training.device_memory import layer_activations

GRADIENT, MOMENTS = 4, 8  # bytes of a trained parameter
PROGRAM = 300_000_000  # Python, torch and transformers before any weight is loaded; 0.4 GB was measured


@dataclass(frozen=True)
class Trained:
    """The model that learns."""

    shape: Shape
    parameters: int
    trainable: int
    weight_bytes: int  # of one of its parameters as it is loaded
    number_bytes: int  # of one number that it computes: 2 in bfloat16
    first_layer: int  # the lowest that is trained: no activations are kept below
    checkpointing: bool = False  # every layer is computed again in the backward pass


@dataclass(frozen=True)
class Step:
    """What is in memory at once in a forward and backward pass."""

    sequences: int
    tokens: int  # of each sequence, padded
    predicted: int  # of them whose logits are kept


@dataclass(frozen=True)
class Sampling:
    """Answers that are sampled at once."""

    sequences: int
    tokens: int  # of prompt and answer


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes, by what takes them. Learning and sampling take turns, so the larger one counts."""

    weights: int
    gradients: int
    optimizer: int
    other_models: int  # a reference, a reward model, value heads
    activations: int
    logits: int
    cache: int
    critic: int = 0  # the states of a critic of its own; its activations are among the activations

    @property
    def total(self) -> int:
        states = self.weights + self.gradients + self.optimizer + self.other_models + self.critic
        return PROGRAM + states + max(self.activations + self.logits, self.cache)

    def in_words(self) -> str:
        parts = {
            "parameters": self.weights,
            "gradients": self.gradients,
            "optimizer state": self.optimizer,
            "critic": self.critic,
            "other models": self.other_models,
            "activations": self.activations,
            "logits": self.logits,
            "key-value cache while sampling": self.cache,
            "the program": PROGRAM,
        }
        return f"at least {gigabytes(self.total)}: " + ", ".join(
            f"{name} {gigabytes(size)}" for name, size in parts.items() if size
        )


def run_memory(
    trained: Trained,
    step: Step,
    sampling: Sampling | None = None,
    other_models: int = 0,
    processes: int = 1,
    moments: bool = True,
) -> MemoryNeed:
    """The need of one process. Of many, each is taken to hold its share of the states only, as FSDP's full shard has it.

    `moments` is whether the optimizer keeps Adam's two in float32.
    """
    shape = trained.shape
    tokens = step.sequences * step.tokens
    layer = layer_activations(shape) * trained.number_bytes / 2 * tokens
    inputs = trained.number_bytes * shape.width * tokens
    layers = shape.layers - trained.first_layer
    kept = layers * inputs + layer if trained.checkpointing else layers * layer
    cache = 0
    if sampling is not None:
        each = 2 * shape.layers * shape.kv_heads * shape.head_dim * trained.number_bytes
        cache = each * sampling.sequences * sampling.tokens
    return MemoryNeed(
        weights=trained.parameters * trained.weight_bytes // processes,
        gradients=trained.trainable * GRADIENT // processes,
        optimizer=trained.trainable * MOMENTS // processes if moments else 0,
        other_models=other_models // processes,
        activations=round(kept),
        logits=2 * trained.number_bytes * step.sequences * step.predicted * shape.vocabulary,  # and their gradient
        cache=cache,
    )


def with_critic(need: MemoryNeed, trained: Trained, step: Step, processes: int, moments: bool = True) -> MemoryNeed:
    """The need of a policy with that of a critic which learns at the same time, from the same sequences, and predicts no tokens."""
    critic = run_memory(trained, replace(step, predicted=0), processes=processes, moments=moments)
    states = critic.weights + critic.gradients + critic.optimizer
    return replace(need, critic=states, activations=need.activations + critic.activations)


def adapter_parameters(shape: Shape, r: int, modules: list[str], layers: int) -> int:
    """Parameters of LoRA's two matrices for each of the modules in each of the layers (Hu et al. 2022, section 4.1).

    A module of a name that is not Llama's is taken to be as wide as the model on both sides.
    """
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    sides = {
        "q_proj": shape.width + queries,
        "k_proj": shape.width + keys,
        "v_proj": shape.width + keys,
        "o_proj": queries + shape.width,
        "gate_proj": shape.width + shape.feed_forward,
        "up_proj": shape.width + shape.feed_forward,
        "down_proj": shape.feed_forward + shape.width,
    }
    names = list(sides) if modules == ["all-linear"] else modules
    return r * layers * sum(sides.get(name, 2 * shape.width) for name in names)


def gigabytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size < 100e9 else f"{size / 1e9:,.0f} GB"
