"""The card that a checkpoint's authors wrote, as the body of the card of its release.

    author = read_author_card(Path("runs/a/checkpoint/README.md"))
    part = author_part(author.body, "v1.0.0")              # their words between markers, with a note on their figures
    merged(author.metadata, ours, name=..., where=url)     # their metadata, completed by ours

Every number of ours is held against a record. Those of the authors have none here, so the card says whose they are, and
checks of numbers look at the rest (`without_author`). Anybody can write a heading like ours: ours carry a mark that stands
nowhere in the authors' words (`mark_of`), and what these leave open is closed (model_cards/page_parts.py).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import yaml

from model_cards.page_parts import closed
from training.errors import UsageError

BEGIN, END = "<!-- author:begin -->", "<!-- author:end -->"
# In cards of before 2026-11-29, whose headings carry no mark.
NOTE = (
    "The text below, down to “This release”, is its authors' own card. Its figures are theirs; none was measured here."
)
SOURCE = "the authors' card, not measured here"  # what the Hub shows beside a result in model-index
HEAD = re.compile(r"\A(?:\ufeff)?---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
FENCED = re.compile(r"^(`{3,}|~{3,})[^\n]*\n.*?^\1\s*$", re.DOTALL | re.MULTILINE)
# A figure as results are told: a share, a number with decimals (not a version, not part of a name), or a table's cell.
FIGURE = re.compile(r"(?<![\w.,-])\d+(?:[.,]\d+)?\s?%|(?<![\w.,-])\d+\.\d+(?![\w.-])|\|[^|\w]*\d[\d.,]*[^|\w]*(?=\|)")


@dataclass(frozen=True)
class AuthorCard:
    """A card that came with the files: the block between the `---` lines as values, and the text below it."""

    metadata: dict[str, Any]
    body: str


def read_author_card(file: Path) -> AuthorCard | None:
    """None where there is no such file. Raises UsageError where its metadata is no YAML mapping, or it is no UTF-8."""
    if not file.is_file():
        return None
    try:
        text = file.read_text(encoding="utf-8")
        head = HEAD.match(text)
        metadata = (yaml.safe_load(head.group(1)) if head else None) or {}
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise _unreadable(file, " ".join(str(error).split())) from error
    if not isinstance(metadata, dict):
        raise _unreadable(file, f"a {type(metadata).__name__}")
    body = (text[head.end() :] if head else text).strip()
    if (earlier := words_of_authors(body)) is not None:
        body = earlier  # the card of a release of ours: its authors' words, not what we said of other bytes
    return AuthorCard({str(key): value for key, value in metadata.items()}, body) if metadata or body else None


def licence_of(author: AuthorCard | None) -> str | None:
    """What the card names: the licence's own name where it is on no list of the Hub's. None where it names none, or several."""
    metadata = author.metadata if author else {}
    named = metadata.get("license")
    if named == "other":
        named = metadata.get("license_name") or named
    if isinstance(named, list):
        named = named[0] if len(named) == 1 else None
    return named if isinstance(named, str) else None


def author_part(body: str, tag: str) -> str:
    """The authors' words as they stand in a release's card. Markers of ours among them lose their meaning, and what they
    leave open is closed. Raises UsageError where nothing closes it."""
    words, closings = closed(re.sub(r"<!-- (author:(?:begin|end)) -->", r"<!-- \1, as they wrote it -->", body))
    ends = ", ".join(f"`` {' '.join(end.split())} ``" for end in closings)
    mended = f" What it left open is closed at its end, by {ends}." if closings else ""
    return f"> **Release `{tag}`.** {note(mark_of(words))}{mended}\n\n{BEGIN}\n{words}\n{END}\n"


def mark_of(words: str) -> str:
    """Six hexadecimal digits that are nowhere in the authors' words, made of these words: what has them in its heading is not
    theirs."""
    marks = (hashlib.sha256(f"{number}\n{words}".encode()).hexdigest()[:6] for number in count())
    return next(mark for mark in marks if mark not in words.casefold())


def note(mark: str) -> str:
    """Whose words the ones below are, and how those of the release are told from them."""
    return (
        f"The text below, down to the heading “This release `{mark}`”, is its authors' own card. Its figures are theirs; none was "
        f"measured here. What the release says has `{mark}` in its headings, and the authors' text has that nowhere."
    )


def words_of_authors(text: str) -> str | None:
    """The authors' words within a card; None where it has none."""
    found = re.search(re.escape(BEGIN) + r"\n(.*)\n" + re.escape(END), text, re.DOTALL)
    return found.group(1) if found else None


def without_author(text: str) -> str:
    """A card without its authors' part: what we say, and must be able to show."""
    return re.sub(re.escape(BEGIN) + r".*?" + re.escape(END), "", text, flags=re.DOTALL)


def figures_of_authors(text: str, *, ours: bool) -> int:
    """How many lines of a card state figures that are its authors': of their part, or (not `ours`) of all of it."""
    part = "".join(re.findall(re.escape(BEGIN) + r"(.*?)" + re.escape(END), text, re.DOTALL)) if ours else text
    return sum(bool(FIGURE.search(line)) for line in FENCED.sub("", HEAD.sub("", part, count=1)).splitlines())


def merged(theirs: Mapping[str, Any], ours: Mapping[str, Any], *, where: str) -> dict[str, Any]:
    """The authors' metadata as it is, with the keys of ours that it lacks.

    Tags of both are kept. Results in `model-index` are those of both; the authors' say that they are the authors', and
    `where`: a URL, as the Hub wants one beside a source's name.
    """
    values = {**theirs, **{key: value for key, value in ours.items() if theirs.get(key) is None}}
    values["tags"] = list(dict.fromkeys([*_as_list(theirs.get("tags")), *_as_list(ours.get("tags"))]))
    if theirs.get("model-index") is not None:
        values["model-index"] = _index(theirs["model-index"], ours.get("model-index"), where)
    return values


def _index(theirs: Any, ours: Any, where: str) -> Any:
    if not (isinstance(theirs, list) and all(isinstance(model, dict) for model in theirs)):
        return theirs  # the check of the card's metadata says what is wrong with it
    marked = [
        {**model, "results": [_marked(result, where) for result in _as_list(model.get("results"))]} for model in theirs
    ]
    if marked and ours:
        marked[0]["results"] += ours[0]["results"]
    return marked or ours


def _marked(result: Any, where: str) -> Any:
    has_source = not isinstance(result, dict) or result.get("source")
    return result if has_source else {**result, "source": {"name": SOURCE, "url": where}}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _unreadable(file: Path, found: str) -> UsageError:
    return UsageError(
        "the authors' card cannot be read",
        where=str(file),
        expected="UTF-8, and YAML between the --- lines at its top",
        found=found[:300],
        next_step="mend the README.md that the checkpoint came with, then run the command again",
    )
