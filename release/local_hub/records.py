"""Records: JSON objects on disk, replaced as a whole, each with a checksum of its own bytes, so that a flipped bit is found.

    write_record(path, {"private": False})
    read_record(path)                       # {"private": False}; raises Damaged where the bytes are not those that were written
    problem(path.read_bytes())              # what is wrong with them, or None

The checksum is the last key of the object. Records of stores from before there was one are read as they are, and get it with their
next change; versions from before pass over it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from release.local_hub.refusals import Damaged
from release.local_hub.storage import create_bytes, write_bytes

log = logging.getLogger("slipway.hub")
Record = dict[str, Any]
_START, _END, _DIGITS = b', "check": "', b'"}', 64
_LENGTH = len(_START) + _DIGITS + len(_END)


def write_record(path: Path, value: Record, mode: int = 0o644) -> None:
    """Replace the file as a whole."""
    write_bytes(path, _sealed(value), mode)


def create_record(path: Path, value: Record) -> bool:
    """Like `write_record`, but only if the file does not exist; False when somebody else created it."""
    return create_bytes(path, _sealed(value))


def read_record(path: Path, default: Any = None) -> Any:
    """The record, or `default` where there is no such file. Raises Damaged."""
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return default
    text, wrong = _opened(raw)
    if wrong is not None:
        raise Damaged(path, wrong)
    return json.loads(text)


def readable(path: Path) -> Any:
    """Of one among many: None, and a line in the log, where it is damaged, for the others are to be told of all the same."""
    try:
        return read_record(path)
    except Damaged as damaged:
        log.error("%s", damaged)
        return None


def problem(raw: bytes) -> str | None:
    """What is wrong with a record."""
    return _opened(raw)[1]


def _sealed(value: Record) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True).encode()
    return text[:-1] + _START + _checksum(text) + _END if value else text


def _opened(raw: bytes) -> tuple[bytes, str | None]:
    """The record without its checksum, and what is wrong with it."""
    end = raw[-_LENGTH:]
    text = raw
    if _differences(end) == 0:
        text = raw[:-_LENGTH] + b"}"
        if _checksum(text) != end[len(_START) : -len(_END)]:
            return text, "its bytes are not those that its checksum is of"
    elif _differences(end) <= 2:  # else a damaged checksum would look like a record from before there was one
        return text, "its checksum is damaged"
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        return text, f"it cannot be read: {error}"
    return text, None if isinstance(value, dict) else "it is no record"


def _differences(end: bytes) -> int:
    """In how many bytes the end of a file differs from a checksum as it is written."""
    if len(end) < _LENGTH:
        return _LENGTH
    fixed = end[: len(_START)] + end[-len(_END) :]
    return sum(one != other for one, other in zip(fixed, _START + _END, strict=True))


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest().encode()
