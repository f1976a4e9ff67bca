"""What answering takes of a machine's memory: weights, key-value cache and the program itself. Pure arithmetic, no torch.

    need = memory_needed(weights=269_060_552, config=config, context=4096, answers_at_once=4, runtime="llama.cpp")
    need.total                     # bytes
    need.in_words("cpu-basic")     # "0.27 GB of weights + 0.38 GB of key-value cache ... of the 16 GB of cpu-basic"

The cache of a decoder with grouped queries holds, for each token, a key and a value of head_dim numbers for each key-value head
of each layer (Ainslie et al. 2023, section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from training.errors import UsageError

# Memory of a Space's hardware in bytes, by the Hub's documentation: the processor's, or the GPU's where there is one.
HARDWARE = {
    "cpu-basic": 16_000_000_000,
    "cpu-upgrade": 32_000_000_000,
    "t4-small": 16_000_000_000,
    "a10g-small": 24_000_000_000,
    "l40sx1": 48_000_000_000,
    "a100-large": 80_000_000_000,
    "zero-a10g": 48_000_000_000,
}
# Where the page of a flavour can run. llama.cpp answers on the processor, and how much of its memory a machine with a GPU has is
# not known here; only ZeroGPU lends GPUs to functions. A server does the work of the other flavours, wherever their page is.
HARDWARE_OF = {"cpu": ("cpu-basic", "cpu-upgrade"), "zerogpu": ("zero-a10g",)}
# What the program takes beside the model: Python, gradio, the libraries of the runtime, and llama.cpp's 512 MiB of conversations
# that it keeps beside its cache (spaces/chat/llama_model.py).
PROGRAM = {"llama.cpp": 1_036_870_912, "transformers": 1_500_000_000, "zerogpu": 2_000_000_000}
CACHE_BYTES = {"llama.cpp": 2, "transformers": 4, "zerogpu": 2}  # of one number in the cache
KEPT_FREE = 0.1  # of the memory, for everything that is not counted here


@dataclass(frozen=True)
class Memory:
    """Bytes, by what takes them."""

    weights: int
    cache: int
    program: int

    @property
    def total(self) -> int:
        return self.weights + self.cache + self.program

    def fits(self, hardware: str) -> bool:
        return self.total <= HARDWARE[hardware] * (1 - KEPT_FREE)

    def in_words(self, hardware: str) -> str:
        return (
            f"{_gb(self.weights)} of weights + {_gb(self.cache)} of key-value cache + {_gb(self.program)} of program = "
            f"{_gb(self.total)}, of {_gb(HARDWARE[hardware])} on {hardware}"
        )


def memory_needed(*, weights: int, config: dict[str, Any], context: int, answers_at_once: int, runtime: str) -> Memory:
    """For `answers_at_once` conversations of `context` tokens. `weights` are their bytes in the precision that runs."""
    text = config.get("text_config") or config  # of a model that reads more than text
    heads = _number(text, "num_attention_heads", "n_head", "num_heads")
    head_dim = text.get("head_dim") or _number(text, "hidden_size", "n_embd", "d_model") // heads
    kv_heads = text.get("num_key_value_heads") or heads
    length = min(context, text.get("max_position_embeddings") or text.get("n_positions") or context)
    numbers = (
        2 * _number(text, "num_hidden_layers", "n_layer", "num_layers") * kv_heads * head_dim * length * answers_at_once
    )
    return Memory(weights, numbers * CACHE_BYTES[runtime], PROGRAM[runtime])


def _number(config: dict[str, Any], *names: str) -> int:
    """The first of these names that the config has: families call the same number differently. Raises UsageError."""
    for name in names:
        if isinstance(config.get(name), int) and config[name] > 0:
            return int(config[name])
    raise UsageError(
        "the memory of this model cannot be computed, so nobody knows whether it fits the Space",
        where="config.json of the checkpoint",
        expected=f"{names[0]}, or {' or '.join(names[1:])}",
        found="none of them",
        next_step="use --space endpoint with a server that holds the model",
    )


def _gb(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count < 1e10 else f"{count / 1e9:,.0f} GB"
