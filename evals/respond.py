"""The model's answers to a prepared task: log-likelihoods of choices, or generated texts. Scoring comes after.

responses = respond(prepared, weights, Circumstances(...), Path("runs/a/.evals"))
responses.answers[0]      # [[-12.3, False], ...] for choices; [{"text": "...", "tokens": 17, "stopped": "end"}, ...] for texts
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.answers import Answers
from evals.generation import cut_at, stop_at, uniform_numbers
from training.progress import Progress

if TYPE_CHECKING:
    from evals.backends import ChoiceScorer
    from evals.evaluated import Evaluated, Weights
    from evals.harness import Request
    from evals.prepare import Prepared

CHOICES_AT_A_TIME = 64  # items between two saves of log-likelihoods
ENGINE = 4  # raise it when a change here or in training.decoding changes what is answered


@dataclass(frozen=True)
class Circumstances:
    """What decides answers beside the requests."""

    checkpoint: str
    dtype: str
    device: str
    backend: str
    seed: int


@dataclass(frozen=True)
class Responses:
    """What the model answered to each request of a task, and how log-likelihoods were computed, where any were."""

    answers: list[list[Any]]
    engine: str | None


def respond(prepared: Prepared, weights: Weights, circumstances: Circumstances, folder: Path) -> Responses:
    """The answers to each of the task's requests, in their order; saved batch by batch in `folder`."""
    name = prepared.settings.task
    evaluated = weights.evaluated
    answers = Answers(
        folder,
        name,
        {
            **asdict(circumstances),
            "batch_size": prepared.batch_size,
            "decoding": asdict(prepared.decoding) if prepared.decoding else None,
            "until": prepared.until,
            "samples": prepared.samples,
            "chat_template": prepared.settings.chat_template,
            "engine": ENGINE,
            "packages": {
                package: importlib.metadata.version(package) for package in ("torch", "transformers", "lm-eval")
            },
        },
    )
    batches: list[list[int]]
    compute: Callable[[list[Request]], list[list[Any]]]
    places = range(len(prepared.requests))
    chooser = _Chooser(prepared, weights, circumstances.backend)
    if prepared.task.generates:
        lengths = [len(evaluated.prompt_ids(request.prompt, False)) for request in prepared.requests]
        order = sorted(places, key=lambda place: (lengths[place], place))
        batches = _chunks(order, prepared.batch_size)
        batches.reverse()  # the longest first: what does not fit into memory fails at once
        compute = _generator(prepared, weights, circumstances.seed)
    else:
        # In the order of their texts, so that items with a common beginning meet in one batch.
        order = sorted(places, key=lambda place: (prepared.requests[place].prompt, prepared.requests[place].choices))
        batches = _chunks(order, CHOICES_AT_A_TIME)
        compute = chooser
    found: list[list[Any]] = [[] for _ in places]
    contents = [[prepared.requests[place].content for place in batch] for batch in batches]
    todo = sum(not answers.has(content) for content in contents)
    with Progress(name, len(batches), len(batches) - todo) as progress:
        for batch, content in zip(batches, contents, strict=True):
            new = not answers.has(content)
            requests = [prepared.requests[place] for place in batch]
            engine = (lambda: "") if prepared.task.generates else chooser.engine
            computed = answers.of(content, lambda: compute(requests), engine)  # noqa: B023
            for place, answer in zip(batch, computed, strict=True):
                found[place] = answer
            if new:
                progress.advance()
    return Responses(found, "; ".join(sorted(answers.engines)) or None)


class _Chooser:
    """Scores the choices of a task's items; the scorer is made, and weights are loaded, when it is first needed."""

    def __init__(self, prepared: Prepared, weights: Weights, backend: str) -> None:
        self.prepared, self.weights, self.backend = prepared, weights, backend

    @cached_property
    def scorer(self) -> ChoiceScorer:
        from evals.backends import ChoiceScorer

        scorer = ChoiceScorer(
            self.weights.model, self.weights.evaluated.tokenizer, self.prepared.batch_size, self.backend
        )
        scorer.keep_shared(self.prepared.requests)
        return scorer

    def __call__(self, requests: list[Request]) -> list[list[Any]]:
        return [[list(choice) for choice in choices] for choices in self.scorer(requests)]

    def engine(self) -> str:
        return self.scorer.engine


def _generator(prepared: Prepared, weights: Weights, seed: int) -> Callable[[list[Request]], list[list[Any]]]:
    decoding, samples, until = prepared.decoding, prepared.samples, prepared.until
    assert decoding is not None
    evaluated = weights.evaluated
    room = evaluated.context - decoding.max_new_tokens

    def compute(requests: list[Request]) -> list[list[Any]]:
        import torch

        from training.decoding import decode

        prompts = [
            evaluated.prompt_ids(request.prompt, prepared.settings.chat_template)[-room:] for request in requests
        ]
        uniforms = torch.tensor(
            [
                uniform_numbers(seed, prepared.settings.task, request.item, sample, decoding.max_new_tokens)
                for request in requests
                for sample in range(samples)
            ],
            dtype=torch.float64,  # rounded to float32 the highest of them would be 1
        )
        rows = decode(
            weights.model,
            prompts,
            samples,
            decoding,
            uniforms,
            evaluated.stop_tokens(),
            stop_at(evaluated.tokenizer, until) if until else None,
        )
        texts = [_as_answer(evaluated, tokens, until, decoding.max_new_tokens) for tokens in rows]
        return [texts[start : start + samples] for start in range(0, len(texts), samples)]

    return compute


def _as_answer(evaluated: Evaluated, tokens: list[int], until: tuple[str, ...], most: int) -> dict[str, Any]:
    text = str(evaluated.tokenizer.decode(tokens, skip_special_tokens=True))
    kept = cut_at(text, until)
    stopped = "stop string" if len(kept) < len(text) else "length" if len(tokens) >= most else "end"
    return {"text": kept, "tokens": len(tokens), "stopped": stopped}


def _chunks(order: list[int], size: int) -> list[list[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
