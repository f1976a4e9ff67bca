"""Figures that stand in a card's sentences and that nothing of its run gives: typed in, or left from another run.

    unrecorded(Path("runs/ppo/bundle/README.md"), Path("runs/ppo"))      # [Problem("prose", "97.0% in ...", "line 31"), ...]

Tables are held against records figure by figure (model_cards/check.py). A sentence may be anybody's, so its figures are looked for
among all that the card of these records says. What the authors of a checkpoint say of it is theirs, and code is no sentence.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from model_cards import examples, expenses, policy_shown, prompt_shown
from model_cards.author import BEGIN, END
from model_cards.card import render_card
from model_cards.check import HEAD, Problem, read_card

# Held elsewhere, or quoted: not sentences of the card. From the first to the last mark of each, whatever stands between.
SET_APART = (
    (BEGIN, END),
    (examples.BEGIN, examples.END),
    (expenses.BEGIN, expenses.END),
    prompt_shown.MARKERS,
    policy_shown.MARKERS,
    ("```", "```"),
)
# A share, a number with decimals, or a whole one that counts something; no version, date, or part of a name.
COUNTED = r"%|percent\b|per cent\b|points?\b|pp\b|times\b|x\b"
FIGURE = re.compile(
    rf"(?<![\w.,/:+-])[-+−]?(?:\d[\d,]*(?:\.\d+)?(?=\s?(?:{COUNTED}))|\d[\d,]*\.\d+(?![\w-]|\.\d))", re.IGNORECASE
)
NUMBER = re.compile(r"(?<![\w.,:/+-])[-+−]?\d[\d,]*(?:\.\d+)?(?![\w-])")  # no digits of a hash, a date or a name


def unrecorded(readme: Path, run: Path) -> list[Problem]:
    """Figures of the card's sentences that the card of the run's records does not have, one for each line that holds some.

    Raises UsageError where no card can be made of the run.
    """
    ours = render_card(run, repo_id="owner/name", tag="v1.0.0").readme
    same = set(ours.splitlines())
    known = {_plain(number) for number in NUMBER.findall(ours + _waivers(readme.parent / "plan.json"))}
    problems = []
    for number, line in enumerate(_sentences(read_card(readme)).splitlines(), start=1):
        typed = [] if line in same else [one for one in FIGURE.findall(_shown(line)) if _plain(one) not in known]
        if typed:
            what = f"{', '.join(typed)}: no record gives this figure; the card says: {line.strip()[:200]}"
            problems.append(Problem("prose", what, f"line {number}"))
    return problems


def _sentences(card: str) -> str:
    """The card with everything that is no sentence of ours emptied, line by line, so that lines keep their numbers."""
    text = HEAD.sub(lambda head: _emptied(head.group()), card, count=1)
    for begin, end in SET_APART:
        apart = re.compile(rf"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
        text = apart.sub(lambda found: _emptied(found.group()), text)
    return text


def _emptied(text: str) -> str:
    return "\n" * text.count("\n")


def _shown(line: str) -> str:
    """A line without its code spans, addresses and entities, which are names."""
    return re.sub(r"`[^`]*`|\]\([^)]*\)|https?://\S+|&#\d+;", " ", line)


def _plain(number: str) -> float:
    """45.0, 45 and +45 are one figure."""
    return float(number.lstrip("+-−").replace(",", ""))


def _waivers(plan: Path) -> str:
    """The reasons for waivers, which are the publisher's own words and stand on the card as such."""
    try:
        waivers = json.loads(plan.read_text(encoding="utf-8")).get("waivers", {}) if plan.is_file() else {}
    except (ValueError, AttributeError):
        return ""  # the plan is another's to judge
    return " ".join(map(str, waivers.values())) if isinstance(waivers, dict) else ""
