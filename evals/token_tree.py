"""Token sequences as one tree, and which tokens of it attend to which: pure arithmetic on arrays, without a model.

    tree = grow([[1, 2, 3], [1, 2, 4]], asked=[[3, 9], [5]])    # paths in sorted order; what is asked at their ends
    tree.tokens, tree.depths, tree.ends                         # [1, 2, 3, 4], [0, 1, 2, 2], [4, 4, 3, 4]

Nodes stand in depth-first order. So all descendants of a node follow it at once, up to `ends`, and u is an ancestor of v,
or v itself, exactly where u <= v < ends[u]. Whoever works through the nodes in their order, however he cuts them, needs from
before the cut at v only the path to v: an ancestor u < v of any later node within the same cut is an ancestor of v.
Both facts together give cached prefixes, packs and masks by comparing whole arrays; only requests are looped over.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
SPREAD = 1.3  # blocks whose numbers of keys differ by more are attended to apart, for they are padded to the largest


@dataclass(frozen=True)
class TokenTree:
    """N distinct tokens, and the A (node, next token) questions that sequences ask, in the order of their nodes."""

    tokens: Ints  # (N,)
    depths: Ints  # (N,) the position of the token in every sequence that it is part of
    ends: Ints  # (N,) one past the last descendant
    asked_nodes: Ints  # (A,) ascending
    asked_tokens: Ints  # (A,)
    asked_rows: Ints  # (A,) the place of the sequence that asks

    def path(self, node: int, among: Ints) -> Ints:
        """Which of `among`, nodes before `node`, lie on the path to it."""
        return among[self.ends[among] > node]


@dataclass(frozen=True)
class Blocks:
    """B blocks of Q nodes of one pack that attend to K keys each; places count within the pack, or within its keys."""

    queries: Ints  # (B, Q) places in the pack; the last block repeats its last node
    keys: Ints  # (B, K) places among the keys: the cached path, then the pack
    mask: NDArray[np.bool_]  # (B, Q, K)


def sort_key(tokens: Sequence[int] | NDArray[np.int32]) -> bytes:
    """A key by which sequences sort as their tokens do."""
    return np.asarray(tokens, dtype=">u4").tobytes()


def shared(a: Ints, b: Ints) -> int:
    """How many tokens two sequences share at their beginning."""
    length = min(len(a), len(b))
    differing = a[:length] != b[:length]
    first = int(differing.argmax()) if length else 0
    return first if length and differing[first] else length


def grow(
    paths: Sequence[Sequence[int] | NDArray[np.int32]], asked: Sequence[Sequence[int] | NDArray[np.int32]]
) -> TokenTree:
    """The tree of `paths`, which are sorted and not empty; `asked[i]` are the tokens that follow the last ones of path i.

    So the path [7, 8, 9] with [9, 4] asks after 8 for 9, and after 9 for 4.
    """
    rows = [np.asarray(path, dtype=np.int64) for path in paths]
    common = [0, *(shared(a, b) for a, b in itertools.pairwise(rows))]
    starts = np.cumsum([0, *(len(row) - kept for row, kept in zip(rows, common, strict=True))])
    size = int(starts[-1])
    ends = np.full(size, size, dtype=np.int64)
    nodes: list[Ints] = []
    branches: list[tuple[int, int]] = []  # the current path: (depth from which on, node there), from the root
    top = 0  # the current path's length
    for row, kept, start, wanted in zip(rows, common, starts.tolist(), asked, strict=False):
        while branches and branches[-1][0] >= kept:
            depth, node = branches.pop()
            ends[node : node + top - depth] = start
            top = depth
        if top > kept:
            depth, node = branches[-1]
            ends[node + kept - depth : node + top - depth] = start
        if len(row) > kept:
            branches.append((kept, start))
        top = len(row)
        nodes.append(_last_nodes(branches, top, len(wanted)))
    asked_nodes = np.concatenate(nodes) if nodes else np.empty(0, dtype=np.int64)
    order = np.argsort(asked_nodes, kind="stable")
    lengths = [len(wanted) for wanted in asked]
    return TokenTree(
        tokens=np.concatenate([row[kept:] for row, kept in zip(rows, common, strict=True)]),
        depths=np.concatenate([np.arange(kept, len(row)) for row, kept in zip(rows, common, strict=True)]),
        ends=ends,
        asked_nodes=asked_nodes[order],
        asked_tokens=np.concatenate([np.asarray(wanted, dtype=np.int64) for wanted in asked])[order],
        asked_rows=np.repeat(np.arange(len(rows)), lengths)[order],
    )


def _last_nodes(branches: Sequence[tuple[int, int]], length: int, count: int) -> Ints:
    """The nodes of the last `count` tokens of the current path."""
    first, parts = length - count, []
    for depth, node in reversed(branches):
        low = max(first, depth)
        parts.append(np.arange(node + low - depth, node + length - depth))
        if low == first:
            break
        length = depth
    return np.concatenate(parts[::-1]) if len(parts) > 1 else parts[0]


def attention_blocks(tree: TokenTree, path: Ints, start: int, stop: int, size: int) -> list[Blocks]:
    """How the nodes start..stop attend, given that the keys of `path` (the path to `start`) are cached.

    Blocks of `size` consecutive nodes attend to the path to their first node and to themselves, so that attention costs
    depth plus block, and not the whole pack. Blocks with similar numbers of keys come together.
    """
    known = np.concatenate([path, np.arange(start, stop)])  # (P + N,) the node of each key
    firsts = np.arange(start, stop, size)  # (B,)
    queries = np.minimum(firsts[:, None] + np.arange(size), stop - 1)  # (B, Q)
    on_path = (known < firsts[:, None]) & (tree.ends[known] > firsts[:, None])  # (B, P + N)
    within = (known >= firsts[:, None]) & (known < firsts[:, None] + size)  # (B, P + N)
    needed = on_path | within
    counts = needed.sum(1)  # (B,)
    order = np.argsort(counts, kind="stable")
    found, begin = [], 0
    while begin < len(order):
        least = counts[order[begin]]
        end = int(np.searchsorted(counts[order], least * SPREAD, side="right"))
        group = np.sort(order[begin:end])
        width = int(counts[order[end - 1]])
        # A stable sort of "not needed" brings the needed keys to the front, in their order.
        keys = np.argsort(~needed[group], axis=1, kind="stable")[:, :width]  # (G, K)
        nodes = known[keys][:, None, :]  # (G, 1, K)
        asking = queries[group][:, :, None]  # (G, Q, 1)
        there = (np.arange(width) < counts[group][:, None])[:, None, :]  # (G, 1, K)
        mask = there & (nodes <= asking) & (asking < tree.ends[nodes])  # (G, Q, K)
        found.append(Blocks(queries[group] - start, keys, mask))
        begin = end
    return found


def ancestor_mask(tree: TokenTree, path: Ints, start: int, stop: int) -> NDArray[np.bool_]:
    """(N, P + N): whether node start + i may see key k, the keys being the path to `start` and then the pack itself."""
    known = np.concatenate([path, np.arange(start, stop)])
    asking = np.arange(start, stop)[:, None]
    return (known <= asking) & (asking < tree.ends[known])  # type: ignore[no-any-return]
