"""Who judged a figure, and against what: a win rate is worth what its judge is, least where the model was trained to please it."""

from __future__ import annotations

from collections.abc import Sequence

from evals.presentation import figure, short_digest, short_digests
from evals.scorecard import Score
from model_cards.facts import Facts

AT_EQUAL_LENGTH = "win rate at equal length"


def judged(score: Score, facts: Facts) -> str | None:
    """In words, of a score against others' answers; None of any other."""
    if score.against is None or score.scorer is None:
        return None
    base = facts.base
    others = (
        "the parent's answers"
        if base and base.digest == score.against
        else f"answers of `{short_digest(score.against)}`"
    )
    own = ", **the one that it was trained against**" if _trained_against(score, facts) else ""
    return f"`{score.task}/{score.metric}`: against {others}, judged by {short_digests(score.scorer)}{own}."


def circular(scores: Sequence[Score], facts: Facts) -> list[str]:
    """A limit for each score whose judge is the reward model that the model was trained against."""
    found = []
    for score in scores:
        if _trained_against(score, facts):
            equal = score.baseline.get(AT_EQUAL_LENGTH)
            beside = f"; at equal length it is {figure(equal, score.unit)}" if equal is not None else ""
            found.append(
                f"`{score.task}/{score.metric}` was judged by the reward model that it was trained against, so this figure rises "
                f"whether its answers get better or only please that model{beside}."
            )
    return found


def _trained_against(score: Score, facts: Facts) -> bool:
    rewards = {parent.digest for parent in facts.run.parents if parent.role == "reward_model"} if facts.run else set()
    return score.scorer is not None and any(digest in score.scorer for digest in rewards)
