"""Does a sequence fit into a model's context? Asked before training, of the sequences that there are, not of what a recipe allows.

    require_context(model.config, map(len, rows), "lower max_length", limit=recipe.max_length)
    require_context(model.config, map(len, prompts), "lower max_prompt_length", sampled=recipe.generation.max_new_tokens)

Beyond its positions a model with learned ones (GPT-2) fails in the middle of a run, and others say what they were never trained to.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from training.errors import UsageError


def context_length(config: Any) -> int | None:
    """The tokens that such a model can read: its positions, stretched as its RoPE scaling says; None where it names no limit."""
    text = config.get_text_config()
    positions = getattr(text, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions <= 0:
        return None
    rope = getattr(text, "rope_parameters", None) or {}
    scalings = [rope, *(value for value in rope.values() if isinstance(value, dict))]  # of all layers, or by their kind
    stretched = [
        (each.get("original_max_position_embeddings") or positions) * float(each.get("factor") or 1.0)
        for each in scalings
    ]
    return int(max(positions, *stretched))


def require_context(
    config: Any, lengths: Iterable[int], remedy: str, *, limit: int | None = None, sampled: int = 0
) -> None:
    """Raise UsageError where a sequence of these lengths, with `sampled` tokens behind it, is beyond the model's context.

    `limit` is the longest that a length can be, where that is known: where it fits, no length is asked for.
    """
    context = context_length(config)
    if context is None or (limit is not None and limit + sampled <= context):
        return
    longest = max(lengths, default=0)
    if longest and longest + sampled > context:
        raise UsageError(
            "a sequence is longer than the model's context",
            expected=f"at most {context} tokens (max_position_embeddings in the model's config.json)",
            found=f"a prompt of {longest} tokens and up to {sampled} sampled ones" if sampled else f"{longest} tokens",
            next_step=remedy,
        )
