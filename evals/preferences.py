"""The win rate by a judge that compares: this answer against the baseline's, in both orders, beside what length explains.

samples, figures = add_verdicts(samples, figures, judge, theirs, folder)

Ties count a half, a pair whose two verdicts cannot both be read has no value. Beside the win rate stand that of the longer answer,
the win rate at equal length (Dubois et al. 2024), how often both orders agree, and how often the answer that was read first won.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evals.endpoint_judge import EndpointJudge, Pair, Verdict
from evals.length import beside_length
from evals.scorecard import Sample
from evals.scoring import Figure
from evals.second_turn import earlier

METRIC = "judged_win_rate"
BOTH_ORDERS = "both orders agree"
READ_FIRST = "answer read first wins"
UNREADABLE = "pairs without a verdict"


def add_verdicts(
    samples: Sequence[Sample],
    figures: Sequence[Figure],
    prompts: Sequence[str],
    judge: EndpointJudge,
    theirs: Sequence[Sample],
    folder: Path,
    against: str = "",
) -> tuple[list[Sample], list[Figure]]:
    """The samples with each item's win, and the figures with the win rate. The sequences are of the same items in one order."""
    pairs = [
        Pair(prompt, mine.response or "", other.response or "", _first_turn(mine, other))
        for prompt, mine, other in zip(prompts, samples, theirs, strict=True)
    ]
    verdicts = judge.verdicts(pairs, folder)
    judged = [
        sample.model_copy(
            update={
                "values": {**sample.values, METRIC: verdict.win},
                "detail": {
                    **sample.detail,
                    "parent_response": other.response,
                    "verdict_read_first": verdict.read_first,
                    "verdict_read_second": verdict.read_second,
                },
            }
        )
        for sample, other, verdict in zip(samples, theirs, verdicts, strict=True)
    ]
    longer = [
        float(len(mine.response or "") - len(other.response or ""))  # in characters, as AlpacaEval counts it
        for mine, other in zip(samples, theirs, strict=True)
    ]
    return judged, [*figures, _figure(judge.scorer(any(pair.first for pair in pairs)), verdicts, longer, against)]


def _first_turn(mine: Sample, other: Sample) -> tuple[str, str, str] | None:
    """The first question of a conversation and both answers to it; None where this is the first turn."""
    own, others = earlier(mine), earlier(other)
    return (own[0][0], own[0][1], others[0][1]) if own else None


def _figure(judge: str, verdicts: Sequence[Verdict], longer: Sequence[float], against: str) -> Figure:
    read = [(verdict, d) for verdict, d in zip(verdicts, longer, strict=True) if verdict.win is not None]
    beside = {UNREADABLE: 1 - len(read) / len(verdicts)}
    if read:
        wins = [verdict.win or 0.0 for verdict, _ in read]
        beside |= beside_length(wins, [d for _, d in read])
        beside[BOTH_ORDERS] = sum(verdict.agrees for verdict, _ in read) / len(read)
        first = [
            {"A": 1.0, "B": 0.0, "tie": 0.5}[side] for v, _ in read for side in (v.read_first, v.read_second) if side
        ]
        beside[READ_FIRST] = sum(first) / len(first)
    return Figure(
        METRIC,
        higher_is_better=True,
        scorer=", ".join(part for part in (judge, against) if part),
        description="share of prompts where the judge prefers this answer to the baseline's, asked in both orders, ties half",
        baseline=beside,
    )
