"""How likely the chosen tokens were, and how open the choice was, without the vocabulary's width in float32.

    logprobs, entropies = chosen_logprobs(logits, tokens)     # (B, T, V), (B, T) -> (B, T), (B, T)

Sums over the vocabulary need float32, and a float32 copy of all logits, with what autograd keeps of it, costs more memory and time
than the rest of a small model's last layer. Here a few rows at a time are in float32 and in the processor's cache. The numbers
and gradients are to the bit those of `ppo_math.token_logprobs` and `ppo_math.entropy`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from training.ppo_math import entropy, tempered, token_logprobs

CHUNK = 1 << 21  # numbers that are in float32 at a time: 8 MB


def chosen_logprobs(
    logits: Tensor, tokens: Tensor, with_entropy: bool = True, temperature: float = 1.0
) -> tuple[Tensor, Tensor]:
    """log p(token), with its gradient, and the entropy in nats, without one. `(B, T, V)`, `(B, T)` -> `(B, T)` float32 each.

    p is the softmax of logits / temperature, divided in float32 as where tokens are sampled (`decoding.choose`): in bfloat16 the
    quotient would be of another distribution. Entropies are zeros where they are not asked for.
    """
    found: tuple[Tensor, Tensor] = _Chosen.apply(logits, tokens, with_entropy, temperature)  # type: ignore[no-untyped-call]
    return found


class _Chosen(torch.autograd.Function):
    """d log p(y) / d logit_v = ([v = y] - p_v) / temperature, written over a few rows at a time."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, tokens: Tensor, with_entropy: bool, temperature: float
    ) -> tuple[Tensor, Tensor]:
        rows = logits.reshape(-1, logits.shape[-1])  # (N, V)
        chosen = tokens.reshape(-1)  # (N,)
        logprobs, entropies = (torch.zeros(len(rows), device=rows.device) for _ in range(2))
        for part in _parts(rows):
            wide = tempered(rows[part], temperature)
            logprobs[part] = token_logprobs(wide, chosen[part])
            if with_entropy:
                entropies[part] = entropy(wide)
        ctx.save_for_backward(logits, tokens)
        ctx.temperature = temperature
        ctx.mark_non_differentiable(entropies)
        return logprobs.view(tokens.shape), entropies.view(tokens.shape)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor, None, None, None]:
        logits, tokens = ctx.saved_tensors
        rows, chosen, weights = logits.reshape(-1, logits.shape[-1]), tokens.reshape(-1, 1), gradient.reshape(-1, 1)
        found = torch.empty_like(rows)
        for part in _parts(rows):
            wide = tempered(rows[part].float(), ctx.temperature)
            each = weights[part] / ctx.temperature
            wide = (wide - wide.logsumexp(dim=-1, keepdim=True)).exp_().mul_(-each)
            found[part] = wide.scatter_add_(1, chosen[part], each)
        return found.view(logits.shape), None, None, None


def _parts(rows: Tensor) -> list[slice]:
    size = max(1, CHUNK // rows.shape[1])
    return [slice(start, start + size) for start in range(0, len(rows), size)]
