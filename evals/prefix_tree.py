"""An lm-eval model that computes each distinct token once: `slipway` for lm-eval, whatever starts it.

    lm = PrefixTreeLM(pretrained="org/name", dtype="float32", device="cpu")
    lm_eval.simple_evaluate(model=lm, tasks=["truthfulqa_mc1", "truthfulqa_mc2"])
    lm.engine                                        # "prefix tree", or "plain: " and the reason

    python -m evals.prefix_tree run --model slipway --model_args pretrained=org/name --tasks hellaswag

Loading, tokens and templates are those of lm-eval's hf backend, so requests become the same token ids. What it does with
them is ours: log-likelihoods over the tree of all requests, in float32 from the logits on (evals.likelihood_engine), and
generation with one prefill for all samples of a prompt, in which each sample has numbers of its own (training.decoding).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from evals.generation import as_decoding, cut_at, stop_at, uniform_numbers
from evals.likelihood_engine import LikelihoodEngine
from training.chat import written_turn_end
from training.errors import UsageError

ROWS = 16  # continuations decoded together where lm-eval is asked to find out how many


@register_model("slipway")
class PrefixTreeLM(HFLM):  # type: ignore[misc]
    """lm-eval's hf backend with the work done once. Takes its arguments, and `seed` for sampled texts.

    `batch_size` counts continuations that are decoded together; log-likelihoods are packed without it. Raises UsageError for
    an encoder-decoder model.
    """

    def __init__(self, pretrained: Any, seed: int = 0, **options: Any) -> None:
        # lm-eval's default is a GPU, also where torch was built without one; None is what its command line says for "not given".
        if options.get("device") is None:
            options["device"] = "cuda" if torch.cuda.is_available() else "cpu"
        super().__init__(pretrained, **options)
        if self.backend != "causal":
            raise UsageError("the prefix tree is for decoder-only models", found=self.backend, next_step="--model hf")
        rows = int(self.batch_size) if str(self.batch_size).isdigit() else ROWS
        self.seed, self.rows = seed, max(1, rows)
        self._engine: LikelihoodEngine | None = None
        self._conversations = False  # whether lm-eval had the chat template applied, which it does to all tasks or none

    @property
    def likelihoods(self) -> LikelihoodEngine:
        """What computes log-likelihoods; made at first use."""
        if self._engine is None:
            self._engine = LikelihoodEngine(self.model, self.max_length, max(ROWS, self.rows))
        return self._engine

    @property
    def engine(self) -> str:
        """How log-likelihoods were computed: "prefix tree" or "plain: REASON"; "" before the first."""
        return self._engine.name if self._engine else ""

    def apply_chat_template(self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """lm-eval's; what is generated after it also stops at the turn's end."""
        self._conversations = True
        return str(super().apply_chat_template(chat_history, add_generation_prompt))

    def _encode_pair(self, context: str, continuation: str) -> tuple[Any, Any]:
        """lm-eval's tokens of a request, four bytes each: lm-eval holds those of all requests of all tasks at once."""
        before, after = super()._encode_pair(context, continuation)
        return np.asarray(before, dtype=np.int32), np.asarray(after, dtype=np.int32)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str] | None, list[int], list[int]]],
        disable_tqdm: bool = False,  # noqa: ARG002 - lm-eval's interface
        override_bs: int | None = None,  # noqa: ARG002
    ) -> list[tuple[float, bool]]:
        answers = self.likelihoods.score([(before, after) for _, before, after in requests])
        for (texts, _, _), answer in zip(requests, answers, strict=True):
            if texts is not None:
                self.cache_hook.add_partial("loglikelihood", texts, answer)
        return answers

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """The log-likelihood of each whole text in nats: windows of the model's context, each token predicted once."""
        windows: list[tuple[None, list[int], list[int]]] = []
        counts = []
        for request in requests:
            rolling = get_rolling_token_windows(
                token_list=self.tok_encode(request.args[0]),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            found = [make_disjoint_window(window) for window in rolling]
            windows += [(None, *window) for window in found]
            counts.append(len(found))
        scores = iter(self._loglikelihood_tokens(windows, disable_tqdm))
        totals = [sum(next(scores)[0] for _ in range(count)) for count in counts]
        for request, total in zip(requests, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", request.args, total)
        return totals

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
        """The text that follows each context, up to a stop string, the end of the text or `max_gen_toks`.

        Equal requests are samples of one prompt: the k-th of them gets the k-th numbers of that prompt, in whatever batch.
        """
        found = [""] * len(requests)
        for settings, prompts in _by_settings(requests):
            for batch in self._batches(prompts, settings):
                for place, text in self._generate(batch, settings):
                    found[place] = text
                    self.cache_hook.add_partial("generate_until", requests[place].args, text)
        return found

    def _batches(
        self, prompts: dict[str, list[int]], settings: dict[str, Any]
    ) -> Iterator[list[tuple[str, list[int], list[int]]]]:
        """Batches of (context, its tokens, places of its samples), the longest first: what does not fit fails at once."""
        room = self.max_length - settings["max_gen_toks"]
        if room < 1:
            raise UsageError(
                "more tokens are to be generated than the model's context holds",
                expected=f"max_gen_toks below {self.max_length}",
                found=str(settings["max_gen_toks"]),
            )
        tokens = {context: self.tok_encode(context)[-room:] or [self.prefix_token_id] for context in prompts}
        batch: list[tuple[str, list[int], list[int]]] = []
        for context in sorted(prompts, key=lambda context: (-len(tokens[context]), context)):
            most = max(len(places) for _, _, places in [*batch, (context, [], prompts[context])])
            if batch and most * (len(batch) + 1) > self.rows:
                yield batch
                batch = []
            batch.append((context, tokens[context], prompts[context]))
        if batch:
            yield batch

    def _generate(
        self, batch: Sequence[tuple[str, list[int], list[int]]], settings: dict[str, Any]
    ) -> Iterator[tuple[int, str]]:
        import torch

        from training.decoding import decode

        decoding = as_decoding(settings)
        until = tuple(stop for stop in settings["until"] if stop)
        samples = max(len(places) for _, _, places in batch)
        uniforms = torch.tensor(
            [
                uniform_numbers(self.seed, "", context, sample, decoding.max_new_tokens)
                for context, _, _ in batch
                for sample in range(samples)
            ],
            dtype=torch.float64,
        )
        rows = decode(
            self.model,
            [tokens for _, tokens, _ in batch],
            samples,
            decoding,
            uniforms,
            self._stop_tokens(),
            stop_at(self.tokenizer, until) if until else None,
        )
        for first, (_, _, places) in enumerate(batch):
            for sample, place in enumerate(places):
                text = self.tok_decode(rows[first * samples + sample])
                yield place, cut_at(text, until)

    def _stop_tokens(self) -> list[int]:
        ends = self.model.generation_config.eos_token_id if self.model.generation_config else None
        turn_end = written_turn_end(self.tokenizer) if self._conversations else None
        return sorted({self.eot_token_id, turn_end, *(ends if isinstance(ends, list) else [ends])} - {None})


def _by_settings(requests: Sequence[Any]) -> Iterator[tuple[dict[str, Any], dict[str, list[int]]]]:
    """Groups of requests with equal generation settings: the settings, and the places of each context."""
    groups: dict[str, tuple[dict[str, Any], dict[str, list[int]]]] = {}
    for place, request in enumerate(requests):
        context, given = request.args
        settings = dict(normalize_gen_kwargs(dict(given)))
        _, prompts = groups.setdefault(repr(sorted(settings.items())), (settings, {}))
        prompts.setdefault(context, []).append(place)
    yield from groups.values()


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
