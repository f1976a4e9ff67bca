"""What a gated repository asks of whoever wants access: the card's `extra_gated_fields`, and answers to them.

    fields = fields_of({"extra_gated_fields": {"Company": "text", "I agree": "checkbox"}})
    answers(fields, {"Company": "Shipyard", "I agree": "on"})      # {"Company": "Shipyard", "I agree": True}, or 400

The types are the Hub's: text, checkbox, date_picker, country, and select with options; every field must be filled in. An
`ip_location` asks nobody anything, and this Hub does not look where its users are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import parse_qs

from release.local_hub.refusals import Refusal

TYPES = ("text", "checkbox", "date_picker", "country", "select")
FIELDS, LABEL, ANSWER = 40, 1000, 1000  # how many fields, and the characters of a label and of an answer
_COUNTRY = re.compile(r"[A-Za-z]{2}")  # ISO 3166-1 alpha-2
_WANTED = {
    "date_picker": "a date, as 2026-11-29",
    "country": "a country's two letters, as NZ",
    "checkbox": "to be ticked",
}


@dataclass(frozen=True)
class Field:
    """`options` are (value, label) of a select."""

    label: str
    type: str
    options: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        """Of its input in the page's form, where it meets no other's."""
        return f"field:{self.label}"


def fields_of(card: Mapping[str, Any]) -> list[Field]:
    """The fields of a card's metadata. What is no field of a known type is passed over, as anything may stand in a card."""
    asked = card.get("extra_gated_fields")
    found = []
    for label, told in asked.items() if isinstance(asked, dict) else ():
        kind = told.get("type") if isinstance(told, dict) else told
        options = _options(told.get("options")) if isinstance(told, dict) else ()
        if isinstance(label, str) and label.strip() and kind in TYPES and (kind != "select" or options):
            found.append(Field(label.strip()[:LABEL], str(kind), options))
    return found[:FIELDS]


def answers(fields: Sequence[Field], given: Mapping[str, Any]) -> dict[str, Any]:
    """By label. Raises 400 where one is missing, or is none that its field takes."""
    return {field.label: _answer(field, given.get(field.label)) for field in fields}


def filled_in(body: bytes, fields: Sequence[Field]) -> dict[str, str]:
    """What a browser's form says of the fields, by their labels."""
    sent = parse_qs(body.decode(errors="replace"), max_num_fields=100)
    return {field.label: sent[field.name][0] for field in fields if field.name in sent}


def _answer(field: Field, given: Any) -> str | bool:
    if field.type == "checkbox":
        if given is True or given in ("on", "true"):
            return True
        raise _refusal(field)
    said = given.strip() if isinstance(given, str) else ""
    if not said or len(said) > ANSWER or not _is_of(field, said):
        raise _refusal(field)
    return said.upper() if field.type == "country" else said


def _is_of(field: Field, said: str) -> bool:
    if field.type == "select":
        return said in [value for value, _ in field.options]
    if field.type == "country":
        return _COUNTRY.fullmatch(said) is not None
    if field.type == "date_picker":
        try:
            return date.fromisoformat(said).isoformat() == said
        except ValueError:
            return False
    return True


def _refusal(field: Field) -> Refusal:
    wanted = _WANTED.get(field.type, f"a text of at most {ANSWER} characters")
    if field.type == "select":
        wanted = f"one of {', '.join(value for value, _ in field.options)}"[:400]
    return Refusal(400, f"Whoever asks for access here fills in {field.label[:100]!r}: expected {wanted}")


def _options(told: Any) -> tuple[tuple[str, str], ...]:
    """Each a text, or {label, value}."""
    found = []
    for option in (told if isinstance(told, list) else [])[:200]:
        label = option.get("label") if isinstance(option, dict) else option
        value = option.get("value", label) if isinstance(option, dict) else option
        if isinstance(label, str | int | float) and isinstance(value, str | int | float):
            found.append((str(value)[:ANSWER], str(label)[:LABEL]))
    return tuple(found)
