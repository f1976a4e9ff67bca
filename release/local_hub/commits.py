"""A commit as its file has it: what it says of itself, its files, and the checksum by which damage shows.

commit = read_commit(folder / "commits" / f"{oid}.json")
names(commit.oid, body)      # whether `body` is what the file was written with
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.local_hub.bounded_cache import BoundedCache
from release.local_hub.tree import Entry, Tree


@dataclass(frozen=True)
class Head:
    """What a commit says of itself: who made it, when (ISO 8601, UTC) and from which parent. Its files are the commit's."""

    oid: str
    parent: str | None
    author: str
    date: str
    title: str
    message: str


@dataclass(frozen=True)
class Commit(Head):
    """A snapshot of the files."""

    tree: Tree
    git: bool  # whether `oid` is git's id of it, as it is made of these fields (git_objects.py)


def head_of(commit: Commit) -> Head:
    """The same without the files, which are let go."""
    return Head(commit.oid, commit.parent, commit.author, commit.date, commit.title, commit.message)


def checksum(body: dict[str, Any], oid: str = "") -> str:
    """A hash of a commit's id and of all that its file says."""
    canonical = json.dumps(body, sort_keys=True, ensure_ascii=False).encode()
    return hashlib.sha1(canonical + oid.encode(), usedforsecurity=False).hexdigest()


def names(oid: str, body: dict[str, Any]) -> bool:
    """Whether this is what the file of commit `oid` was written with. Before ids were git's, they were the checksum."""
    said = {key: value for key, value in body.items() if key != "check"}
    return body["check"] == checksum(said, oid) if "check" in body else oid == checksum(said)


# Commits never change, so that reading one once is enough while there is room.
_COMMITS = BoundedCache[Commit](limit=400_000, weigh=lambda commit: 100 + len(commit.tree))  # files: some 100 MB
HEADS = BoundedCache[Head](limit=64 << 20, weigh=lambda head: 1000 + len(head.title) + len(head.message))


def read_commit(path: Path) -> Commit:
    """The commit in this file. Raises OSError, and ValueError, KeyError, TypeError or AttributeError for one that is damaged."""
    return _COMMITS.get(path, lambda: _parsed_commit(path))


def _parsed_commit(path: Path) -> Commit:
    body = json.loads(path.read_bytes())
    tree = {name: Entry(**entry) for name, entry in body.pop("tree").items()}
    git = body.pop("check", None) is not None and not body.pop("foreign", False)
    return Commit(oid=path.stem, tree=tree, git=git, **body)
