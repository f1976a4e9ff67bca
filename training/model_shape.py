"""A checkpoint's shape and size, by its config.json and the headers of its weights: nothing is loaded."""

from __future__ import annotations

from typing import Any

from training.checkpoint import Checkpoint, read_safetensors_header, weight_files
from training.compute_plan import Shape


def shape_of(config: dict[str, Any]) -> Shape:
    """A checkpoint's shape by its config.json, with the names that older architectures have for the same."""
    text = config.get("text_config", config)

    def first(*names: str) -> Any:
        return next((text[name] for name in names if text.get(name) is not None), None)

    width, heads = first("hidden_size", "n_embd", "d_model") or 0, first("num_attention_heads", "n_head") or 1
    return Shape(
        layers=first("num_hidden_layers", "n_layer") or 0,
        width=width,
        heads=heads,
        kv_heads=first("num_key_value_heads") or heads,
        head_dim=first("head_dim") or width // heads,
        feed_forward=first("intermediate_size", "n_inner") or 4 * width,
        vocabulary=first("vocab_size") or 0,
        tied=bool(first("tie_word_embeddings")),
    )


def parameters_of(checkpoint: Checkpoint) -> int:
    """How many numbers the weight files hold."""
    count = 0
    for name in weight_files(checkpoint.path):
        for entry in read_safetensors_header(checkpoint.path / name).values():
            size = 1
            for side in entry["shape"]:
                size *= side
            count += size
    return count
