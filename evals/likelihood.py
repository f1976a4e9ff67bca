"""Log-likelihoods of continuations: one forward pass a batch, logits only where a continuation is.

    log_likelihoods(model, [([1, 2, 3], [4, 5])], batch_size=16)     # [(-7.25, False)]

The vocabulary's projection and its softmax are half of the work of scoring short choices with a small model, and
most of it is for tokens of the question, which nobody asks about.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], batch_size: int, context: int
) -> list[tuple[float, bool]]:
    """For each (context tokens, continuation tokens): the sum of the continuation's log-probabilities in nats, taken
    in float32, and whether greedy decoding would give it. What is longer than `context` loses its beginning.
    """
    found = [(0.0, False)] * len(pairs)
    order = sorted(range(len(pairs)), key=lambda place: -len(pairs[place][0]) - len(pairs[place][1]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        for place, answer in zip(batch, _batch(model, [pairs[place] for place in batch], context), strict=True):
            found[place] = answer
    return found


def _batch(
    model: PreTrainedModel, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], context: int
) -> list[tuple[float, bool]]:
    device = model.device
    if "position_ids" not in inspect.signature(model.forward).parameters:
        return _padded_at_the_end(model, pairs, context)
    inputs = [[*before, *after][-(context + 1) : -1] for before, after in pairs]
    targets = [list(after)[-context:] for _, after in pairs]
    width, longest = max(map(len, inputs)), max(map(len, targets))
    # Padded on the left, so that all continuations end at the same place.
    ids = torch.tensor([[0] * (width - len(row)) + row for row in inputs], device=device)  # (B, W)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in inputs], device=device)  # (B, W)
    wanted = torch.tensor([[-1] * (longest - len(row)) + row for row in targets], device=device)  # (B, T)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        logits_to_keep=torch.arange(width - longest, width, device=device),
        use_cache=False,
    ).logits  # (B, T, V)
    there = wanted >= 0  # (B, T)
    return _sums(logits[there], wanted, there)


def _padded_at_the_end(
    model: PreTrainedModel, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], context: int
) -> list[tuple[float, bool]]:
    """For a model that finds positions by itself, or carries a state: what follows a sequence does not move it."""
    device = model.device
    inputs = [[*before, *after][-(context + 1) : -1] for before, after in pairs]
    targets = [list(after)[-context:] for _, after in pairs]
    width = max(map(len, inputs))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in inputs], device=device)  # (B, W)
    wanted = torch.tensor(
        [
            [-1] * (len(row) - len(after)) + after + [-1] * (width - len(row))
            for row, after in zip(inputs, targets, strict=True)
        ],
        device=device,
    )  # (B, W)
    logits = model(input_ids=ids, use_cache=False).logits  # (B, W, V)
    there = wanted >= 0  # (B, W)
    return _sums(logits[there], wanted, there)


def _sums(rows: Tensor, wanted: Tensor, there: Tensor) -> list[tuple[float, bool]]:
    """Logits (N, V) of the N places of (B, T) where a token is wanted, to the sum and greediness of each of B rows."""
    rows = rows.float()
    tokens = wanted[there]  # (N,)
    chosen = rows.gather(1, tokens[:, None])[:, 0] - rows.logsumexp(dim=1)  # (N,)
    scores = torch.zeros(there.shape, device=rows.device).masked_scatter(there, chosen).sum(1)  # (B,)
    greedy = torch.ones_like(there).masked_scatter(there, rows.argmax(dim=1) == tokens).all(1)  # (B,)
    return list(zip(scores.tolist(), greedy.tolist(), strict=True))
