"""Which votes count, and why the others do not: repeats, caps, gold items, speed, one side only; pure functions.

    kept, exclusions = screen(votes, forgotten, Rules())
    position_bias(kept)

Rules look at a labeller's whole record before any vote is dropped by them, so the order of the votes does not matter to who is
excluded. Every vote that is dropped is named with one reason, the first that applies.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import Field

from training.records import Record
from training.votes import Vote


class Rules(Record):
    """What makes a vote or a labeller count."""

    cap: int = Field(default=500, gt=0)  # votes of one labeller
    gold_accuracy: float = Field(default=0.7, ge=0.0, le=1.0)  # the least share of gold items answered as known
    gold_fewest: int = Field(default=3, gt=0)  # gold items before a labeller is judged by them
    min_seconds: float = Field(default=2.0, ge=0.0)  # a person who decides faster has not read both answers
    one_side_p: float = Field(default=0.001, gt=0.0, lt=1.0)  # two-sided binomial test of a labeller's sides


@dataclass(frozen=True)
class Exclusion:
    """A vote that does not count, and why."""

    vote_id: str
    labeller: str
    reason: str


@dataclass(frozen=True)
class SideTest:
    """How often the left answer (A) was chosen among decided votes, and how likely that is if sides do not matter."""

    a: int
    b: int
    p: float


@dataclass(frozen=True)
class GoldResult:
    right: int
    of: int

    @property
    def accuracy(self) -> float | None:
        return self.right / self.of if self.of else None


def screen(votes: Sequence[Vote], forgotten: set[str], rules: Rules) -> tuple[list[Vote], list[Exclusion]]:
    """The votes that count, by time, and the others with their reasons."""
    kept: list[Vote] = []
    dropped: list[Exclusion] = []
    seen_ids: set[str] = set()
    seen_pairs: set[tuple[str, str]] = set()
    for vote in sorted(votes, key=lambda vote: (vote.voted_at, vote.vote_id)):
        at = (vote.labeller, vote.pair_id)
        reason = None
        if vote.labeller in forgotten:
            reason = "deletion request of the labeller"
        elif vote.vote_id in seen_ids:
            reason = "repeat of a vote by its id"
        elif vote.consent is None:
            reason = "no consent"
        elif vote.a.text == vote.b.text:
            reason = "both answers are the same"
        elif at in seen_pairs:
            reason = "second vote of this labeller on this pair"
        if reason is None:
            seen_ids.add(vote.vote_id)
            seen_pairs.add(at)
            kept.append(vote)
        else:
            dropped.append(Exclusion(vote.vote_id, vote.labeller, reason))
    unfit = unfit_labellers(kept, rules)
    counted: dict[str, int] = defaultdict(int)
    rest: list[Vote] = []
    for vote in kept:
        reason = unfit.get(vote.labeller)
        if reason is None and is_hasty(vote, rules):
            reason = f"decided in less than {rules.min_seconds:g} s"
        if reason is None:
            counted[vote.labeller] += 1
            if counted[vote.labeller] > rules.cap:
                reason = f"beyond {rules.cap} votes of one labeller"
        if reason is None:
            rest.append(vote)
        else:
            dropped.append(Exclusion(vote.vote_id, vote.labeller, reason))
    return rest, dropped


def unfit_labellers(votes: Sequence[Vote], rules: Rules) -> dict[str, str]:
    """The labellers none of whose votes count, each with its reason."""
    found: dict[str, str] = {}
    for labeller, own in by_labeller(votes).items():
        gold = gold_result(own)
        sides = position_bias(own)
        people = [vote for vote in own if vote.decision_seconds is not None and vote.labeller_kind == "person"]
        hasty = sum(is_hasty(vote, rules) for vote in people)
        if gold.accuracy is not None and gold.of >= rules.gold_fewest and gold.accuracy < rules.gold_accuracy:
            found[labeller] = f"the labeller failed gold items: {gold.right} of {gold.of} right"
        elif sides is not None and sides.p < rules.one_side_p:
            found[labeller] = f"the labeller picks one side: A {sides.a}, B {sides.b} times (p {sides.p:.1g})"
        elif len(people) >= 4 and hasty > len(people) / 2:
            found[labeller] = (
                f"the labeller does not read: {hasty} of {len(people)} votes faster than {rules.min_seconds:g} s"
            )
    return found


def is_hasty(vote: Vote, rules: Rules) -> bool:
    """Whether a person decided faster than reading allows. A script is as fast as it is."""
    return (
        vote.labeller_kind == "person"
        and vote.decision_seconds is not None
        and vote.decision_seconds < rules.min_seconds
    )


def position_bias(votes: Sequence[Vote]) -> SideTest | None:
    """Two-sided binomial test of A against B over decided votes; None where nothing was decided.

    Sides were drawn at random, so without a bias towards one of them each is chosen half of the time.
    """
    from scipy.stats import binomtest

    a = sum(vote.choice == "a" for vote in votes)
    b = sum(vote.choice == "b" for vote in votes)
    return SideTest(a, b, float(binomtest(a, a + b).pvalue)) if a + b else None


def gold_result(votes: Sequence[Vote]) -> GoldResult:
    """How many of the votes on gold items are as known."""
    gold = [vote for vote in votes if vote.gold_choice is not None]
    return GoldResult(sum(vote.choice == vote.gold_choice for vote in gold), len(gold))


def by_labeller(votes: Sequence[Vote]) -> dict[str, list[Vote]]:
    """The votes of each labeller, in their order."""
    groups: dict[str, list[Vote]] = {}
    for vote in votes:
        groups.setdefault(vote.labeller, []).append(vote)
    return groups
