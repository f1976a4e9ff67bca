"""Keys stay out of what is printed and written: their values in any text become the name of the variable that held them.

hide_keys("Max retries exceeded with url: /analyze?key=abc123")      # "...?key=[PERSPECTIVE_API_KEY]"
"""

from __future__ import annotations

import os
import re
from urllib.parse import quote

NAMES = re.compile(r"(?:^|_)(?:KEY|TOKEN|SECRET|PASSWORD)$")
SHORTEST = 6  # a shorter value would also be found inside other words


def hide_keys(text: str) -> str:
    """The text without the value of any environment variable that is named as keys are (..._KEY, ..._TOKEN)."""
    held = {
        spelling: name
        for name, value in os.environ.items()
        if NAMES.search(name) and len(value) >= SHORTEST
        for spelling in (value, quote(value, safe=""))
    }
    for value in sorted(held, key=len, reverse=True):
        text = text.replace(value, f"[{held[value]}]")
    return text
