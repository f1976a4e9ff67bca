"""Log-likelihoods that an evaluation has already: what several tasks ask alike is computed once, as MC1's choices are MC2's.

    order = answering_order(prepared)                  # a task that asks all that another asks, and more, comes before it
    known = KnownAnswers()
    known.add(requests, answers, "prefix tree")
    known.missing(requests)                            # the same requests with the choices alone that nobody has asked

TruthfulQA's MC1 and MC2 are 91,977 distinct tokens one by one (SmolLM2's), 64,872 where MC2 asks only what MC1 has not asked, and
51,800, which are those of both in one tree, where MC2 is answered first. Tasks that share questions and not choices would
gain from one tree as well; no suite of ours has any.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evals.harness import Request
    from evals.prepare import Prepared


@dataclass
class KnownAnswers:
    """(context, continuation) -> (log-likelihood in nats, is greedy), of one model under one setting; and what computed it."""

    _answers: dict[tuple[str, str], tuple[list[Any], str]] = field(default_factory=dict)

    def add(self, requests: Sequence[Request], answers: Sequence[Sequence[Any]], engine: str) -> None:
        """Keep the answers to each choice of each request."""
        for request, found in zip(requests, answers, strict=True):
            for instance, answer in zip(request.instances, found, strict=True):
                self._answers.setdefault(_asked(instance), (list(answer), engine))

    def missing(self, requests: Sequence[Request]) -> list[Request]:
        """The requests that have choices without an answer, with these choices alone."""
        left = [
            replace(request, instances=tuple(one for one in request.instances if _asked(one) not in self._answers))
            for request in requests
        ]
        return [request for request in left if request.instances]

    def of(self, requests: Sequence[Request]) -> tuple[list[list[Any]], str]:
        """The answers to each choice of each request, and how they were computed. All must be known."""
        found = [[self._answers[_asked(one)] for one in request.instances] for request in requests]
        engines = sorted({engine for answers in found for _, engine in answers} - {""})
        return [[list(answer) for answer, _ in answers] for answers in found], "; ".join(engines)


def answering_order(prepared: Sequence[Prepared]) -> list[Prepared]:
    """The tasks in their order, but before a task of choices those that ask all that it asks, and more."""
    asked = {
        one.settings.task: {_asked(instance) for request in one.requests for instance in request.instances}
        for one in prepared
        if not one.task.generates
    }
    nothing: set[tuple[str, str]] = set()
    order: dict[str, Prepared] = {}
    for one in prepared:
        own = asked.get(one.settings.task, nothing)
        for other in prepared if own else ():
            if own < asked.get(other.settings.task, nothing):
                order.setdefault(other.settings.task, other)
        order.setdefault(one.settings.task, one)
    return list(order.values())


def _asked(instance: Any) -> tuple[str, str]:
    context, continuation = instance.args
    return context, continuation
