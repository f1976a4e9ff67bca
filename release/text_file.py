"""What is text, in one place: what is carried into a release as text is what its gates read.

encoding_of(Path("NOTICE"))     # "utf-8"; None for what is no text
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

SNIFFED = 8192  # bytes, as git looks at
MARKS = (  # the longer ones first: one of UTF-32 begins as one of UTF-16 does
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE = ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be")
CONTROLS = re.compile(rb"[\x01-\x06\x0e-\x1a\x1c-\x1f\x7f]")  # that no text has; ESC colours logs
LATIN = 0x100  # texts without a mark are told by their letters from any other pairs of bytes


def encoding_of(file: Path) -> str | None:
    """How the text of a file is read; None where it is no text."""
    with file.open("rb") as opened:
        head = opened.read(SNIFFED)
    for mark, encoding in MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head:
        return next((encoding for encoding in WIDE if _is_text(head, encoding)), None)
    return "utf-8" if _decoded(head, "utf-8") is not None or not CONTROLS.search(head) else None


def _is_text(head: bytes, encoding: str) -> bool:
    """Whether it is printable, and mostly of such letters as give every second byte, or three of four, as zero."""
    text = _decoded(head, encoding)
    if not text or not all(letter.isprintable() or letter.isspace() for letter in text):
        return False
    return sum(ord(letter) < LATIN for letter in text) * 2 > len(text)


def _decoded(head: bytes, encoding: str) -> str | None:
    """The text, whose last character may be cut; None where it is none of this encoding."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return None
