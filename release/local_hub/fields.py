"""Fields of what a client sends, by their type: what is of another one is refused with 400, its name and what was expected.

asked = parsed(b'{"title": "Demo", "private": false}')     # a JSON object
text(asked, "title", limit=300)                              # None where it is missing or null
whole_number("12")                                           # of an address or a query; None where it is no number
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection
from typing import Any, NoReturn

from release.local_hub.refusals import Refusal

NUMBER_DIGITS = 9
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,255}")

Fields = dict[str, Any]


def parsed(body: bytes) -> Fields:
    """A body as a JSON object; an empty body is an empty object.

    Refused are numbers that JSON does not have (NaN, and those that are infinite here), and halves of characters (lone
    surrogates, which an escape can say and no file and no answer can hold).
    """
    try:
        value = json.loads(body, parse_constant=_not_finite, parse_float=_finite) if body else {}
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Refusal(400, f"The body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise Refusal(400, "The body must be a JSON object")
    return value


def _not_finite(text: str) -> NoReturn:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        _not_finite(text[:40])
    return number


def text(asked: Fields, key: str, limit: int | None = None) -> str | None:
    """A text of at most `limit` characters."""
    value = asked.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or (limit is not None and len(value) > limit):
        raise Refusal(400, f'"{key}" must be a text' + (f" of at most {limit} characters" if limit else ""))
    return value


def choice(asked: Fields, key: str, among: Collection[str]) -> str | None:
    value = text(asked, key)
    if value is not None and value not in among:
        raise Refusal(400, f'"{key}" must be one of {", ".join(among)}, not {value[:40]!r}')
    return value


def flag(asked: Fields, key: str) -> bool | None:
    value = asked.get(key)
    if value is not None and not isinstance(value, bool):
        raise Refusal(400, f'"{key}" must be true or false')
    return value


def number(asked: Fields, key: str) -> int | None:
    """A whole number of at most NUMBER_DIGITS digits."""
    value = asked.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or abs(value) >= 10**NUMBER_DIGITS:
        raise Refusal(400, f'"{key}" must be a whole number')
    return value


def items(asked: Fields, key: str) -> list[Any]:
    """A list; empty where it is missing."""
    value = asked.get(key)
    if value is not None and not isinstance(value, list):
        raise Refusal(400, f'"{key}" must be a list')
    return value or []


def objects(asked: Fields, key: str) -> list[Fields]:
    """A list of objects; empty where it is missing."""
    found = items(asked, key)
    if not all(isinstance(item, dict) for item in found):
        raise Refusal(400, f'"{key}" must be a list of objects')
    return found


def variable(asked: Fields) -> tuple[str, str]:
    """`key` and `value` of a Space's variable or secret, such as an operating system takes."""
    key, value = text(asked, "key") or "", text(asked, "value")
    if not _VARIABLE.fullmatch(key):
        raise Refusal(400, f"{key[:40]!r} is no name of a variable: letters, digits and _, not beginning with a digit")
    if value is None or "\0" in value:
        raise Refusal(400, f'"value" of {key[:40]} must be a text without zero bytes')
    return key, value


def whole_number(text: str) -> int | None:
    """Not str.isdigit: that takes superscripts, which int() does not."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= NUMBER_DIGITS else None
