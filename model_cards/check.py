"""Is a card still true, and fit to be published? Numbers, metadata, paths, sections and links, held against the files.

problems = check_card(Path("runs/ppo"))        # or a README.md; [] where nothing is wrong
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from os.path import normpath
from pathlib import Path
from typing import Any

import yaml

from evals.compare import Comparison
from evals.scorecard import Scorecard
from model_cards import beside, examples, expenses, more_tables, prompt_shown, score_table
from model_cards.author import (
    BEGIN,
    NOTE,
    author_part,
    mark_of,
    note,
    read_author_card,
    without_author,
    words_of_authors,
)
from model_cards.differences import as_once_written, comparison_with_parent, paired_differences
from model_cards.facts import HUB_ID, LOCAL_PATH, Facts, read_facts
from model_cards.hub_vocabulary import LICENSES, TASKS
from model_cards.page_parts import headings
from model_cards.score_table import score_rows
from training.errors import UsageError

# What a card must speak of, by our own heading, and the words by which a heading of any other card is known to do so.
SECTIONS = {
    "Scores": r"scores?|evaluations?|benchmarks?|performance|results",
    "Intended use and limits": r"intended|uses|limits|limitations?|risks",
    "How to use it": r"how to use|usage|quick ?start|get(ting)? started|inference|sample code",
    "How it was trained": r"trained|training",
    "How to verify it": r"verif\w*",
    "Citation": r"citation|cite|citing|bibtex",
}
HEAD = re.compile(r"\A---\r?\n(.*?)\r?\n---\r?\n", re.DOTALL)
NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?")
LINK = re.compile(r"\]\(([^)\s]+)\)")
FENCED = re.compile(r"^(`{3,})[^\n]*\n.*?^\1\s*$", re.DOTALL | re.MULTILINE)
PREVIEW = "bundle-preview"


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a card: which check found it, what is wrong, and where."""

    check: str  # metadata | numbers | digest | sections | links | paths | author
    what: str
    where: str

    def as_dict(self) -> dict[str, str]:
        return asdict(self)


def check_card(run_or_card: Path) -> list[Problem]:
    """Everything that is wrong with the card of a run directory (its bundle, else its preview) or with a README.md.

    The figures are held against the records of the run, or of the bundle that the card lies in. Raises UsageError where
    there is no card, or where the run's own files contradict each other.
    """
    readme = find_card(run_or_card)
    text = read_card(readme)
    run = _run_of(readme)
    facts = read_facts(run) if run is not None else None
    problems = metadata_problems(text) + _license_problems(text, facts) + _section_problems(text) + _path_problems(text)
    problems += _link_problems(text, readme.parent, run)
    problems += _number_problems(without_author(text), run, facts)
    problems += _author_problems(text, readme.parent.parent / "checkpoint" / "README.md")
    return problems


def read_card(readme: Path) -> str:
    """The text of a card. Raises UsageError where it is not UTF-8."""
    try:
        return readme.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        line = readme.read_bytes()[: error.start].count(b"\n") + 1
        raise UsageError(
            "the card is no text in UTF-8",
            where=f"{readme}, line {line}",
            expected="UTF-8, as the Hub reads it",
            found=str(error.reason),
            next_step="save it as UTF-8",
        ) from error


def find_card(run_or_card: Path) -> Path:
    """The README.md meant. Raises UsageError where there is none."""
    if run_or_card.is_file():
        return run_or_card
    for place in (run_or_card / "bundle", run_or_card / PREVIEW, run_or_card):
        if (place / "README.md").is_file():
            return place / "README.md"
    raise UsageError(
        "there is no card here",
        where=str(run_or_card),
        expected="bundle/README.md, bundle-preview/README.md or README.md",
        next_step=f"python -m model_cards render {run_or_card} --repo ORG/NAME --tag v1.0.0",
    )


def metadata_problems(text: str) -> list[Problem]:
    """What the Hub would refuse, or read wrongly, in the block between the `---` lines."""
    head = HEAD.match(text)
    if head is None:
        return [Problem("metadata", "there is no YAML block between --- lines at the top", "line 1")]
    try:
        data = yaml.safe_load(head.group(1))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return [Problem("metadata", f"not valid YAML: {error}", f"line {mark.line + 2}" if mark else "the YAML block")]
    if not isinstance(data, dict):
        return [Problem("metadata", "the YAML block is no mapping", "line 1")]
    odd = [key for key in data if not isinstance(key, str)]
    if odd:
        return [Problem("metadata", f"the key {odd[0]!r} is no text", "the YAML block")]
    return [Problem("metadata", what, key) for key, what in _wrong_values(data)]


def _license_problems(text: str, facts: Facts | None) -> list[Problem]:
    """A card without a license, where no record is there for the gates on licences to look at."""
    head = HEAD.match(text)
    if (facts and facts.run) or head is None or re.search(r"^license\s*:", head.group(1), re.MULTILINE):
        return []
    return [Problem("metadata", "there is no license, so nobody may use it", "license")]


def _wrong_values(data: dict[str, Any]) -> list[tuple[str, str]]:
    wrong: list[tuple[str, str]] = []
    for key in ("base_model", "datasets"):
        for value in _as_list(data.get(key)):
            if not isinstance(value, str) or not HUB_ID.match(value):
                wrong.append((key, f"{value!r} is not an id of the Hub (org/name)"))
    for value in _as_list(data.get("license")):
        if value not in LICENSES:
            wrong.append(("license", f"{value!r} is not on the Hub's list; write other, with license_name"))
    if data.get("license") == "other" and not data.get("license_name"):
        wrong.append(("license_name", "the license is other, so it needs a name"))
    for value in _as_list(data.get("language")):
        if not isinstance(value, str) or not re.fullmatch(r"[a-z]{2,3}|code|multilingual", value):
            wrong.append(("language", f"{value!r} is not an ISO 639 code"))
    for key in ("licence", "base_models", "dataset"):
        if key in data:
            wrong.append((key, "the Hub does not read this key"))
    task = data.get("pipeline_tag")  # without it the Hub takes what the config tells
    if task and task not in TASKS:
        wrong.append(("pipeline_tag", f"{task!r} is none of the Hub's tasks"))
    return wrong + [("model-index", what) for what in _wrong_index(data)]


def _wrong_index(data: dict[str, Any]) -> list[str]:
    from huggingface_hub import ModelCardData

    if "model-index" not in data:
        return []
    try:
        ModelCardData(**data)
    except ValueError as error:
        return [str(error)]
    return []


def _section_problems(text: str) -> list[Problem]:
    there = [name for level, name in headings(HEAD.sub("", text, count=1)) if level < 5]
    return [
        Problem("sections", f"no section such as “{name}”", "README.md")
        for name, words in SECTIONS.items()
        if not any(re.search(rf"\b(?:{words})\b", heading, re.IGNORECASE) for heading in there)
    ]


def _path_problems(text: str) -> list[Problem]:
    """Paths of a machine anywhere but in the model's own words."""
    ours = _without(text, examples.BEGIN, examples.END)
    return [
        Problem(
            "paths", f"a local path: {found.group()}", f"line {text.count(chr(10), 0, text.find(found.group())) + 1}"
        )
        for found in LOCAL_PATH.finditer(ours)
    ]


def _link_problems(text: str, folder: Path, run: Path | None) -> list[Problem]:
    problems = []
    for target in LINK.findall(FENCED.sub("", _without(text, examples.BEGIN, examples.END))):
        if re.match(r"[a-z][a-z0-9+.-]*:", target) or target.startswith("#"):
            continue
        inside = target.partition("#")[0]
        places = [folder, *([run] if run is not None else [])]
        # By name, not where a file really lies: a Hub's cache holds links into its store.
        if not any((place / inside).is_file() and not normpath(inside).startswith(("..", "/")) for place in places):
            problems.append(Problem("links", f"{target} is not a file of the bundle", "README.md"))
    return problems


def _author_problems(text: str, original: Path) -> list[Problem]:
    """Where the authors' own card is part of this one, it is so with the note on whose figures it has, with a mark in the
    headings that are ours, and as they wrote it (where that is still there to be looked at)."""
    if (words := words_of_authors(text)) is None:
        return []
    mark, told = mark_of(words), []
    if note(mark) in text.partition(BEGIN)[0]:
        ours = headings(HEAD.sub("", without_author(text), count=1))
        told += [
            f"the heading “{name}” is not the authors' and has no `{mark}`"
            for level, name in ours
            if level < 3 and mark not in name
        ]
    elif NOTE not in text.partition(BEGIN)[0]:  # as it was before headings had a mark
        told.append(
            f"nothing says that the figures of the authors' part are theirs, and how ours are told from it ({mark})"
        )
    theirs = read_author_card(original)
    if theirs is not None and words_of_authors(author_part(theirs.body, "")) != words:
        told.append("the authors' part is not what they wrote")
    return [Problem("author", what, "README.md") for what in told]


def _number_problems(text: str, run: Path | None, facts: Facts | None) -> list[Problem]:
    blocks = _between(text, score_table.BEGIN, score_table.END)
    if facts is None or run is None:
        return (
            [Problem("numbers", "there is no scorecard beside this card to hold its figures against", "Scores")]
            if blocks
            else []
        )
    problems = []
    if facts.digest not in text:
        problems.append(
            Problem("digest", f"the card does not name the checkpoint's digest {facts.digest}", "README.md")
        )
    problems += _expense_problems(text, facts)
    problems += _block_problems(
        text, prompt_shown.MARKERS, prompt_shown.prompt_lines(facts.folder), "How to use it", required=False
    )
    problems += _block_problems(
        text, beside.MARKERS, beside.beside_lines(facts), "Beside other models", required=bool(facts.beside)
    )
    if facts.card is None:
        return problems + ([Problem("numbers", "figures without a scorecard", "Scores")] if blocks else [])
    compared = comparison_with_parent(run, facts)
    figures = _figure_problems(text, blocks, facts.card, facts.parent_card, compared)
    if figures and not _figure_problems(text, blocks, facts.card, facts.parent_card, as_once_written(compared)):
        figures = []  # a card from before equal differences had a rule of their own
    return problems + figures


def _figure_problems(
    text: str, blocks: list[str], card: Scorecard, parent: Scorecard | None, compared: Comparison | None
) -> list[Problem]:
    """The figures of the card's tables, and of what stands below them, against those of the scorecards."""
    problems = _table_problems(text, card, parent, compared)
    rows = score_rows(card, parent, paired_differences(compared), only_headlines=False)
    known = {row.id: row for row in rows}
    seen: set[str] = set()
    for line in (line for block in blocks for line in block.splitlines()):
        name = re.search(r"`([^`]+)`", line)
        if name is None:
            if NUMBER.search(line.replace("95%", "")):
                problems.append(Problem("numbers", f"figures that name no score: {line.strip()}", "Scores"))
            continue
        row = known.get(name.group(1))
        if row is None:
            problems.append(Problem("numbers", f"{name.group(1)} is no score of the scorecard", "Scores"))
            continue
        if line.startswith("|"):
            seen.add(row.id)
            agrees = line.strip() == row.line()
        else:
            agrees = _numbers(line.replace(name.group(), "", 1)) == _numbers(row.beside)
        if not agrees:
            what = f"{row.id}: the card says {line.strip()}; the scorecards say {row.line()} {row.beside}".rstrip()
            problems.append(Problem("numbers", what, "Scores"))
    missing = sorted(f"{score.task}/{score.metric}" for score in card.scores if score.headline)
    problems += [
        Problem("numbers", f"the headline score {name} is missing", "Scores") for name in missing if name not in seen
    ]
    return problems


def _expense_problems(text: str, facts: Facts) -> list[Problem]:
    """Cards from before energies were measured need no table of what it took."""
    measured = any(record and record.energy for record in (None if facts.copied else facts.run, facts.card))
    told, older = (
        _block_problems(
            text,
            (expenses.BEGIN, expenses.END),
            expenses.expense_lines(facts, copying=copying),
            "What it took",
            required=measured,
        )
        for copying in (False, True)
    )
    return told if older else []


def _table_problems(text: str, card: Scorecard, parent: Scorecard | None, compared: Comparison | None) -> list[Problem]:
    """The tables beside the scores; cards from before there were any have none."""
    tax, toxicity = more_tables.tax_lines(card, parent, compared), more_tables.toxicity_lines(card, parent)
    return [
        *_block_problems(text, more_tables.TAX, tax, "Alignment tax", required=False),
        *_block_problems(text, more_tables.TOXICITY, toxicity, "Toxicity", required=False),
    ]


def _block_problems(
    text: str, markers: tuple[str, str], wanted: list[str], where: str, *, required: bool
) -> list[Problem]:
    """A block between markers is, line by line, what the records give."""
    there = [line for block in _between(text, *markers) for line in block.splitlines()]
    if not there and not required:
        return []
    wrong = [f"the card says {line!r}, which the records do not" for line in there if line not in wanted]
    wrong += [f"the card does not say {line!r}, which the records do" for line in wanted if line not in there]
    return [Problem("numbers", what, where) for what in wrong]


def _numbers(text: str) -> list[str]:
    return NUMBER.findall(re.sub(r"&#\d+;", " ", text))


def _run_of(readme: Path) -> Path | None:
    """The directory whose records a card is held against: its own, or the run that its bundle lies in."""
    for place in (readme.parent, readme.parent.parent):
        if (place / "config.json").is_file() or (place / "checkpoint" / "config.json").is_file():
            return place
    return None


def _between(text: str, begin: str, end: str) -> list[str]:
    return re.findall(re.escape(begin) + r"\n(.*?)" + re.escape(end), text, re.DOTALL)


def _without(text: str, begin: str, end: str) -> str:
    return re.sub(re.escape(begin) + r".*?" + re.escape(end), "", text, flags=re.DOTALL)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]
