"""A tree of token sequences holds each token once, and its masks let a token see its ancestors alone."""

from __future__ import annotations

import numpy as np
import pytest
from tree_requests import random_requests

from evals.token_tree import ancestor_mask, attention_blocks, grow


@pytest.mark.parametrize("seed", range(4))
def test_a_tree_holds_every_sequence_once_and_its_mask_is_its_ancestors(seed: int) -> None:
    sequences = sorted({tuple(before + after) for before, after in random_requests(seed)})
    tree = grow(sequences, [sequence[-2:] for sequence in sequences])
    distinct = {sequence[: length + 1] for sequence in sequences for length in range(len(sequence))}
    assert len(tree.tokens) == len(distinct)
    mask = ancestor_mask(tree, np.arange(0), 0, len(tree.tokens))
    texts = [tuple(tree.tokens[row].tolist()) for row in mask]
    assert set(texts) == distinct
    assert [len(text) - 1 for text in texts] == tree.depths.tolist()
    asked = zip(tree.asked_nodes, tree.asked_rows, strict=True)
    assert all(texts[node] == sequences[row][: len(texts[node])] for node, row in asked)
    assert len(tree.asked_nodes) == sum(min(2, len(sequence)) for sequence in sequences)


@pytest.mark.parametrize(("seed", "start", "size"), [(0, 0, 4), (1, 37, 8), (2, 50, 64)])
def test_blocks_attend_to_what_the_whole_mask_allows_and_to_nothing_else(seed: int, start: int, size: int) -> None:
    sequences = sorted(before + after for before, after in random_requests(seed))
    tree = grow(sequences, [sequence[-1:] for sequence in sequences])
    stop = len(tree.tokens) - 3
    path = tree.path(start, np.arange(start))
    whole = ancestor_mask(tree, path, start, stop)
    found = np.zeros_like(whole)
    for group in attention_blocks(tree, path, start, stop, size):
        for queries, keys, mask in zip(group.queries, group.keys, group.mask, strict=True):
            assert mask.any(axis=1).all(), "a softmax over nothing is not a number"
            rows, columns = np.nonzero(mask)
            found[queries[rows], keys[columns]] = True
    assert (found == whole).all()
