"""Attention of a pack of tree nodes, block by block: each block to the path above it and to itself.

    with attending(model, plan):
        model(input_ids=..., attention_mask=stub, position_ids=..., past_key_values=...)

A mask over the whole pack would cost the pack's square, most of it masked. It is registered with transformers as an attention
implementation, so the model's own code runs everything else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from evals.token_tree import Blocks

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TREE = "slipway_tree"
UNLIKE = ("position_bias", "softcap", "s_aux", "cache")  # what some models add to attention and this one does not do


class NotHonoured(Exception):
    """The model wants something of its attention that attention over a tree does not give."""


@dataclass(frozen=True)
class Part:
    """Some blocks on the device: (B, Q) queries, (B, K) keys as in `token_tree.Blocks`, and what scores (B, Q, K) get added."""

    queries: Tensor
    keys: Tensor
    bias: Tensor  # 0 where a query may see a key, else minus infinity


_plan: ContextVar[Sequence[Part]] = ContextVar("plan")


def on_device(blocks: Sequence[Blocks], device: torch.device, dtype: torch.dtype) -> list[Part]:
    """The blocks, with masks as numbers: made once for all layers, where attention would make them of booleans in each."""
    return [
        Part(
            torch.from_numpy(block.queries).to(device),
            torch.from_numpy(block.keys).to(device),
            torch.zeros(block.mask.shape, dtype=dtype, device=device).masked_fill_(
                torch.from_numpy(~block.mask).to(device), float("-inf")
            ),
        )
        for block in blocks
    ]


def _attend(
    _module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    _attention_mask: Tensor | None,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """query (1, H, N, D), key and value (1, G, P + N, D) -> (1, N, H, D). The H heads share G heads of keys."""
    if any(kwargs.get(name) is not None for name in UNLIKE) or kwargs.get("dropout"):
        raise NotHonoured("its attention has a bias, a cap or a sink of its own")
    _, heads, length, depth = query.shape
    groups = key.shape[1]
    output = query.new_empty(heads, length, value.shape[-1])
    for part in _plan.get():
        blocks, size = part.queries.shape
        # Query heads that share their keys lie one after the other, as one longer block of queries.
        asking = query[0][:, part.queries.flatten()].view(groups, heads // groups, blocks, size, depth)
        asking = asking.permute(2, 0, 1, 3, 4).reshape(blocks, groups, -1, depth)  # (B, G, H/G * Q, D)
        flat = part.keys.flatten()
        keys = key[0].index_select(1, flat).view(groups, blocks, -1, depth).transpose(0, 1)  # (B, G, K, D)
        values = value[0].index_select(1, flat).view(groups, blocks, -1, value.shape[-1]).transpose(0, 1)
        found = _attention(asking, keys, values, part.bias, scaling if scaling is not None else depth**-0.5)
        found = found.view(blocks, groups, heads // groups, size, -1).permute(1, 2, 0, 3, 4)
        output[:, part.queries.flatten()] = found.reshape(heads, blocks * size, -1)
    return output.transpose(0, 1)[None], None


def _attention(asking: Tensor, keys: Tensor, values: Tensor, bias: Tensor, scaling: float) -> Tensor:
    """asking (B, G, H/G * Q, D), keys and values (B, G, K, D), bias (B, Q, K) -> (B, G, H/G * Q, D).

    In float32 on a CPU two matrix products reach 130 GFLOP/s where the kernel of scaled_dot_product_attention reached 77 with a
    mask; in half precision they would round the scores.
    """
    blocks, groups, length, _ = asking.shape
    heads = length // bias.shape[1]  # that share their keys
    if asking.device.type != "cpu" or asking.dtype != torch.float32:
        mask = bias[:, None].repeat(1, 1, heads, 1)  # (B, 1, H/G * Q, K)
        return torch.nn.functional.scaled_dot_product_attention(asking, keys, values, attn_mask=mask, scale=scaling)
    scores = torch.matmul(asking * scaling, keys.transpose(2, 3))  # (B, G, H/G * Q, K)
    scores.view(blocks, groups, heads, *bias.shape[1:]).add_(bias[:, None, None])
    return torch.matmul(torch.softmax(scores, dim=-1), values)


@contextmanager
def attending(model: PreTrainedModel, plan: Sequence[Part]) -> Iterator[None]:
    """Let the model attend by `plan` within this block."""
    before = model.config._attn_implementation
    AttentionInterface.register(TREE, _attend)
    AttentionMaskInterface.register(TREE, sdpa_mask)
    token = _plan.set(plan)
    model.set_attn_implementation(TREE)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        _plan.reset(token)
