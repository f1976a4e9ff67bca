"""Trees and commits as git has them: what gives folders and commits their ids, and what `git clone` is sent.

trees(tree)[""].id                      # of a commit's whole tree
git_commit(parent, author, date, title, message, trees(tree)[""].id).id
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Protocol

from dulwich.objects import Commit, ObjectID, Tree

if TYPE_CHECKING:
    from release.local_hub.repository import Commit as HubCommit
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


def in_git(repository: Repository, head: str) -> dict[str, Commit]:
    """Every commit from `head` back to the first, by its id on the Hub, oldest first.

    The ids are git's own, but for commits of stores from before they were; what follows such a commit knows it by git's.
    """
    made: dict[str, Commit] = {}
    chain: list[HubCommit] = list(repository.history(head))
    parent: str | None = None
    for one in reversed(chain):
        root = trees(one.tree)[""].id
        made[one.oid] = git_commit(parent, one.author, one.date, one.title, one.message, root)
        parent = made[one.oid].id.decode()
    return made
