"""Win rate by votes: how often labellers preferred this checkpoint's answers to another's, beside what length alone explains.

    scored = score_votes(["org/name-votes"], digest, against=parent_digest, seed=0)
    scored.settings, scored.samples, scored.scores

The answers are those that were voted on, not those of the suite; votes name both checkpoints by digest. A win counts 1, a tie or
both bad 0.5; an item is a prompt, weighted by its votes. People's votes make `human_win_rate`. Those of rule-following labellers
(scripts) make `script_win_rate`, for they are nobody's judgement. Where conversations of several lengths were voted on, each
turn has a figure of its own beside the whole: `human_win_rate_turn_2` is of answers to a user's second question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from evals.length import beside_length
from evals.scorecard import Sample, Score, TaskSettings
from evals.statistics import estimate
from training.counted import counted
from training.errors import UsageError
from training.vote_checks import Rules, screen
from training.votes import Answer, Vote, labeller_mark, read_votes

TASK = "votes"
METRICS = {"person": "human_win_rate", "script": "script_win_rate"}


@dataclass(frozen=True)
class ScoredVotes:
    settings: TaskSettings
    samples: list[Sample]
    scores: list[Score]
    labellers: list[str]  # whose votes were counted, each by its mark, so that a deletion request finds the scorecard


def score_votes(sources: Sequence[str], digest: str, against: str | None, seed: int) -> ScoredVotes:
    """Votes that count, on pairs of this checkpoint's answer and another's (`against`, or any).

    Raises UsageError where there is no such vote.
    """
    read = read_votes(sources)
    kept, _ = screen(read.votes, read.forgotten, Rules())
    votes = [vote for vote in kept if vote.gold_id is None and _is_between(vote, digest, against)]
    if not votes:
        raise UsageError(
            "no vote that counts compares this checkpoint with " + (f"{against}" if against else "another"),
            where=", ".join(sources),
            expected=f"answers of {digest}",
            found=f"{counted(len(read.votes), 'vote')}, {len(kept)} of which count",
            next_step="collect votes on its answers: python -m training feedback-pairs",
        )
    prompts: dict[str, list[Vote]] = {}
    for vote in votes:
        prompts.setdefault(vote.prompt_id, []).append(vote)
    settings = TaskSettings(
        task=TASK,
        version="1",
        data_id=", ".join(sources),
        data_sha256=hashlib.sha256("".join(file.sha256 for file in read.files).encode()).hexdigest(),
        data_revision=next((file.revision for file in read.files if file.revision), None),
        chat_template=True,
        items=len(prompts),
    )
    turns = sorted({turn(vote) for vote in votes})
    samples = [_sample(name, own, digest, len(turns) > 1) for name, own in prompts.items()]
    scores = []
    for kind in METRICS:
        cast = [vote for vote in votes if vote.labeller_kind == kind]
        if cast:
            scores.append(_score(cast, kind, digest, against, seed))
        for number in turns if len(turns) > 1 else ():
            if of_turn := [vote for vote in cast if turn(vote) == number]:
                scores.append(_score(of_turn, kind, digest, against, seed, number))
    marks = sorted({labeller_mark(vote.labeller, digest) for vote in votes})
    return ScoredVotes(settings, samples, scores, marks)


def win(vote: Vote, digest: str) -> float:
    """1 where the vote prefers this checkpoint's answer, 0 where the other's, 0.5 for a tie and both bad."""
    if vote.choice not in ("a", "b"):
        return 0.5
    return float(_digest(vote.a if vote.choice == "a" else vote.b) == digest)


def turn(vote: Vote) -> int:
    """Which of the user's questions was answered: 1 for the first."""
    return sum(one.role == "user" for one in vote.prompt)


def _is_between(vote: Vote, digest: str, against: str | None) -> bool:
    """One side is this checkpoint's and the other is not: two samplings of one checkpoint are no comparison with another."""
    sides = [_digest(vote.a), _digest(vote.b)]
    if sides.count(digest) != 1:
        return False
    return against is None or against in sides


def _digest(answer: Answer) -> str | None:
    return answer.maker.digest if answer.maker else None


def _own(vote: Vote, digest: str) -> tuple[Answer, Answer]:
    """This checkpoint's answer, and the other's."""
    return (vote.a, vote.b) if _digest(vote.a) == digest else (vote.b, vote.a)


def _sample(name: str, votes: Sequence[Vote], digest: str, by_turn: bool) -> Sample:
    values: dict[str, float | None] = {}
    weights: dict[str, int] = {}
    for kind, metric in METRICS.items():
        wins = [win(vote, digest) for vote in votes if vote.labeller_kind == kind]
        if wins:
            values[metric] = sum(wins) / len(wins)
            weights[metric] = len(wins)
            if by_turn:
                of_turn = f"{metric}_turn_{turn(votes[0])}"
                values[of_turn], weights[of_turn] = values[metric], weights[metric]
    mine, other = _own(votes[0], digest)
    return Sample(
        item=name,
        prompt=votes[0].prompt[-1].content,
        response=mine.text,
        values=values,
        detail={"other_response": other.text, "weights": weights},
    )


def _score(
    votes: Sequence[Vote], kind: str, digest: str, against: str | None, seed: int, number: int | None = None
) -> Score:
    """The win rate of these votes; of one turn, where a number is given."""
    by_prompt: dict[str, list[float]] = {}
    for vote in votes:
        by_prompt.setdefault(vote.prompt_id, []).append(win(vote, digest))
    wins = [win(vote, digest) for vote in votes]
    longer = [float(len(mine.text) - len(other.text)) for mine, other in (_own(vote, digest) for vote in votes)]
    found = estimate(
        [sum(own) / len(own) for own in by_prompt.values()], seed=seed, weights=[len(own) for own in by_prompt.values()]
    )
    labellers = len({vote.labeller for vote in votes})
    names = {
        "person": f"{labellers} {'person' if labellers == 1 else 'people'}",
        "script": f"{labellers} rule-following {'labeller' if labellers == 1 else 'labellers'} (scripts, not people)",
    }
    prefer = f"{counted(len(votes), 'vote')} that {'prefers' if len(votes) == 1 else 'prefer'}"
    opponent = f"the checkpoint {against}" if against else "other checkpoints"
    return Score(
        task=TASK,
        metric=METRICS[kind] + (f"_turn_{number}" if number else ""),
        group="helpfulness",
        value=found.value,
        stderr=found.stderr,
        interval=found.interval,
        n=found.n,
        unscored=0,
        higher_is_better=True,
        headline=kind == "person" and number is None,
        scorer=names[kind],
        description=f"share of {prefer} this answer to that of {opponent}, ties and both bad half"
        + (f"; turn {number} only" if number else ""),
        baseline=beside_length(wins, longer),
        against=against,
    )
