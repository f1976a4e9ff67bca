"""What votes say, and how far they can be trusted: the analysis as a closed record, and the same as markdown for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from pydantic import Field

from training.agreement import Agreement, agreement, nominal, ordinal
from training.counted import counted
from training.ratings import RIDGE, Comparison, rate
from training.records import Record
from training.vote_checks import Exclusion, by_labeller, gold_result, position_bias
from training.vote_preferences import pairs_of
from training.votes import Vote

VERDICTS = ("first", "second", "tie", "both_bad")
SCALE = ("first", "between", "second")  # the ordinal reading: a tie and both bad lie between
SHOWN_HASH = 12  # characters of a labeller's hash by which a report names it


class AlphaFigure(Record):
    """Krippendorff's alpha with its 95% interval; None where it is not defined."""

    alpha: float | None
    low: float | None
    high: float | None
    units: int
    values: int


class LabellerFigure(Record):
    labeller: str
    kind: str
    votes: int
    with_the_others: AlphaFigure  # against the most frequent verdict of the others
    gold_right: int
    gold: int
    a: int
    b: int
    side_p: float | None
    median_seconds: float | None


class GoldFigure(Record):
    gold_id: str
    right: int
    of: int


class RatingFigure(Record):
    system: str
    strength: float
    low: float
    high: float
    elo: float
    wins: float
    comparisons: int


class SideFigure(Record):
    a: int
    b: int
    p: float


class Report(Record):
    """The analysis of the votes that count."""

    schema_version: int = 1
    votes: int
    gold_votes: int
    cut_votes: int = 0  # on pairs of which an answer was cut at its longest
    # On two answers of one system, which rate nothing. Left out of the JSON where there are none, which then stays as it was.
    same_system_votes: int = Field(default=0, exclude_if=lambda votes: not votes)
    pairs: int
    prompts: int
    people: int
    scripts: int
    choices: dict[str, int]
    nominal: AlphaFigure
    ordinal: AlphaFigure
    gold_agreement: AlphaFigure
    labellers: list[LabellerFigure]
    gold: list[GoldFigure]
    sides: SideFigure | None
    ratings: list[RatingFigure]
    why_excluded: dict[str, int]


def analyse(votes: Sequence[Vote], exclusions: Sequence[Exclusion], seed: int) -> Report:
    """The report on votes that count, beside what was excluded."""
    pairs = pairs_of(votes)
    gold: dict[str, list[Vote]] = {}
    for vote in votes:
        if vote.gold_id is not None:
            gold.setdefault(vote.gold_id, []).append(vote)
    real = [vote for own in pairs.values() for vote in own]
    sides = position_bias(votes)
    kinds = {vote.labeller: vote.labeller_kind for vote in votes}
    return Report(
        votes=len(real),
        gold_votes=len(votes) - len(real),
        cut_votes=sum(bool(vote.a.cut or vote.b.cut) for vote in real),
        same_system_votes=sum(vote.a.same_system(vote.b) for vote in real),
        pairs=len(pairs),
        prompts=len({vote.prompt_id for vote in real}),
        people=sum(kind == "person" for kind in kinds.values()),
        scripts=sum(kind == "script" for kind in kinds.values()),
        choices=dict(sorted(Counter(vote.choice for vote in real).items())),
        nominal=_figure(agreement([[v.verdict for v in own] for own in pairs.values()], nominal, VERDICTS, seed)),
        ordinal=_figure(agreement([[_rank(v) for v in own] for own in pairs.values()], ordinal, SCALE, seed)),
        gold_agreement=_figure(agreement([[v.verdict for v in own] for own in gold.values()], nominal, VERDICTS, seed)),
        labellers=[_labeller(name, own, pairs, seed) for name, own in sorted(by_labeller(votes).items())],
        gold=[
            GoldFigure(gold_id=name, right=gold_result(own).right, of=len(own)) for name, own in sorted(gold.items())
        ],
        sides=SideFigure(**asdict(sides)) if sides else None,
        ratings=[RatingFigure(**asdict(rating)) for rating in rate(comparisons(real), seed)],
        why_excluded=dict(sorted(Counter(exclusion.reason for exclusion in exclusions).items())),
    )


def _cut(report: Report) -> list[str]:
    if not report.cut_votes:
        return []
    votes = "1 vote is" if report.cut_votes == 1 else f"{report.cut_votes} votes are"
    return ["", f"{votes} on pairs of which an answer was cut at its longest: they may judge the cut."]


def comparisons(votes: Sequence[Vote]) -> list[Comparison]:
    """Votes as comparisons of systems; a tie and both bad are half a win each. Two answers of one system compare nothing."""
    scores = {0: 1.0, 1: 0.0, None: 0.5}
    return [
        Comparison(vote.ordered[0].system, vote.ordered[1].system, scores[vote.preferred], vote.prompt_id)
        for vote in votes
        if not vote.a.same_system(vote.b)
    ]


def _rank(vote: Vote) -> str:
    return vote.verdict if vote.preferred is not None else "between"


def _figure(value: Agreement) -> AlphaFigure:
    return AlphaFigure(**asdict(value))


def _labeller(name: str, own: Sequence[Vote], pairs: dict[str, list[Vote]], seed: int) -> LabellerFigure:
    units = []
    for vote in own:
        others = Counter(v.verdict for v in pairs.get(vote.pair_id, []) if v.labeller != name)
        ranked = others.most_common(2)
        if ranked and (len(ranked) == 1 or ranked[0][1] > ranked[1][1]):
            units.append([vote.verdict, ranked[0][0]])
    sides, gold = position_bias(own), gold_result(own)
    seconds = sorted(vote.decision_seconds for vote in own if vote.decision_seconds is not None)
    return LabellerFigure(
        labeller=name,
        kind=own[0].labeller_kind,
        votes=len(own),
        with_the_others=_figure(agreement(units, nominal, VERDICTS, seed)),
        gold_right=gold.right,
        gold=gold.of,
        a=sides.a if sides else 0,
        b=sides.b if sides else 0,
        side_p=sides.p if sides else None,
        median_seconds=seconds[len(seconds) // 2] if seconds else None,
    )


def markdown(report: Report, inputs: Sequence[str]) -> str:
    """The report for people."""
    lines = [
        "# Feedback",
        "",
        f"{counted(report.votes, 'vote')} on {counted(report.pairs, 'pair')} of answers to {counted(report.prompts, 'prompt')}, "
        f"and {counted(report.gold_votes, 'vote')} on gold items, by {who_voted(report.people, report.scripts)}. Choices: "
        + (", ".join(f"{name} {count}" for name, count in report.choices.items()) or "none")
        + ".",
        *_cut(report),
        "",
        "Read from " + ", ".join(f"`{name}`" for name in inputs) + ".",
        "",
        "## Agreement",
        "",
        "Krippendorff's alpha: 1 is perfect agreement, 0 what chance gives. Intervals are 95%, by bootstrap over pairs.",
        "",
        "| of | alpha | interval | units | values |",
        "|---|---|---|---|---|",
        _alpha_row("first, second, tie, both bad (nominal)", report.nominal),
        _alpha_row("first < tie or both bad < second (ordinal)", report.ordinal),
        _alpha_row("gold items (nominal)", report.gold_agreement),
        "",
        *_why_no_alpha(report.nominal),
        "| labeller | kind | votes | alpha with the others | gold right | A : B | p of the sides | median seconds |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {one.labeller[:SHOWN_HASH]} | {one.kind} | {one.votes} | {_number(one.with_the_others.alpha)} | "
            f"{one.gold_right} of {one.gold} | {one.a} : {one.b} | {_number(one.side_p)} | {_number(one.median_seconds)} |"
            for one in report.labellers
        ),
        "",
    ]
    if report.gold:
        lines += ["| gold item | as known |", "|---|---|"]
        lines += [f"| {one.gold_id} | {one.right} of {one.of} |" for one in report.gold]
        lines.append("")
    if report.sides:
        lines += [
            f"Sides: A was chosen {counted(report.sides.a, 'time')} and B {counted(report.sides.b, 'time')}; "
            f"p = {report.sides.p:.3f} if sides did not matter (two-sided binomial test).",
            "",
        ]
    lines += ["## Ratings", ""]
    if report.ratings:
        lines += [
            "Bradley-Terry strengths in log-odds, ties half, summing to 0, shrunk by a normal prior of variance "
            f"{1 / RIDGE:g}; intervals are 95%, by bootstrap over prompts.",
            "",
            "| who answered | strength | interval | Elo points | wins | of |",
            "|---|---|---|---|---|---|",
            *(
                f"| {one.system} | {one.strength:+.3f} | {one.low:+.3f} to {one.high:+.3f} | {one.elo:+.0f} | {one.wins:g} | "
                f"{one.comparisons} |"
                for one in report.ratings
            ),
        ]
    else:
        lines.append("No two models, or samplings of one, were compared.")
    if report.same_system_votes:
        on = f"{counted(report.same_system_votes, 'vote')} on two answers of one system"
        lines += [
            "",
            f"Left out here: {on}, a win of which is one over itself. They count in agreement and as data to learn from.",
        ]
    lines += ["", "## Votes that do not count", ""]
    if report.why_excluded:
        lines += ["| reason | votes |", "|---|---|"]
        lines += [f"| {reason} | {count} |" for reason, count in report.why_excluded.items()]
        lines += ["", "Each of them is in `exclusions.jsonl`."]
    else:
        lines.append("All votes count.")
    return "\n".join(lines) + "\n"


def who_voted(people: int, scripts: int) -> str:
    """How many labellers there were, and what they are; a script is never counted among people."""
    parts = [f"{people} {'person' if people == 1 else 'people'}"] if people else []
    if scripts:
        parts.append(f"{scripts} rule-following {'labeller' if scripts == 1 else 'labellers'} (scripts, not people)")
    return " and ".join(parts) or "nobody"


def _alpha_row(name: str, figure: AlphaFigure) -> str:
    interval = "" if figure.low is None else f"{figure.low:.3f} to {figure.high:.3f}"
    return f"| {name} | {_number(figure.alpha)} | {interval} | {figure.units} | {figure.values} |"


def _why_no_alpha(figure: AlphaFigure) -> list[str]:
    """Agreement needs two labellers of a pair, and verdicts that could have differed."""
    if figure.alpha is not None:
        return []
    why = (
        "all verdicts are equal, so chance would agree as well" if figure.units else "no two labellers judged one pair"
    )
    return [f"Alpha is not defined: {why}.", ""]


def _number(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
