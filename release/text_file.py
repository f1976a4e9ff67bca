"""What is text, in one place: what is carried into a release as text is what its gates read.

encoding_of(Path("NOTICE"))     # "utf-8"; None for what is no text
"""

from __future__ import annotations

import codecs
from pathlib import Path

SNIFFED = 8192  # bytes: a file without a zero among so many is text, as git has it
WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def encoding_of(file: Path) -> str | None:
    """How the text of a file is read; None where it is no text."""
    with file.open("rb") as opened:
        head = opened.read(SNIFFED)
    if head.startswith(WIDE):
        return "utf-16"
    return None if b"\0" in head else "utf-8"
