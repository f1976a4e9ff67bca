"""What answers requests: our prefix tree, or a backend of lm-eval's.

scorer = ChoiceScorer(model, tokenizer, batch_size=16)
scorer(requests)                          # [[(-7.25, False), (-3.5, True)], ...]
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from evals.harness import Request, quietly

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class ChoiceScorer:
    """From requests to the (log-likelihood, is greedy) of each of their choices.

    `backend` "prefix-tree" computes each distinct token once; "hf" is lm-eval's own, with its log-softmax in float32.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, backend: str = "prefix-tree"
    ) -> None:
        with quietly():
            from lm_eval.models.huggingface import HFLM

            from evals.prefix_tree import PrefixTreeLM

            kind = HFLM if backend == "hf" else PrefixTreeLM
            self.lm = kind(
                pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size, softmax_dtype="float32"
            )

    def __call__(self, requests: Sequence[Request]) -> list[list[tuple[float, bool]]]:
        with quietly():
            answers = iter(
                self.lm.loglikelihood([one for request in requests for one in request.instances], disable_tqdm=True)
            )
        return [[next(answers) for _ in request.instances] for request in requests]

    def keep_shared(self, requests: Sequence[Request]) -> None:
        """Compute what all these requests begin with only once, in however many calls they come."""
        contexts = [str(one.args[0]) for request in requests for one in request.instances]
        if hasattr(self.lm, "likelihoods") and contexts and min(contexts):
            first, last = (self.lm.tok_encode(context) for context in (min(contexts), max(contexts)))
            same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
            self.lm.likelihoods.keep([token for token, _ in same])

    @property
    def engine(self) -> str:
        """How log-likelihoods were computed: "prefix tree", "plain: REASON", or "lm-eval's hf"."""
        return str(getattr(self.lm, "engine", "lm-eval's hf"))
