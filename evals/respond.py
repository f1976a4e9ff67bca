"""The model's answers to a prepared task: log-likelihoods of choices, or generated texts. Scoring comes after.

answers = respond(prepared, weights, Circumstances(...), Path("runs/a/.evals"))
answers[0]      # [[-12.3, False], ...] for choices; [{"text": "...", "tokens": 17, "stopped": "end"}, ...] for texts
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.answers import Answers
from training.progress import Progress

if TYPE_CHECKING:
    from evals.evaluated import Evaluated, Weights
    from evals.harness import Request
    from evals.prepare import Prepared

CHOICES_AT_A_TIME = 40  # items between two saves of log-likelihoods
ENGINE = 3  # raise it when a change here or in training.decoding changes what is answered


@dataclass(frozen=True)
class Circumstances:
    """What decides answers beside the requests."""

    checkpoint: str
    dtype: str
    device: str
    backend: str
    seed: int


def respond(prepared: Prepared, weights: Weights, circumstances: Circumstances, folder: Path) -> list[list[Any]]:
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
    if prepared.task.generates:
        lengths = [len(evaluated.prompt_ids(request.prompt, False)) for request in prepared.requests]
        order = sorted(places, key=lambda place: (lengths[place], place))
        batches = _chunks(order, prepared.batch_size)
        batches.reverse()  # the longest first: what does not fit into memory fails at once
        compute = _generator(prepared, weights, circumstances.seed)
    else:
        batches = _chunks(list(places), CHOICES_AT_A_TIME)
        compute = _chooser(prepared, weights)
    found: list[list[Any]] = [[] for _ in places]
    contents = [[prepared.requests[place].content for place in batch] for batch in batches]
    todo = sum(not answers.has(content) for content in contents)
    with Progress(name, len(batches), len(batches) - todo) as progress:
        for batch, content in zip(batches, contents, strict=True):
            new = not answers.has(content)
            requests = [prepared.requests[place] for place in batch]
            for place, answer in zip(batch, answers.of(content, lambda: compute(requests)), strict=True):  # noqa: B023
                found[place] = answer
            if new:
                progress.advance()
    return found


def _chooser(prepared: Prepared, weights: Weights) -> Callable[[list[Request]], list[list[Any]]]:
    scorer: list[Callable[[list[Request]], list[list[tuple[float, bool]]]]] = []

    def compute(requests: list[Request]) -> list[list[Any]]:
        from evals.harness import choice_scorer

        if not scorer:
            scorer.append(choice_scorer(weights.model, weights.evaluated.tokenizer, prepared.batch_size))
        return [[list(choice) for choice in choices] for choices in scorer[0](requests)]

    return compute


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
            _stop_at(evaluated, until) if until else None,
        )
        texts = [_as_answer(evaluated, tokens, until, decoding.max_new_tokens) for tokens in rows]
        return [texts[start : start + samples] for start in range(0, len(texts), samples)]

    return compute


def uniform_numbers(seed: int, task: str, item: str, sample: int, count: int) -> list[float]:
    """The randomness of one continuation: the same for every model, so that two models are compared on equal draws."""
    import numpy as np

    name = hashlib.sha256(f"{task}\n{item}\n{sample}".encode()).digest()
    words = [int.from_bytes(name[start : start + 4], "big") for start in range(0, 16, 4)]
    return list(np.random.default_rng([seed, *words]).random(count))


def _stop_at(evaluated: Evaluated, until: tuple[str, ...]) -> Callable[[int, list[int]], bool]:
    """Whether a stop string stands at the end of the text so far. A token is at least one byte, so few are read."""
    window = max(len(stop.encode()) for stop in until) + 4

    def ended(_row: int, tokens: list[int]) -> bool:
        tail = evaluated.tokenizer.decode(tokens[-window:], skip_special_tokens=True)
        return any(stop in tail for stop in until)

    return ended


def _as_answer(evaluated: Evaluated, tokens: list[int], until: tuple[str, ...], most: int) -> dict[str, Any]:
    text = str(evaluated.tokenizer.decode(tokens, skip_special_tokens=True))
    cut = min((text.find(stop) for stop in until if stop in text), default=-1)
    if cut >= 0:
        text = text[:cut]
    stopped = "stop string" if cut >= 0 else "length" if len(tokens) >= most else "end"
    return {"text": text, "tokens": len(tokens), "stopped": stopped}


def _chunks(order: list[int], size: int) -> list[list[int]]:
    return [order[start : start + size] for start in range(0, len(order), size)]
