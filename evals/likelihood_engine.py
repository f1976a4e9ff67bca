"""Which way log-likelihoods are computed for a model: over the prefix tree where that gives its numbers, else plainly.

    engine = LikelihoodEngine(model, context=2048, batch_size=16)
    engine.score([([1, 2, 3], [4, 5])])      # [(-7.25, False)]
    engine.name                              # "prefix tree", or "plain: " and the reason

A tree needs a model that takes positions and a mask as they are given. What rules that out by the model's own description is
found first; then two real requests that branch are scored both ways, and the numbers must agree.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from evals.likelihood import log_likelihoods
from evals.token_tree import shared, sort_key
from evals.tree_attention import NotHonoured
from evals.tree_likelihood import Pair, TreeScorer, missing_arguments
from training.command import log

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TREE = "prefix tree"
CHECKED_AMONG = 2000  # requests among which those of the self-check are chosen
CHECKED_SHARED = (
    16  # tokens that the two share; what they share before is cut off, or a long primer would be computed twice more
)
CHECKED_TOKENS = 24  # the self-check takes the shortest branching requests of at least as many tokens together
# Nats by which the two ways may differ: for each request, and for each token of its continuation.
TOLERANCE = {torch.float32: (1e-3, 1e-4), torch.float16: (0.03, 0.01), torch.bfloat16: (0.15, 0.05)}
CHANGING_ROPE = ("dynamic", "longrope")  # positions are scaled by the longest one in the batch


class LikelihoodEngine:
    """Log-likelihoods with one model, whose weights must not change between calls."""

    def __init__(self, model: PreTrainedModel, context: int, batch_size: int) -> None:
        self.model, self.context, self.batch_size = model, context, batch_size
        self._tree: TreeScorer | None = None
        self._why_not = ""
        self._checked = False
        self._prefix: list[int] = []
        self._give_up(_unfit(model))

    @property
    def name(self) -> str:
        """How they are computed: "prefix tree" or "plain: REASON"; "" before anything was scored."""
        if self._why_not:
            return f"plain: {self._why_not}"
        return TREE if self._checked else ""

    def score(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        """For each (context tokens, continuation tokens): the sum of the continuation's log-probabilities in nats, and
        whether greedy decoding would give it.
        """
        if not pairs:
            return []
        if not self._why_not:
            longest = min(self.context, max(len(before) + len(after) - 1 for before, after in pairs))
            self._give_up(_too_long(self.model, longest))
        if not self._why_not and not self._checked:
            self._check(pairs)
        if self._why_not:
            return self._plainly(pairs)
        assert self._tree is not None
        if self._prefix:
            self._tree.keep(self._prefix)
            self._prefix = []
        return self._tree.score(pairs)

    def keep(self, prefix: Sequence[int]) -> None:
        """Tokens that most requests of later calls begin with: a tree computes them once for all calls."""
        self._prefix = list(prefix)

    @property
    def tokens_computed(self) -> int:
        """Distinct tokens that went through the model so far."""
        return self._tree.tokens_computed if self._tree else 0

    def _plainly(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        return log_likelihoods(self.model, pairs, self.batch_size, self.context)

    def _give_up(self, reason: str) -> None:
        if reason and not self._why_not:
            self._why_not, self._tree = reason, None
            log(f"log-likelihoods are computed plainly, not over the prefix tree: {reason}")

    def _check(self, pairs: Sequence[Pair]) -> None:
        """Score a few real requests both ways, and keep the tree only where they agree."""
        chosen = cut([pairs[place] for place in representative(pairs[:CHECKED_AMONG])])
        plain = log_likelihoods(self.model, chosen, len(chosen), self.context)
        reason = ""
        for blockwise in (True, False) if self.model._supports_attention_backend else (False,):
            try:
                scorer = TreeScorer(self.model, self.context, blockwise)
                reason = _disagreement(scorer, chosen, plain)
            except NotHonoured as error:
                reason = str(error)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
                # Whatever a model's own code does with a mask or a cache that it was not written for.
                reason = f"its code does not take the mask of a tree ({type(error).__name__})"
            if not reason:
                self._tree, self._checked = scorer, True
                return
        self._give_up(reason)


def _disagreement(scorer: TreeScorer, pairs: Sequence[Pair], plain: Sequence[tuple[float, bool]]) -> str:
    """How the tree's numbers differ from the plain ones, in words; "" where they agree.

    Packs are so small that there are two or three, so that the cached path is checked as well.
    """
    pack, block = scorer.pack, scorer.block
    scorer.pack = max(2, sum(len(before) + len(after) for before, after in pairs) // 3)
    scorer.block = max(2, scorer.pack // 2)
    found = scorer.score(pairs)
    scorer.pack, scorer.block = pack, block
    base, each = TOLERANCE.get(scorer.model.dtype, TOLERANCE[torch.bfloat16])
    for (_, after), (tree, _), (right, _) in zip(pairs, found, plain, strict=True):
        if not abs(tree - right) <= base + each * len(after):
            return f"its numbers differ by {abs(tree - right):.3g} nats from plain scoring"
    return ""


def representative(pairs: Sequence[Pair]) -> list[int]:
    """Two requests, neighbours in the tree: the shortest ones that share tokens, branch, and are not trivially short.

    Where no two share anything, the shortest two of some length.
    """
    inputs = [np.asarray([*before, *after][:-1], dtype=np.int64) for before, after in pairs]
    order = sorted(range(len(pairs)), key=lambda place: sort_key(inputs[place].tolist()))

    def rank(couple: tuple[int, int]) -> tuple[bool, bool, int]:
        a, b = inputs[couple[0]], inputs[couple[1]]
        common, length = shared(a, b), len(a) + len(b)
        branches = 0 < common < min(len(a), len(b))
        return not branches, length < CHECKED_TOKENS, length if length >= CHECKED_TOKENS else -length

    couples = list(itertools.pairwise(order))
    return [*min(couples, key=rank)] if couples else order


def cut(pairs: Sequence[Pair]) -> list[Pair]:
    """The same requests without most of the context that all share, so that checking costs little."""
    contexts = [np.asarray(before, dtype=np.int64) for before, _ in pairs]
    same = min((shared(contexts[0], context) for context in contexts), default=0)
    return [(list(before)[max(0, same - CHECKED_SHARED) :], after) for before, after in pairs]


def _unfit(model: PreTrainedModel) -> str:
    """What rules a tree out by the model's own description, in words; "" where nothing does."""
    config: Any = model.config.get_text_config()
    if getattr(model, "_is_stateful", False):
        return "it carries a state from token to token"
    if missing := missing_arguments(model):
        return "its forward pass takes no " + ", ".join(sorted(missing))
    if getattr(config, "alibi", False):
        return "it has no positions but distances (ALiBi)"
    if getattr(config, "num_kv_shared_layers", None):
        return "its layers share keys and values"
    kinds = set(getattr(config, "layer_types", None) or ()) - {"full_attention", "sliding_attention"}
    return f"it has layers of {', '.join(sorted(kinds))}" if kinds else ""


def _too_long(model: PreTrainedModel, longest: int) -> str:
    """What rules a tree out for requests of `longest` tokens, in words; "" where nothing does."""
    config: Any = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    slides = getattr(config, "use_sliding_window", True) and "sliding_attention" in (
        getattr(config, "layer_types", None) or ["sliding_attention"]
    )
    if window and slides and longest > window:
        return f"its attention slides over {window} tokens, and a request has {longest}"
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    limit = rope.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
    if kind in CHANGING_ROPE and longest > (limit or config.max_position_embeddings):
        return f"its positions are scaled by the length of the longest request ({kind})"
    return ""
