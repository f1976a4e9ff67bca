"""Attention over short sequences on a CPU: two grouped matrix products, in place of scaled_dot_product_attention.

    use_grouped_attention(model)          # from now on
    with grouped_attention(model): ...    # for a while

The CPU kernels of scaled_dot_product_attention are made for long sequences. For one new token, and in bfloat16 for a few hundred,
products of all heads that share a key and value head are faster, and their backward pass is several times so (docs/log.md,
2026-11-28). Scores are kept for the backward pass, so long sequences stay with the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

if TYPE_CHECKING:
    from transformers import PreTrainedModel

GROUPED = "slipway_grouped"
LONGEST = 256  # tokens: scores of 16 sequences, 9 heads and 30 layers are 0.6 GB then


def use_grouped_attention(model: PreTrainedModel) -> None:
    """Let the model attend by `attend` where it would use scaled_dot_product_attention on a CPU; else change nothing."""
    if model.config._attn_implementation == "sdpa" and model.device.type == "cpu":
        AttentionInterface.register(GROUPED, attend)
        AttentionMaskInterface.register(GROUPED, sdpa_mask)
        model.set_attn_implementation(GROUPED)


@contextmanager
def grouped_attention(model: PreTrainedModel) -> Iterator[None]:
    """`use_grouped_attention`, undone at the end."""
    before = model.config._attn_implementation
    use_grouped_attention(model)
    try:
        yield
    finally:
        if model.config._attn_implementation != before:
            model.set_attn_implementation(before)


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What `sdpa_attention_forward` computes: query (B, H, L, D), key and value (B, G, S, D) -> (B, L, H, D).

    The mask is (B, 1, L, S), boolean or added to the scores; None lets a token see all up to itself. A query that may see nothing,
    which is padding, sees everything equally.
    """
    batch, heads, length, depth = query.shape
    groups, width = key.shape[1], key.shape[2]
    unusual = any(kwargs.get(name) is not None for name in ("position_bias", "softcap", "s_aux", "cache"))
    short = length == 1 or (length <= LONGEST and query.dtype == torch.bfloat16)
    short = short and query.device.type == "cpu"  # the model may have been moved since
    if not short or unusual or kwargs.get("dropout") or (attention_mask is None and length not in (1, width)):
        return sdpa_attention_forward(  # type: ignore[no-any-return]
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
    scaled = query * (scaling if scaling is not None else depth**-0.5)
    scores = torch.bmm(
        scaled.reshape(batch * groups, heads // groups * length, depth),
        key.reshape(batch * groups, width, depth).transpose(1, 2),
    ).view(batch, groups, heads // groups, length, width)
    if attention_mask is None and length > 1:
        attention_mask = torch.ones(length, width, dtype=torch.bool, device=query.device).tril()[None, None]
    if attention_mask is not None:
        scores = scores + added(attention_mask, scores.dtype)[:, :, None]
    weights = torch.softmax(scores, dim=-1).to(value.dtype)  # summed in float32, whatever its input is
    mixed = torch.bmm(
        weights.view(batch * groups, heads // groups * length, width), value.reshape(batch * groups, width, -1)
    )
    return mixed.view(batch, heads, length, -1).transpose(1, 2).contiguous(), None


def added(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask as numbers to add. The least finite number, for a row of infinities would make NaN."""
    if mask.dtype != torch.bool:
        return mask.to(dtype)
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, torch.finfo(dtype).min)
