"""The log-probabilities of the tokens that continuations ask for, from a part of the vocabulary at a time.

    parts = projected(head, hidden, budget=2**23)              # (first token, logits (n, part)), one part after the other
    scores, greedy = log_probabilities(parts, places, tokens)  # of the questions (which of the n rows, which token)

All rows of a pack meet a part of the vocabulary together: products of few rows with a large matrix reach three quarters of the
machine's rate only, and a part's logits are still in the cache when they are summed up. What is held does not grow
with the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from evals.token_tree import Ints


def projected(head: torch.nn.Linear, hidden: Tensor, budget: int) -> Iterator[tuple[int, Tensor]]:
    """hidden (n, D) -> logits (n, S) of S tokens of the vocabulary at a time, at most `budget` numbers; nothing where n is 0."""
    count = len(hidden)
    size = max(1, budget // max(1, count))
    for first in range(0, head.out_features if count else 0, size):
        bias = None if head.bias is None else head.bias[first : first + size]
        yield first, torch.nn.functional.linear(hidden, head.weight[first : first + size], bias)


def log_probabilities(
    parts: Iterable[tuple[int, Tensor]], places: Ints, tokens: Ints, device: torch.device
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """For A questions, `tokens[i]` after row `places[i]`: the log-probability (A,) in float32, and whether it is the likeliest.

    `parts` are (first token, logits (n, S)) on `device`, together the logits (n, V) of rows that are all asked; they are
    overwritten. Of equal logits, as bfloat16 has them, the first is the greedy one.
    """
    order = np.argsort(tokens, kind="stable")
    ascending = tokens[order]
    rows = int(places.max()) + 1 if len(places) else 0
    top = torch.full((rows,), float("-inf"), device=device)  # (n,) so far
    total = torch.zeros(rows, device=device)  # (n,) of exp(logit - top), so far
    chosen = torch.empty(len(tokens), device=device)  # (A,)
    likeliest = torch.zeros(len(tokens), dtype=torch.bool, device=device)  # (A,) among what has been seen so far
    for first, part in parts:
        logits = part.float()  # (n, S)
        peak = logits.amax(dim=1)  # (n,)
        begin, end = np.searchsorted(ascending, [first, first + logits.shape[1]])
        if end > begin:
            here = torch.from_numpy(order[begin:end]).to(device)
            row = torch.from_numpy(places[order[begin:end]]).to(device)
            token = torch.from_numpy(ascending[begin:end] - first).to(device)
            found = logits[row, token]  # (a,)
            best = (found == peak[row]) & (found > top[row])
            if bool(best.any()):  # of equal ones the first
                best[best.clone()] = logits[row[best]].argmax(dim=1) == token[best]
            chosen[here], likeliest[here] = found, best
        highest = torch.maximum(top, peak)
        total = total * (top - highest).exp() + logits.sub_(highest[:, None]).exp_().sum(dim=1)
        top = highest
    row = torch.from_numpy(places).to(device)
    likeliest &= chosen == top[row]
    return (chosen - (total.log() + top)[row]).cpu().numpy(), likeliest.cpu().numpy()
