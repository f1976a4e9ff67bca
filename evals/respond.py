"""The model's answers to a prepared task: log-likelihoods of choices, or generated texts. Scoring comes after.

responses = respond(prepared, backend, Circumstances(...), Path("runs/a/.evals"))
responses.answers[0]      # [[-12.3, False], ...] for choices; [{"text": "...", "tokens": 17, "stopped": "end"}, ...] for texts
"""

from __future__ import annotations

import importlib.metadata
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.answers import Answers
from evals.backends import OWN, Backend, ChoiceScorer, Writer
from evals.evaluated import Weights
from evals.generation import cut_at, stop_at, uniform_numbers
from evals.processes import Processes
from training.counted import are, counted
from training.errors import UsageError
from training.progress import Progress

if TYPE_CHECKING:
    from evals.evaluated import Evaluated
    from evals.harness import Request
    from evals.prepare import Prepared

CHOICES_AT_A_TIME = 64  # items between two saves of log-likelihoods
ENGINE = 7  # raise it when a change here or in training.decoding changes what is answered


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
    """What the model answered to each request of a task, and what computed it, where that was said."""

    answers: list[list[Any]]
    engine: str | None


def respond(
    prepared: Prepared, backend: Backend, circumstances: Circumstances, folder: Path, processes: Processes
) -> Responses:
    """The answers to each of the task's requests, in their order; saved batch by batch in `folder`.

    Where there are several processes each computes its share, and all return the whole.
    """
    name = prepared.settings.task
    answers = Answers(
        folder,
        name,
        {
            **asdict(circumstances),
            "batch_size": prepared.batch_size,
            "decoding": asdict(prepared.decoding) if prepared.decoding else prepared.task.generation,
            "until": prepared.until,
            "samples": prepared.samples,
            "chat_template": prepared.settings.chat_template,
            "bos": prepared.settings.bos,
            **({"stops": turn_ends} if (turn_ends := backend.stops_of_turns(prepared)) else {}),
            "engine": ENGINE,
            "packages": {
                package: importlib.metadata.version(package) for package in ("torch", "transformers", "lm-eval")
            },
        },
        processes.rank,
    )
    batches = _batches(prepared, backend)
    answerer = _Answerer(prepared, backend, circumstances.seed)
    contents = [[prepared.requests[place].content for place in batch] for batch in batches]
    todo = processes.share([index for index, content in enumerate(contents) if not answers.has(content)])
    processes.agree()  # on what there is to do, before anything more is there
    failure: Exception | None = None
    try:
        with Progress(name if processes.first else f"{name} [{processes.rank}]", len(todo)) as progress:
            for index in todo:
                requests = [prepared.requests[place] for place in batches[index]]
                answers.of(contents[index], lambda: answerer(requests), answerer.engine)  # noqa: B023
                progress.advance()
    except Exception as error:  # noqa: BLE001 - raised again, in every process
        failure = error
    processes.agree(failure)
    answers.read()
    found: list[list[Any]] = [[] for _ in prepared.requests]
    for batch, content in zip(batches, contents, strict=True):
        for place, answer in zip(batch, answers.of(content, _never), strict=True):
            found[place] = answer
    engine = "; ".join(sorted(answers.engines))
    if not prepared.task.generates:
        backend.known.add(prepared.requests, found, engine)
    return Responses(found, engine or None)


def _batches(prepared: Prepared, backend: Backend) -> list[list[int]]:
    """The places of the requests that are asked together: always the same ones, or a sampled text would be another."""
    places = range(len(prepared.requests))
    if prepared.task.generates:
        lengths = [backend.asked.prompt_length(request.prompt) for request in prepared.requests]
        batches = _chunks(sorted(places, key=lambda place: (lengths[place], place)), prepared.batch_size)
        batches.reverse()  # the longest first: what does not fit into memory fails at once
        return batches
    # In the order of their texts, so that items with a common beginning meet in one batch.
    order = sorted(places, key=lambda place: (prepared.requests[place].prompt, prepared.requests[place].choices))
    return _chunks(order, CHOICES_AT_A_TIME)


class _Answerer:
    """Answers batches of one task; what computes is made, and weights are loaded, when it is first needed."""

    def __init__(self, prepared: Prepared, backend: Backend, seed: int) -> None:
        self.prepared, self.backend, self.seed = prepared, backend, seed
        self._engine = ""  # of the batch that was answered last

    @cached_property
    def scorer(self) -> ChoiceScorer:
        return self.backend.scorer(self.prepared)

    @cached_property
    def writer(self) -> Writer:
        if isinstance(self.backend.source, Weights) and self.backend.name == OWN:
            return _generator(self.prepared, self.backend.source, self.seed)
        return self.backend.writer(self.prepared)

    def __call__(self, requests: list[Request]) -> list[list[Any]]:
        if self.prepared.task.generates:
            return self.writer(requests)
        known = self.backend.known
        if missing := known.missing(requests):
            known.add(missing, self.scorer(missing), self.scorer.engine)
        found, self._engine = known.of(requests)
        return found

    def engine(self) -> str:
        """How the last batch was computed: by this task's scorer, or by that of the task that had asked it all before."""
        return self.backend.engine(self.prepared) if self.backend.name != OWN else self._engine


def _never() -> list[Any]:
    raise RuntimeError("an answer is not where the process that computed it should have written it")


def _generator(prepared: Prepared, weights: Weights, seed: int) -> Writer:
    decoding, samples, until = prepared.decoding, prepared.samples, prepared.until
    assert decoding is not None
    evaluated = weights.evaluated
    room = evaluated.context - decoding.max_new_tokens

    def compute(requests: list[Request]) -> list[list[Any]]:
        import torch

        from training.decoding import decode

        special = not prepared.settings.chat_template and prepared.settings.bos != "none"
        prompts = [evaluated.prompt_ids(request.prompt, special) for request in requests]
        too_long = [request.item for request, ids in zip(requests, prompts, strict=True) if len(ids) > room]
        if too_long:  # a second question, after an answer that nobody knew before
            raise UsageError(
                f"{counted(len(too_long), 'conversation')} {are(len(too_long))} longer than the model's context",
                where=f"{prepared.settings.task}, item {too_long[0]}",
                expected=f"at most {room} tokens before an answer of {decoding.max_new_tokens}",
                next_step="a shorter answer (generation: {max_gen_toks: ...}) in a suite of your own",
            )
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
            evaluated.stop_tokens(prepared.settings.chat_template),
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
