"""What a repository's own files say, made of what every answer can hold: the one place at which anybody's JSON and YAML is read.

    parsed_file(b'{"model_type": "\\\\ud800", "x": NaN}')      # {"model_type": "\\ufffd", "x": None}

A number that JSON does not have is null, as the Hub's own answers have it, and half a character (a lone surrogate, which an escape
can say and no answer can hold) is U+FFFD; so what one repository says cannot break a list in which it stands beside others.
"""

from __future__ import annotations

import json
import math
from typing import Any


def parsed_file(raw: bytes | str) -> Any:
    """The value of a file. Raises ValueError for what is not JSON, or nested too deeply."""
    try:
        return plain(json.loads(raw))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def plain(value: Any) -> Any:
    """A value of JSON's types without what no answer can hold. Raises ValueError for numbers of thousands of digits."""
    try:
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:  # also UnicodeEncodeError
        return _plain(value)
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        # Two halves that belong together are one.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int) and not isinstance(value, bool):
        json.dumps(value)
        return value
    if isinstance(value, dict):
        return {_plain(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value
