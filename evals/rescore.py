"""Re-score a sample of the items of a scorecard, with the settings that it states: does each figure hold?

    for figure in rescore(SavedRun.open(snapshot), find(str(snapshot)), items=8, seed=17):
        figure.outcome, figure.explanation

Three things must hold of a figure: it is what all its samples give (`evals.regenerate`); the answers of the drawn items are
the model's (log-likelihoods within a tolerance, greedy texts word by word, sampled texts by their values' interval);
and the values of the drawn items are what the task's own scorer makes of the recorded answers. What cannot be computed here is
reported as such.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

from evals.regenerate import OTHER_STREAM, regenerate
from evals.saved import SavedRun
from evals.scorecard import Sample, TaskSettings
from evals.scoring import AGGREGATED
from evals.stated_task import stated_suite, stated_task
from evals.statistics import paired_difference, sample_of
from training.command import log
from training.counted import counted
from training.errors import HubError, UsageError
from training.records import Record

if TYPE_CHECKING:
    from evals.backends import Backend
    from evals.evaluated import Evaluated, Weights
    from evals.prepare import Prepared
    from evals.respond import Circumstances
    from evals.suite import NamedSuite

# Nats by which the log-likelihood of a choice may differ: other processors and batches sum in another order. The two
# engines of this package differ by at most 6e-4 in float32 (README); bfloat16 keeps eight bits of each number.
NATS = {"float32": 0.01, "bfloat16": 0.5, "float16": 0.1}
# A recorded greedy token that is not ours must be as likely as ours, up to this difference of logits.
TIE = {"float32": 0.01, "bfloat16": 0.25, "float16": 0.05}
CHANCE = 0.01  # sampled texts: two-sided p of the paired difference below which a figure does not hold
# Of texts sampled in float32 from the stated random numbers, so many must come out again word by word: a rounding that
# falls on the edge between two tokens changes a text now and then, not half of them.
SAME_DRAWS = 0.5
SHOWN = 3  # items that an explanation names


class Rescored(Record):
    """One figure: whether it holds, of how many drawn items, and what is wrong with which of them."""

    task: str
    metric: str
    outcome: Literal["holds", "does not hold", "not re-scored"]
    items: int
    explanation: str
    wrong_items: list[str] = []


@dataclass(frozen=True)
class _Answered:
    """What was found of one task: items whose answers or values do not hold, and values that nothing here can make."""

    items: int
    how: str
    answers: dict[str, str]  # item -> what is wrong with its answer
    values: dict[str, dict[str, str]]  # metric -> item -> what is wrong with its value
    scored: dict[
        str, int
    ]  # metrics whose values were made again, and of how many items: a stratum's figure is of its own
    means: dict[str, str] = field(default_factory=dict)  # metric -> what is wrong with the mean of sampled texts


def rescore(
    run: SavedRun,
    evaluated: Evaluated,
    items: int,
    seed: int,
    device: str = "cpu",
    suite: str | None = None,
    weights: Weights | None = None,
) -> list[Rescored]:
    """Every figure of the scorecard, by `items` items of each task that `seed` draws.

    `suite` is the file of a suite that is none of ours; `weights` are those that answer, where they are not the checkpoint's.
    Raises UsageError where it is not the scorecard's suite, where the samples are not, or where the weights cannot be used.
    """
    from evals.backends import Backend
    from evals.evaluated import Weights

    card = run.scorecard
    named = stated_suite(card, suite)
    regenerated = {(found.score.task, found.score.metric): found for found in regenerate(run, OTHER_STREAM)}
    weights = weights or Weights(evaluated, card.settings.dtype, device)
    backend = Backend(card.settings.backend, weights, card.settings.seed)
    answered: dict[str, _Answered | str] = {}
    with TemporaryDirectory(prefix="slipway-rescore-") as scratch:
        for settings in card.settings.tasks:
            if settings.task in card.samples:
                answered[settings.task] = _answer(run, named, settings, backend, weights, items, seed, Path(scratch))
    figures = []
    for score in card.scores:
        found = regenerated[score.task, score.metric]
        figures.append(_judge(score.metric, score.task, answered[score.task], found.problem, found.impossible))
    return figures


def _answer(
    run: SavedRun,
    named: NamedSuite | str,
    settings: TaskSettings,
    backend: Backend,
    weights: Weights,
    items: int,
    seed: int,
    scratch: Path,
) -> _Answered | str:
    """The drawn items of one task answered and scored again; or why that cannot be done here."""
    from evals.processes import Processes
    from evals.respond import Circumstances, respond

    card = run.scorecard
    if isinstance(named, str):
        return named
    try:
        prepared = stated_task(run, named, settings, weights.evaluated)
    except (UsageError, HubError) as error:
        return " ".join([error.what, *([error.found] if error.found else [])])
    if isinstance(prepared, str):
        return prepared
    recorded = {sample.item: sample for sample in run.samples(settings.task)}
    missing = [request.item for request in prepared.requests if request.item not in recorded]
    if missing or len(recorded) != len(prepared.requests):
        return f"its samples are not of the items that its settings draw (first {(missing or ['too many'])[0]})"
    strata = [str(recorded[request.item].detail.get("stratum", "")) for request in prepared.requests]
    drawn = [prepared.requests[place] for place in sample_of(strata, items, seed)]
    prepared = replace(prepared, requests=drawn)
    log(f"re-scoring {len(drawn)} of {counted(len(recorded), 'item')} of {settings.task}")
    circumstances = Circumstances(
        card.model.digest, card.settings.dtype, weights.device, card.settings.backend, card.settings.seed
    )
    answers = respond(prepared, backend, circumstances, scratch, Processes()).answers
    samples = [recorded[request.item] for request in drawn]
    if not prepared.task.generates:
        return _likelihoods(prepared, samples, answers, circumstances)
    return _texts(prepared, samples, answers, weights, circumstances, seed)


def _likelihoods(
    prepared: Prepared, samples: Sequence[Sample], answers: Sequence[Sequence[Any]], circumstances: Circumstances
) -> _Answered:
    room = NATS.get(circumstances.dtype, NATS["float32"])
    wrong: dict[str, str] = {}
    stated: list[list[Any]] = []
    for request, sample, answer in zip(prepared.requests, samples, answers, strict=True):
        recorded = [float(value) for value in sample.detail.get("log_likelihoods", [])]
        if sample.prompt != request.prompt or sample.detail.get("choices") != list(request.choices):
            wrong[sample.item] = "its prompt or choices are not those of the task's data"
        elif len(recorded) != len(answer):
            wrong[sample.item] = f"{len(recorded)} log-likelihoods are recorded of {len(answer)} choices"
        else:
            gaps = [abs(ours[0] - theirs) for ours, theirs in zip(answer, recorded, strict=True)]
            worst = max(range(len(gaps)), key=gaps.__getitem__)
            if not gaps[worst] <= room:
                wrong[sample.item] = (
                    f"log-likelihood of choice {worst} is recorded as {recorded[worst]:.4f}, found {answer[worst][0]:.4f}"
                )
        same = len(recorded) == len(answer)
        stated.append(
            [[value, ours[1]] for value, ours in zip(recorded, answer, strict=True)] if same else list(answer)
        )
    values, scored = _values(prepared, samples, stated, circumstances)
    return _Answered(len(samples), f"log-likelihoods within {room:g} nats", wrong, values, scored)


def _texts(
    prepared: Prepared,
    samples: Sequence[Sample],
    answers: Sequence[Sequence[Any]],
    weights: Weights,
    circumstances: Circumstances,
    seed: int,
) -> _Answered:
    greedy = not prepared.settings.generation.get("do_sample", False)
    wrong: dict[str, str] = {}
    equal = texts = 0
    for request, sample, answer in zip(prepared.requests, samples, answers, strict=True):
        theirs = _recorded_texts(sample)
        ours = [str(one["text"]) for one in answer][: len(theirs)]
        texts += len(theirs)
        equal += sum(one == other for one, other in zip(theirs, ours, strict=False))
        if sample.prompt != request.prompt:
            wrong[sample.item] = "its prompt is not that of the task's data"
        elif greedy and theirs != ours and not _is_a_tie(prepared, request.prompt, sample, weights):
            wrong[sample.item] = f"recorded {theirs[0][:60]!r}, found {ours[0][:60]!r}"
    stated = [
        [
            {
                "text": text,
                "tokens": sample.detail.get("response_tokens", 0),
                "stopped": sample.detail.get("stopped", ""),
            }
            for text in _recorded_texts(sample)
        ]
        for sample in samples
    ]
    values, scored = _values(prepared, samples, stated, circumstances)
    if greedy:
        how = f"greedy texts, {equal} of {texts} word by word" + ("" if equal == texts else ", the others tied")
        return _Answered(len(samples), how, wrong, values, scored)
    means = _means(prepared, samples, answers, circumstances, seed)
    if weights.dtype == "float32" and equal < SAME_DRAWS * texts:
        said = f"only {equal} of {texts} sampled texts are those that the stated seed gives"
        means = {metric: "; ".join(filter(None, [said, means.get(metric)])) for metric in scored}
    how = f"sampled texts, {equal} of {texts} word by word, means not told apart"
    return _Answered(len(samples), how, wrong, values, scored, means)


def _values(
    prepared: Prepared, samples: Sequence[Sample], answers: Sequence[Sequence[Any]], circumstances: Circumstances
) -> tuple[dict[str, dict[str, str]], dict[str, int]]:
    """Values that the task's scorer does not make of these answers; and of how many items it makes each metric."""
    again = _scored(prepared, answers, circumstances)
    wrong: dict[str, dict[str, str]] = {}
    metrics = Counter(metric for sample in again for metric in sample.values)
    for sample, other in zip(samples, again, strict=True):
        for metric in metrics:
            stated, found = sample.values.get(metric), other.values.get(metric)
            if stated != found and not (stated is not None and found is not None and abs(stated - found) <= 1e-6):
                wrong.setdefault(metric, {})[sample.item] = (
                    f"its value is recorded as {stated}, its answer gives {found}"
                )
        for metric, weight in other.detail.get("weights", {}).items():
            if (found := sample.detail.get("weights", {}).get(metric, 1)) != weight:
                wrong.setdefault(metric, {})[sample.item] = (
                    f"it is recorded to count {found} times, its answer gives {weight}"
                )
        recorded = sample.detail.get(AGGREGATED, {})  # older samples have none
        for metric, given in other.detail.get(AGGREGATED, {}).items():
            if metric in recorded and not _alike(recorded[metric], given):
                wrong.setdefault(metric, {})[sample.item] = (
                    f"its aggregation is recorded to take {recorded[metric]}, its answer gives {given}"
                )
    return wrong, dict(metrics)


def _alike(one: Any, other: Any) -> bool:
    """Equal, numbers up to what rounding makes of them elsewhere."""
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_alike, one, other))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return abs(one - other) <= 1e-6
    return bool(one == other)


def _scored(prepared: Prepared, answers: Sequence[Sequence[Any]], circumstances: Circumstances) -> list[Sample]:
    """The items as the suite's scorer makes them, without a judge, which is in no release."""
    from evals.score_answers import Judges, score_answers

    with TemporaryDirectory() as scratch:
        given = [list(answer) for answer in answers]
        return score_answers(prepared, given, Judges(), None, Path(scratch), circumstances)[0]


def _means(
    prepared: Prepared,
    samples: Sequence[Sample],
    answers: Sequence[Sequence[Any]],
    circumstances: Circumstances,
    seed: int,
) -> dict[str, str]:
    """Metrics whose recorded values and those of our texts differ by more than chance, over the drawn items."""
    wrong = {}
    ours = _scored(prepared, answers, circumstances)
    for metric in sorted({metric for sample in ours for metric in sample.values}):
        pairs = [
            (stated, found)
            for sample, other in zip(samples, ours, strict=True)
            if (stated := sample.values.get(metric)) is not None and (found := other.values.get(metric)) is not None
        ]
        if pairs:
            test = paired_difference([one for one, _ in pairs], [other for _, other in pairs], seed=seed)
            if test.p_two_sided < CHANCE:
                wrong[metric] = f"our texts score {test.difference:+.3f} on average (p {test.p_two_sided:.2g})"
    return wrong


def _is_a_tie(prepared: Prepared, prompt: str, sample: Sample, weights: Weights) -> bool:
    """Whether a recorded greedy text is one that this model may write too: each token of it the likeliest, up to TIE,
    and its end as well. A text that was cut at a stop string does not say how it went on, so it is none."""
    import torch

    evaluated, stopped = weights.evaluated, sample.detail.get("stopped")
    special = not prepared.settings.chat_template and prepared.settings.bos != "none"  # as the texts were generated
    context = evaluated.prompt_ids(prompt, special)
    tokens = list(evaluated.tokenizer.encode(sample.response or "", add_special_tokens=False))
    if stopped not in ("end", "length") or (
        stopped == "length" and len(tokens) != sample.detail.get("response_tokens")
    ):
        return False
    with torch.inference_mode():
        logits = weights.model(torch.tensor([context + tokens], device=weights.device)).logits[0].float().cpu()
    likeliest = logits[len(context) - 1 :].max(dim=-1).values  # (tokens + 1,)
    places = torch.arange(len(tokens))
    chosen = logits[len(context) - 1 :][places, torch.tensor(tokens, dtype=torch.long)]  # (tokens,)
    gaps = (likeliest[:-1] - chosen).tolist()
    if stopped == "end":
        gaps.append(float(likeliest[-1] - logits[-1][evaluated.stop_tokens(prepared.settings.chat_template)].max()))
    return max(gaps, default=0.0) <= TIE.get(weights.dtype, TIE["float32"])


def _recorded_texts(sample: Sample) -> list[str]:
    responses = sample.detail.get("responses")
    return [str(one) for one in responses] if isinstance(responses, list) else [sample.response or ""]


def _judge(metric: str, task: str, answered: _Answered | str, problem: str | None, impossible: str | None) -> Rescored:
    """All that was found of a figure, as one outcome."""
    if isinstance(answered, str):
        outcome: Literal["does not hold", "not re-scored"] = "does not hold" if problem else "not re-scored"
        return Rescored(task=task, metric=metric, outcome=outcome, items=0, explanation=problem or answered)
    wrong = {**answered.values.get(metric, {}), **answered.answers}
    told = [f"item {item}: {what}" for item, what in list(wrong.items())[:SHOWN]]
    told += [f"and {len(wrong) - SHOWN} more items"] if len(wrong) > SHOWN else []
    told += [found for found in (answered.means.get(metric), problem) if found]
    if told:
        return Rescored(
            task=task,
            metric=metric,
            outcome="does not hold",
            items=answered.items,
            explanation="; ".join(told),
            wrong_items=sorted(wrong),
        )
    if metric not in answered.scored:
        why = "the answers hold, but the judge that valued them is not in the release"
        return Rescored(task=task, metric=metric, outcome="not re-scored", items=answered.items, explanation=why)
    if impossible:
        why = f"answers and values hold, but the figure was not made again: {impossible}"
        return Rescored(task=task, metric=metric, outcome="not re-scored", items=answered.items, explanation=why)
    items = answered.scored[metric]
    return Rescored(task=task, metric=metric, outcome="holds", items=items, explanation=answered.how)
