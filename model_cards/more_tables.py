"""Tables of a card beside that of the headline scores: the alignment tax, toxicity by scorer and framing, and the judges.

Made here from scorecards when a card is written, and again when it is checked. Lines of markdown; none where there is nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from evals.alignment_tax import tax_rows
from evals.compare import Comparison
from evals.presentation import between, markdown_text, short_digests
from evals.scorecard import Score, Scorecard
from evals.text_scorer import MAXIMUM, MEAN, PROBABILITY
from evals.toxicity import TOLD
from model_cards.score_table import MARKS, arrow, comparable_score, signed, told

TAX = ("<!-- tax:begin -->", "<!-- tax:end -->")
TOXICITY = ("<!-- toxicity:begin -->", "<!-- toxicity:end -->")
# What each task of a family says before the same prompts (Ouyang et al. 2022, appendix D); the card names the framing so.
FRAMINGS = {
    "basic": "no instruction before the prompt",
    "respectful": "an instruction to be polite, respectful and unbiased",
    "biased": "an instruction to be maximally biased and offensive",
}
LONGEST = 12  # rows of toxicity that a reader is shown at once
ALL = "all"  # kinds of prompt
AT_MOST = 4  # metrics of a judge that are named; more of them are counted


def tax_lines(card: Scorecard, parent: Scorecard | None, compared: Comparison | None) -> list[str]:
    """The paired change on tasks that alignment was not for, with its interval, corrected over these rows alone."""
    if compared is None or parent is None:
        return []
    lines = []
    for row in tax_rows(compared, card):
        ours = card.score(row.task, row.metric)
        theirs = comparable_score(card, parent, ours)
        ends = between(row.interval, lambda end, unit=ours.unit: signed(end, unit).removesuffix(" pp"))  # type: ignore[misc]
        change = f"{MARKS[row.verdict]} {signed(row.difference, ours.unit)} {ends}"
        name = f"`{row.task}/{row.metric}` {arrow(ours)}"
        lines.append(f"| {name} | {told(theirs) if theirs else '–'} | {told(ours)} | {change} | {row.n} |")
    return ["| Task | Parent | This model | Change | Items |", "|---|---|---|---|---|", *lines] if lines else []


def tax_sentence(card: Scorecard, compared: Comparison | None) -> str:
    """What the tax comes to."""
    rows = tax_rows(compared, card) if compared else []
    worse = [f"`{row.task}/{row.metric}`" for row in rows if row.verdict == "worse"]
    if worse:
        return f"Alignment cost something on {', '.join(worse)}: significantly worse than the parent."
    return "No figure here is significantly worse than the parent's."


def toxicity_lines(card: Scorecard, parent: Scorecard | None) -> list[str]:
    """The lines of both tables of toxicity."""
    return [line for table in toxicity_tables(card, parent) for line in table]


def toxicity_tables(card: Scorecard, parent: Scorecard | None) -> tuple[list[str], list[str]]:
    """A row for each framing or task, kind of prompt and scorer; nothing where there is but one row.

    Of more than LONGEST rows those of the kinds of prompt are the second table, which a card folds.
    """
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for score in card.scores:
        what, kind = _toxicity_of(score)
        if what not in (MAXIMUM, PROBABILITY) or score.scorer is None:
            continue
        cells = rows.setdefault((score.task, kind, short_digests(score.scorer)), {})
        cells[what] = f"**{told(score)}**".replace(" [", "** [", 1).removesuffix("**")
        theirs = comparable_score(card, parent, score)
        cells[f"{what} of the parent"] = told(theirs) if theirs else "–"
    if len(rows) < 2:
        return [], []
    scorers = sorted({scorer for _, _, scorer in rows})
    several = len(scorers) > 1
    heads = ["Prompts", *(["Scorer"] if several else []), "Expected maximum", "Parent", "Probability", "Parent"]
    head = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    first: list[str] = []
    second: list[str] = []
    for (task, kind, scorer), cells in sorted(rows.items(), key=lambda row: _place(row[0])):
        who = [markdown_text(scorer)] if several else []
        figures = [cells.get(name, "–") for what in (MAXIMUM, PROBABILITY) for name in (what, f"{what} of the parent")]
        table = first if kind == ALL or len(rows) <= LONGEST else second
        table.append("| " + " | ".join([f"{_framing(task)}, {markdown_text(kind)}", *who, *figures]) + " |")
    below = [] if several else ["", f"Scorer: {markdown_text(scorers[0])}."]
    return [*head, *first, *below], [*head, *second] if second else []


def judge_lines(card: Scorecard) -> list[str]:
    """Who judged what: a row for each scorer, its figures by task."""
    judged: dict[str, dict[str, list[str]]] = {}
    for score in card.scores:
        if score.scorer is not None:
            judged.setdefault(score.scorer, {}).setdefault(score.task, []).append(score.metric)
    if not judged:
        return []
    rows = [
        f"| {markdown_text(short_digests(scorer))} | {'; '.join(_metrics(task, found) for task, found in tasks.items())} |"
        for scorer, tasks in sorted(judged.items())
    ]
    return ["| Judge | Figures |", "|---|---|", *rows]


def _metrics(task: str, metrics: Sequence[str]) -> str:
    named = sorted(metrics, key=lambda name: (len(name), name))[:AT_MOST]
    more = f" and {len(metrics) - len(named)} more" if len(metrics) > len(named) else ""
    return f"`{task}`: {', '.join(f'`{name}`' for name in named)}{more}"


def _toxicity_of(score: Score) -> tuple[str | None, str]:
    """Which of a scorer's three figures it is, and of which prompts; None where it is none of them."""
    figure, _, of = score.description.partition("; ")
    for what in (MAXIMUM, PROBABILITY, MEAN):
        if re.fullmatch(re.escape(TOLD[what]).replace(r"\{k\}", r"\d+"), figure):
            return what, of.partition(" ")[2].removesuffix(" only").removeprefix("prompt_kind ") or ALL
    return None, ""


def _framing(task: str) -> str:
    stem, _, last = task.rpartition("_")
    return f"`{task}`: {FRAMINGS[last]}" if stem and last in FRAMINGS else f"`{task}`"


def _place(row: tuple[str, str, str]) -> tuple[str, int, str, bool, str]:
    """By family, framing as InstructGPT orders them, scorer, and all prompts before each kind of them."""
    task, kind, scorer = row
    stem, _, last = task.rpartition("_")
    framed = list(FRAMINGS).index(last) if last in FRAMINGS else -1
    return stem if framed >= 0 else task, framed, scorer, kind != ALL, kind
