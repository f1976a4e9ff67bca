"""Files here and files there: a file to push is comparable with what a Hub lists, without downloading it.

A Hub lists the SHA-256 of what is in large-file storage, and the git object id of everything else.

    ours = LocalFile(Path("bundle/config.json"), sha256)
    ours.is_at(hub.tree("org/name", "main")["config.json"])
    difference({"config.json": ours}, hub.tree("org/name", "main"))     # None, or the first path that differs
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

HUB_OWN_FILE = ".gitattributes"  # the Hub writes it into every repository; it is never part of a release


# What mends bytes that a Hub has lost or changed: it takes none again that it believes to have.
MEND = (
    "on a Hub of your own `python -m release hub fsck --root ROOT --set-aside` puts what is broken aside and says "
    "how it is sent again"
)


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub lists it: its size, its git object id, and its SHA-256 where it is in large-file storage."""

    size: int
    git_oid: str
    sha256: str | None


@dataclass(frozen=True)
class LocalFile:
    """Bytes in memory or on disk, and the hex SHA-256 that they must have when they are sent."""

    source: Path | bytes
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> LocalFile:
        return cls(content, hashlib.sha256(content).hexdigest())

    @cached_property
    def size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @cached_property
    def git_oid(self) -> str:
        """What `git hash-object` prints. Only small files are asked for it."""
        content = self.source if isinstance(self.source, bytes) else self.source.read_bytes()
        return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()

    def is_at(self, listed: HubFile) -> bool:
        """Whether the Hub lists these bytes."""
        if listed.sha256 is not None:
            return listed.sha256 == self.sha256
        return listed.size == self.size and listed.git_oid == self.git_oid


def difference(files: Mapping[str, LocalFile], tree: Mapping[str, HubFile]) -> str | None:
    """The first path at which the Hub's files are not these; None where they are the same."""
    for path in sorted({*files, *tree} - {HUB_OWN_FILE}):
        if path not in tree:
            return f"{path} is missing"
        if path not in files:
            return f"{path} is there, and is not in the plan"
        if not files[path].is_at(tree[path]):
            return f"{path} holds other bytes"
    return None


def changes(files: Mapping[str, LocalFile], tree: Mapping[str, HubFile]) -> tuple[dict[str, LocalFile], list[str]]:
    """What turns `tree` into exactly `files`: files to add, and paths to delete."""
    additions = {path: file for path, file in files.items() if path not in tree or not file.is_at(tree[path])}
    return additions, [path for path in tree if path not in files and path != HUB_OWN_FILE]
