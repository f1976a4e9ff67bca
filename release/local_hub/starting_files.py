"""The files of a repository's first commit, as the Hub makes them, and which files go to large-file storage."""

from __future__ import annotations

from fnmatch import fnmatchcase

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


def is_ignored(path: str, gitignore: str) -> bool:
    """Whether a .gitignore matches; a later line overrides an earlier one, `!` takes back."""
    verdict = False
    for line in gitignore.splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        negated, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        parts = path.split("/")
        # A pattern that matches a folder ignores what is in it; one that ends with a slash matches folders only.
        candidates = ["/".join(parts[:count]) for count in range(1, len(parts) + (not pattern.endswith("/")))]
        if any(_matches(candidate, pattern.rstrip("/")) for candidate in candidates):
            verdict = not negated
    return verdict


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
