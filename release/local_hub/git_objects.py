"""Trees and commits as git has them: what gives folders and commits their ids, and what `git clone` is sent.

trees(tree)[""].id                      # of a commit's whole tree
git_commit(parent, author, date, title, message, trees(tree)[""].id).id
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, Protocol

from dulwich.objects import Commit, ObjectID, Tree

if TYPE_CHECKING:
    from release.local_hub.commits import Commit as HubCommit
    from release.local_hub.repository import Repository

FILE, FOLDER = stat.S_IFREG | 0o644, stat.S_IFDIR


class HasOid(Protocol):
    """A file, of which only its git object id matters here."""

    @property
    def oid(self) -> str: ...


def trees(tree: Mapping[str, HasOid]) -> dict[str, Tree]:
    """Every folder of a commit as git's tree object, by its path; the root's path is empty."""
    made = {"": Tree()}
    for path, entry in tree.items():
        folder, _, name = path.rpartition("/")
        above = folder
        while above not in made:
            made[above] = Tree()
            above = above.rpartition("/")[0]
        made[folder].add(name.encode(), FILE, ObjectID(entry.oid.encode()))
    for path in sorted(made, key=lambda path: path.count("/"), reverse=True):  # the id of a tree needs those beneath it
        if path:
            folder, _, name = path.rpartition("/")
            made[folder].add(name.encode(), FOLDER, made[path].id)
    return made


def git_commit(parent: str | None, author: str, date: str, title: str, message: str, tree: ObjectID) -> Commit:
    """A commit as git's object. `date` is ISO 8601 in UTC; git keeps whole seconds of it."""
    made = Commit()
    made.tree = tree
    made.parents = [ObjectID(parent.encode())] if parent else []
    made.author = made.committer = f"{author} <{author}@users.noreply.localhost>".encode()
    made.author_time = made.commit_time = int(datetime.fromisoformat(date).timestamp())
    made.author_timezone = made.commit_timezone = 0
    text = f"{title}\n\n{message}" if message else title
    made.message = text.replace("\0", "\ufffd").encode(errors="replace")
    return made


@dataclass(frozen=True)
class InGit:
    """A commit of the Hub and what git has of it."""

    on_hub: HubCommit
    commit: Commit
    trees: dict[str, Tree]


def in_git(repository: Repository, head: str, known: dict[str, str] | None = None) -> Iterator[InGit]:
    """Every commit from the first to `head` as git has it; of those that are in `known` (id on the Hub -> git's), none.

    The ids are the Hub's own, but for commits of stores from before they were git's; what follows such a commit knows it by git's.
    """
    known = {} if known is None else known
    chain = list(takewhile(lambda commit: commit.oid not in known, repository.history(head)))
    parent = known.get(chain[-1].parent or "") if chain else None
    for one in reversed(chain):
        made = trees(one.tree)
        commit = git_commit(parent, one.author, one.date, one.title, one.message, made[""].id)
        parent = known[one.oid] = commit.id.decode()
        yield InGit(one, commit, made)


def git_id(repository: Repository, commit: HubCommit) -> str:
    """git's id of a commit."""
    return commit.oid if commit.git else [one.commit.id.decode() for one in in_git(repository, commit.oid)][-1]
