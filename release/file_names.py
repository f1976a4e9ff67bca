"""Names of files that are the same file, or no file at all, or shown as something else, on another machine.

name_problem("con.json")                        # "Windows has a device of the name con"
lookalikes(["config.json", "CONFIG.JSON"])      # [("CONFIG.JSON", "config.json")]
shown("a\\u202eb")                               # 'a\\\\u202eb'
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

# Microsoft, "Naming Files, Paths, and Namespaces": these, with any extension, in any case.
DEVICE = re.compile(
    r"(?:CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9\u00b9\u00b2\u00b3])[ ]*(?:\..*)?", re.IGNORECASE | re.DOTALL
)
NOT_ON_WINDOWS = '<>:"|?*\\'


def name_problem(path: str) -> str | None:
    """What is wrong with a path of a release, for whoever has another system; None where nothing is."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return "it is not valid Unicode"
    if (character := next((one for one in path if hides(one)), None)) is not None:
        return f"U+{ord(character):04X} in it changes how the rest is shown, or is not shown itself"
    for part in path.split("/"):
        if (character := next((one for one in part if one in NOT_ON_WINDOWS), None)) is not None:
            return f"Windows allows no {character} in a name"
        if part.endswith((".", " ")):
            return "Windows leaves out a dot or a space at the end of a name"
        if DEVICE.fullmatch(part):
            return f"Windows has a device of the name {part.partition('.')[0].rstrip()}"
    return None


def lookalikes(paths: Iterable[str]) -> list[tuple[str, str]]:
    """Pairs of files, or of a file and a folder, that differ only in the case of letters or the form of accents."""
    everything = sorted(paths)
    names = dict.fromkeys([*everything, *(parent for path in everything for parent in parents(path))])
    by_fold: dict[str, list[str]] = {}
    for name in names:
        by_fold.setdefault(folded(name), []).append(name)
    files = set(everything)
    return [
        (first, other)
        for group in by_fold.values()
        for index, first in enumerate(group)
        for other in group[index + 1 :]
        if first in files or other in files  # two such folders become one, and nothing in them is lost
    ]


def parents(path: str) -> list[str]:
    """`a/b/c` -> [`a`, `a/b`]."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


def folded(path: str) -> str:
    """What file systems that ignore case, the form of accents and what Windows leaves out at a name's end take a path for."""
    # Windows leaves out dots and spaces there, and takes name::$DATA for name.
    path = "/".join(part.partition("::$")[0].rstrip(". ") for part in path.split("/"))
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def hides(character: str) -> bool:
    """Controls, line separators, and marks of direction or of no width; joiners are letters' business and stay.

    Unicode Technical Report 36, "Unicode Security Considerations", 2.5 and 3.5.
    """
    if character in "\u200c\u200d":
        return False
    return unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp"}


def shown(path: str) -> str:
    """The path with whatever hides written as its code, fit for a terminal."""
    encodable = path.encode(errors="backslashreplace").decode()
    return "".join(one.encode("unicode_escape").decode() if hides(one) else one for one in encodable)
