"""The files of a repository's first commit, as the Hub makes them, and which files go to large-file storage."""

from __future__ import annotations

import re
from collections.abc import Callable
from fnmatch import fnmatchcase, translate

from release.file_names import parents
from release.local_hub.refusals import Refusal

# fmt: off
LARGE_SUFFIXES = [
    "7z", "arrow", "avro", "bin", "bz2", "ckpt", "ftz", "gguf", "gz", "h5", "joblib", "lz4", "mds", "mlmodel",
    "model", "msgpack", "npy", "npz", "onnx", "ot", "parquet", "pb", "pickle", "pkl", "pt", "pth", "rar",
    "safetensors", "tar", "tflite", "tgz", "wasm", "xz", "zip", "zst",
]
# fmt: on
# fmt: off
IMAGE_AND_SOUND_SUFFIXES = [
    "pcm", "sam", "raw", "aac", "flac", "mp3", "ogg", "wav", "bmp", "gif", "png", "tiff", "jpg", "jpeg", "webp",
    "mp4", "webm",
]
# fmt: on
LARGE_FROM = 10_000_000  # bytes; the Hub keeps larger files out of the git tree whatever they are
RULES_LIMIT = 64 << 10  # characters of a .gitignore or .gitattributes
MATCHES_LIMIT = 500_000  # of rules with parts of paths, in an answer

_SPACE_CARD = """---
title: {title}
emoji: 🚀
colorFrom: blue
colorTo: indigo
sdk: {sdk}
pinned: false
---
"""


def starting_files(kind: str, name: str, sdk: str | None) -> dict[str, str]:
    """Path -> text."""
    suffixes = LARGE_SUFFIXES + (IMAGE_AND_SOUND_SUFFIXES if kind == "dataset" else [])
    attributes = "".join(f"*.{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in suffixes)
    attributes += "saved_model/**/* filter=lfs diff=lfs merge=lfs -text\n"
    attributes += "*tfevents* filter=lfs diff=lfs merge=lfs -text\n"
    files = {".gitattributes": attributes}
    if kind == "space":
        title = name.replace("-", " ").replace("_", " ").title()
        files["README.md"] = _SPACE_CARD.format(title=title, sdk=sdk or "gradio")
    return files


def is_large(path: str, size: int, sample: bytes, attributes: str) -> bool:
    """Whether a file goes to large-file storage: by the repository's .gitattributes, its size, or its first bytes."""
    if size == 0:
        return False  # clients send empty files as regular ones whatever the answer
    if size >= LARGE_FROM or not _is_text(sample, whole=len(sample) == size):
        return True
    verdict = False
    for line in attributes.splitlines():
        pattern, *words = line.split() or [""]
        if words and not pattern.startswith("#") and _matches(path, pattern):
            verdict = "filter=lfs" in words
    return verdict


class Ignored:
    """Which paths a .gitignore ignores; a later line overrides an earlier one, `!` takes back.

    Raises Refusal 400 where it is so long, or asked about so many paths, that the answer would take seconds.
    """

    def __init__(self, gitignore: str) -> None:
        lines = [line.strip() for line in gitignore[:RULES_LIMIT].splitlines()]
        self.rules = [line for line in lines if line and not line.startswith("#")]
        self.matches_left = MATCHES_LIMIT
        if len(gitignore) > RULES_LIMIT:
            raise Refusal(400, f"A .gitignore has at most {RULES_LIMIT} characters")
        self.compiled = [(rule.startswith("!"), *_compiled(rule.removeprefix("!"))) for rule in self.rules]

    def __call__(self, path: str) -> bool:
        parts = path.split("/")
        self.matches_left -= len(self.compiled) * len(parts)
        if self.matches_left < 0:
            raise Refusal(400, "A .gitignore of so many lines is asked about too many paths at once")
        wholes, verdict = [*parents(path), path], False
        for negated, whole, of_folders, pattern in self.compiled:
            # A pattern that matches a folder ignores what is in it; one that ends with a slash matches folders only.
            candidates = wholes if whole else parts
            if any(pattern(candidate) for candidate in (candidates[:-1] if of_folders else candidates)):
                verdict = not negated
        return verdict


def _compiled(rule: str) -> tuple[bool, bool, Callable[[str], object]]:
    """Whether it is about whole paths, whether about folders only, and what matches one (git's rule, as _matches)."""
    bare = rule.rstrip("/")
    whole = "/" in bare
    pattern = bare.lstrip("/").replace("**/", "*") if whole else bare
    return whole, rule.endswith("/"), re.compile(translate(pattern)).match


def _matches(path: str, pattern: str) -> bool:
    """git's rule: a pattern without a slash matches the last part of the path, one with a slash the whole."""
    if "/" not in pattern:
        return fnmatchcase(path.rsplit("/", 1)[-1], pattern)
    return fnmatchcase(path, pattern.lstrip("/").replace("**/", "*"))


def _is_text(sample: bytes, whole: bool) -> bool:
    if b"\0" in sample:
        return False
    try:
        sample.decode()
    except UnicodeDecodeError as error:
        # The sample may end in the middle of a character.
        return not whole and error.start >= len(sample) - 3
    return True
