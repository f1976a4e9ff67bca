"""Log-likelihoods over the tree of all requests: each distinct token goes through the model once.

    scorer = TreeScorer(model, context=2048)
    scorer.keep([1, 2])                                       # what later calls share, if anything is known of them
    scorer.score([([1, 2, 3], [4, 5]), ([1, 2, 3], [6])])     # [(-7.25, False), (-3.5, True)]

Requests are sorted, so that their distinct tokens stand in depth-first order, and cut into packs. A pack needs from before it
only the keys and values of the path to its first token, so what is held between packs is one path, and memory is bounded
whatever the number and length of requests. Logits are made only where a continuation asks for them, a part of the vocabulary
at a time (evals.asked_tokens), and their log-softmax is taken in float32.

Every call starts from the kept prefix alone. So its numbers are the same to the last bit whatever was scored before it, and an
interrupted evaluation that goes on ends as one that was not interrupted.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from evals.asked_tokens import log_probabilities, projected
from evals.token_tree import Ints, TokenTree, ancestor_mask, attention_blocks, grow, shared, sort_key
from evals.tree_attention import attending, on_device

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Pair = tuple[Sequence[int], Sequence[int]]
PACK = {"cpu": 512, "cuda": 8192}  # distinct tokens in one forward pass
BLOCK = {"cpu": 64, "cuda": 128}  # of them, how many attend together
LOGITS = {"cpu": 2**23, "cuda": 2**28}  # numbers held at once
TREE_TOKENS = 2**20  # tokens of requests, shared or not, whose tree is held at once
LONGEST_MASKED = 512  # a pack's tokens where the model takes the mask of the whole pack


class TreeScorer:
    """Scores requests with one model, whose weights must not change between calls.

    `blockwise` is attention by evals.tree_attention; without it the model's own attention gets a mask of the whole pack.
    """

    def __init__(self, model: PreTrainedModel, context: int, blockwise: bool = True) -> None:
        kind = "cuda" if model.device.type == "cuda" else "cpu"
        self.model, self.context, self.blockwise = model, context, blockwise
        self.pack = PACK[kind] if blockwise else min(PACK[kind], LONGEST_MASKED)
        self.block, self.logits = BLOCK[kind], LOGITS[kind]
        self.tokens_computed = 0
        self.backbone = _backbone(model)
        self._kept: tuple[Ints, list[tuple[Tensor, Tensor]]] = (np.empty(0, dtype=np.int64), [])
        self._start_from_kept()

    def keep(self, prefix: Sequence[int]) -> None:
        """Compute a prefix once for all later calls; one that their requests do not share costs only itself."""
        self._kept = (np.empty(0, dtype=np.int64), [])
        self._start_from_kept()
        prefix = list(prefix[: self.context])
        if prefix:
            self._score_tree(grow([prefix], [[]]))
            self._kept = (self._path, [(layer.keys, layer.values) for layer in self._cache.layers])

    def score(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        """For each (context tokens, continuation tokens): the sum of the continuation's log-probabilities in nats, and
        whether greedy decoding would give it. What is longer than the model's context loses its beginning, as in lm-eval.
        """
        # Four bytes a token: as lists of Python's numbers, the tokens of many long requests would take ten times as much.
        paths = [_compact(before, after)[-(self.context + 1) : -1] for before, after in pairs]
        asked = [np.asarray(after, dtype=np.int32)[-len(path) :] for path, (_, after) in zip(paths, pairs, strict=True)]
        order = sorted(range(len(pairs)), key=lambda place: sort_key(paths[place]))
        sums, missed = np.zeros(len(pairs)), np.zeros(len(pairs))
        self._start_from_kept()
        for places in _slices(order, paths):
            tree = grow([paths[place] for place in places], [asked[place] for place in places])
            rows = np.asarray(places)[tree.asked_rows]
            scores, greedy = self._score_tree(tree)
            sums += np.bincount(rows, scores, len(pairs))
            missed += np.bincount(rows, ~greedy, len(pairs))
        return [(float(score), not misses) for score, misses in zip(sums, missed, strict=True)]

    @torch.inference_mode()
    def _score_tree(self, tree: TokenTree) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """The log-probability of each asked token, (A,), and whether it is the likeliest, (A,)."""
        size = len(tree.tokens)
        start = self._keep_shared(tree)
        path = np.arange(start)  # the nodes whose keys and values are cached
        scores, greedy = np.empty(len(tree.asked_nodes)), np.empty(len(tree.asked_nodes), dtype=bool)
        packs = -(-(size - start) // self._pack_size())
        for stop in np.linspace(start, size, packs + 1).astype(int)[1:].tolist():
            first, last = np.searchsorted(tree.asked_nodes, [start, stop])
            nodes, places = np.unique(tree.asked_nodes[first:last] - start, return_inverse=True)
            logits = self._logits(tree, path, start, stop, nodes)
            scores[first:last], greedy[first:last] = log_probabilities(
                logits, places, tree.asked_tokens[first:last], self.model.device
            )
            known = np.concatenate([path, np.arange(start, stop)])
            keep = np.flatnonzero(tree.ends[known] > min(stop, size - 1))
            self._select(keep)
            path, start = known[keep], stop
        self._path = tree.tokens[path]
        return scores, greedy

    def _logits(self, tree: TokenTree, path: Ints, start: int, stop: int, nodes: Ints) -> Iterator[tuple[int, Tensor]]:
        """Run the pack start..stop; then the logits of `nodes`, places within it: (first token of a part, (n, part))."""
        device = self.model.device
        inputs: dict[str, Any] = {
            "input_ids": torch.from_numpy(tree.tokens[start:stop])[None].to(device),
            "position_ids": torch.from_numpy(tree.depths[start:stop])[None].to(device),
            "past_key_values": self._cache,
            "use_cache": True,
        }
        rows = torch.from_numpy(nodes).to(device)
        run: Any = self.model
        if self.backbone is not None:
            run = self.backbone
        else:
            inputs["logits_to_keep"] = rows if len(rows) else rows.new_zeros(1)
        if self.blockwise:
            plan = on_device(attention_blocks(tree, path, start, stop, self.block), device, self.model.dtype)
            # Of four dimensions, so that the model takes it as it is; nobody reads it.
            stub = torch.zeros(1, 1, 1, 1, dtype=self.model.dtype, device=device)
            with attending(self.model, plan):
                output = run(attention_mask=stub, **inputs)
        else:
            seen = torch.from_numpy(ancestor_mask(tree, path, start, stop)).to(device)[None, None]
            mask = torch.zeros(seen.shape, dtype=self.model.dtype, device=device)
            output = run(attention_mask=mask.masked_fill(~seen, torch.finfo(mask.dtype).min), **inputs)
        self.tokens_computed += stop - start
        if self.backbone is None:
            return iter([(0, output.logits[0])] if len(rows) else [])
        # (n, D); torch.nn.Linear, or there would be no backbone
        return projected(self.model.get_output_embeddings(), output.last_hidden_state[0][rows], self.logits)

    def _pack_size(self) -> int:
        """Where all logits of a pack come at once, they bound the pack."""
        if self.backbone is not None:
            return self.pack
        return min(self.pack, max(1, self.logits // int(self.model.get_output_embeddings().weight.shape[0])))

    def _keep_shared(self, tree: TokenTree) -> int:
        """Cut the cached path to what it shares with the tree's first path; how many nodes that spares.

        Nodes that are asked for are computed, so the cached path ends before the first of them.
        """
        first_path = tree.tokens[: _length_of_first_path(tree)]
        asked = int(tree.asked_nodes[0]) if len(tree.asked_nodes) else len(first_path)
        kept = min(shared(self._path, first_path), asked)
        self._select(np.arange(kept))
        return kept

    def _select(self, places: Ints) -> None:
        """Keep the keys and values of these places of the cache."""
        if not len(places):
            self._start_from(np.empty(0, dtype=np.int64), [])
            return
        index = torch.from_numpy(places).to(self.model.device)
        for layer in self._cache.layers:
            layer.keys, layer.values = layer.keys.index_select(2, index), layer.values.index_select(2, index)

    def _start_from_kept(self) -> None:
        self._start_from(*self._kept)

    def _start_from(self, path: Ints, states: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Cache these tokens' keys and values, (1, heads, P, D) for each layer. Layers never write into what they hold."""
        layers = [DynamicLayer() for _ in range(self.model.config.get_text_config().num_hidden_layers)]
        for layer, (keys, values) in zip(layers, states, strict=False):
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
        self._cache, self._path = Cache(layers=layers), path


def _compact(before: Sequence[int], after: Sequence[int]) -> NDArray[np.int32]:
    return np.concatenate([np.asarray(before, dtype=np.int32), np.asarray(after, dtype=np.int32)])


def _slices(order: Sequence[int], paths: Sequence[NDArray[np.int32]]) -> Iterator[list[int]]:
    """Consecutive requests whose tokens together stay within TREE_TOKENS, at least one at a time."""
    places: list[int] = []
    held = 0
    for place in order:
        if places and held + len(paths[place]) > TREE_TOKENS:
            yield places
            places, held = [], 0
        places.append(place)
        held += len(paths[place])
    if places:
        yield places


def _length_of_first_path(tree: TokenTree) -> int:
    """The first path's nodes are the first ones, each deeper by one than the node before it."""
    falls = np.flatnonzero(np.diff(tree.depths) != 1)
    return int(falls[0]) + 1 if len(falls) else len(tree.depths)


def _backbone(model: PreTrainedModel) -> Any:
    """The model below its vocabulary projection, if the projection of what it gives are the logits; else None.

    Some models scale or cap their logits, or project in a way of their own: these compute them themselves, for all asked
    tokens of a pack at once.
    """
    backbone, head = model.base_model, model.get_output_embeddings()
    if type(head) is not torch.nn.Linear or backbone is model:
        return None
    ids = torch.arange(1, 5, device=model.device)[None] % model.config.get_text_config().vocab_size
    with torch.inference_mode():
        whole = model(input_ids=ids, use_cache=False).logits
        parts = head(backbone(input_ids=ids, use_cache=False)[0])
    return backbone if torch.equal(whole, parts) else None  # the same products, so the same bits


def missing_arguments(model: PreTrainedModel) -> set[str]:
    """Arguments of the model's forward pass that are missing for scoring over a tree."""
    known = inspect.signature(model.forward).parameters
    return {"attention_mask", "position_ids", "past_key_values", "logits_to_keep"} - set(known)
