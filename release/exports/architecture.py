"""Which checkpoints can be written as GGUF, and the hyperparameters that llama.cpp needs of them.

    architecture = read_architecture(Checkpoint.open(path))      # UsageError for a family that cannot be written rightly
    architecture.name                                            # "llama", as general.architecture has it

Names and meanings of the keys are gguf's own (`gguf.Keys`), so the file says what the GGUF specification says.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from training.checkpoint import Checkpoint
from training.errors import UsageError


@dataclass(frozen=True)
class Family:
    """A model_type of transformers: its name in GGUF, and whether its query and key rows are interleaved there.

    llama.cpp rotates neighbouring pairs of a llama head, transformers the first half against the second, so the rows
    of q and k change places (Su et al. 2021, equation 34, in either layout).
    """

    name: str
    interleaves: bool


FAMILIES = {
    "llama": Family("llama", interleaves=True),
    "mistral": Family("llama", interleaves=True),
    "qwen2": Family("qwen2", interleaves=False),
    "qwen3": Family("qwen3", interleaves=False),
}
# Of these rope types the GGUF file holds what llama.cpp needs; the others change the frequencies in further ways.
ROPE_TYPES = ("default", "linear", "llama3")


@dataclass(frozen=True)
class Architecture:
    """Sizes of one model, and the settings of its rotary embedding."""

    name: str
    interleaves: bool
    layers: int
    context: int
    width: int
    feed_forward: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    rms_eps: float
    tied: bool
    rope: dict[str, Any]


def read_architecture(checkpoint: Checkpoint) -> Architecture:
    """From config.json, by transformers' own reading of it. Raises UsageError where a GGUF file would not be the same model."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(checkpoint.path, local_files_only=True, trust_remote_code=False)
    family = FAMILIES.get(config.model_type)
    if family is None:
        raise _cannot(checkpoint, "model_type", ", ".join(FAMILIES), config.model_type)
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    if window is not None and family.name != "llama":
        raise _cannot(checkpoint, "sliding_window", "none", window)
    if config.hidden_act not in ("silu", "swish"):
        raise _cannot(checkpoint, "hidden_act", "silu", config.hidden_act)
    rope = dict(config.rope_parameters)
    if rope.get("rope_type", "default") not in ROPE_TYPES:
        raise _cannot(checkpoint, "rope_type", ", ".join(ROPE_TYPES), rope["rope_type"])
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Architecture(
        name=family.name,
        interleaves=family.interleaves,
        layers=config.num_hidden_layers,
        # Within the window every token is seen, so up to there Mistral's attention is a llama's.
        context=min(config.max_position_embeddings, window or config.max_position_embeddings),
        width=config.hidden_size,
        feed_forward=config.intermediate_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_dim=head_dim,
        vocabulary=config.vocab_size,
        rms_eps=config.rms_norm_eps,
        tied=bool(config.tie_word_embeddings),
        rope=rope,
    )


def rope_divisors(architecture: Architecture) -> list[float] | None:
    """By how much each rotary frequency is divided under llama3's scaling, `(head_dim / 2,)`; None for other types.

    Low frequencies are divided by `factor`, high ones kept, and those between blended (Llama 3.1's model code).
    """
    rope = architecture.rope
    if rope.get("rope_type") != "llama3":
        return None
    factor, context = rope["factor"], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    divisors = []
    for pair in range(architecture.head_dim // 2):
        wavelength = 2 * math.pi * rope["rope_theta"] ** (2 * pair / architecture.head_dim)
        turns = context / wavelength
        kept = min(1.0, max(0.0, (turns - low) / (high - low)))
        divisors.append(1 / ((1 - kept) / factor + kept))
    return divisors


def write_architecture(writer: Any, architecture: Architecture) -> None:
    """Put the hyperparameters into a `gguf.GGUFWriter`."""
    import gguf

    writer.add_block_count(architecture.layers)
    writer.add_context_length(architecture.context)
    writer.add_embedding_length(architecture.width)
    writer.add_feed_forward_length(architecture.feed_forward)
    writer.add_head_count(architecture.heads)
    writer.add_head_count_kv(architecture.kv_heads)
    writer.add_key_length(architecture.head_dim)
    writer.add_value_length(architecture.head_dim)
    writer.add_layer_norm_rms_eps(architecture.rms_eps)
    writer.add_vocab_size(architecture.vocabulary)
    writer.add_rope_dimension_count(architecture.head_dim)
    writer.add_rope_freq_base(architecture.rope["rope_theta"])
    if architecture.rope.get("rope_type") == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(architecture.rope["factor"])


def _cannot(checkpoint: Checkpoint, key: str, expected: str, found: object) -> UsageError:
    return UsageError(
        f"this checkpoint cannot be written as GGUF: its {key} is not one that is written rightly",
        where=str(checkpoint.path / "config.json"),
        expected=expected,
        found=str(found),
        next_step="convert it with llama.cpp's own convert_hf_to_gguf.py, which knows more families",
    )
