"""Discussions and pull requests of a repository; a pull request is a ref `refs/pr/N` that can be merged.

number, commit = open_pull_request(repository, MAIN, changes, author="a", title="Fix the card")
merge(repository, number, author="b")
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import Any

from release.local_hub.commits import Commit
from release.local_hub.records import create_record, read_record, readable, write_record
from release.local_hub.refusals import Conflict, Refusal
from release.local_hub.repository import MAIN, Repository, now
from release.local_hub.storage import locked, make_folder
from release.local_hub.tree import Change, Delete, Entry, Put, Tree, changed_paths

LOCK = "discussions.lock"  # in the repository's folder: numbers are given and statuses change under it
UNDECIDED = ("open", "draft")
_PULL_REF = re.compile(r"refs/pr/([0-9]{1,9})")
Changes = dict[str, Entry | None]  # path -> the entry afterwards, None where it was removed


def open_pull_request(
    repository: Repository,
    base: str,
    changes: Sequence[Change],
    *,
    author: str,
    title: str,
    message: str = "",
    parent: str | None = None,
) -> tuple[int, Commit]:
    """A pull request with one commit on top of `base`; its number and that commit.

    Its ref is there before it is itself: a kill in between leaves a number that nobody gets, and no pull request without files.
    """
    with locked(repository.folder / LOCK):
        number = _next_number(repository)
        commit = repository.commit(
            base,
            changes,
            author=author,
            title=title,
            message=message,
            parent=parent,
            create_ref=f"refs/pr/{number}",
        )
        _write_new(repository, number, author, title, message, status="open", pull_request=True)
    return number, commit


def open_discussion(repository: Repository, author: str, title: str, text: str, *, pull_request: bool) -> int:
    """A discussion, or an empty pull request whose ref starts at main, a draft until its status is made open."""
    with locked(repository.folder / LOCK):
        number = _next_number(repository)
        if pull_request:
            repository.create_ref(f"refs/pr/{number}", repository.refs()[MAIN])
        status = "draft" if pull_request else "open"
        _write_new(repository, number, author, title, text, status=status, pull_request=pull_request)
    return number


def opened_by(repository: Repository, revision: str, user: str | None) -> bool:
    """Whether `revision` is the ref of a pull request that the user opened and that is not closed or merged."""
    found = _PULL_REF.fullmatch(revision)
    if found is None or user is None or revision not in repository.refs():
        return False
    discussion = read(repository, int(found[1]))
    return bool(discussion["author"] == user and discussion["status"] in UNDECIDED)


def read(repository: Repository, number: int) -> dict[str, Any]:
    """Raises Refusal 404."""
    found: dict[str, Any] | None = read_record(repository.folder / "discussions" / f"{number}.json")
    if found is None:
        raise Refusal(404, "Discussion not found", "EntryNotFound")
    return found


def read_all(repository: Repository) -> list[dict[str, Any]]:
    """Newest first."""
    numbers = sorted((int(file.stem) for file in (repository.folder / "discussions").glob("[0-9]*.json")), reverse=True)
    found = [readable(repository.folder / "discussions" / f"{number}.json") for number in numbers]
    return [one for one in found if one is not None]


def add_event(repository: Repository, number: int, author: str, kind: str, data: dict[str, Any], **changes: Any) -> Any:
    """Append an event (comment, title-change) and change fields of the discussion; the event."""
    with locked(repository.folder / LOCK):
        return _append(repository, read(repository, number), _event(author, kind, data), changes)


def change_status(repository: Repository, number: int, author: str, status: str) -> dict[str, Any]:
    """Open or close; the event. Raises 400 for what was merged."""
    with locked(repository.folder / LOCK):
        discussion = read(repository, number)
        if discussion["status"] == "merged":
            raise Refusal(400, "It has been merged")
        event = _event(author, "status-change", {"status": status})
        return _append(repository, discussion, event, {"status": status})


def _append(
    repository: Repository, discussion: dict[str, Any], event: dict[str, Any], changes: dict[str, Any]
) -> dict[str, Any]:
    """Write the discussion with one more event, under its lock."""
    events = [*discussion["events"], event]
    file = repository.folder / "discussions" / f"{discussion['num']}.json"
    write_record(file, {**discussion, **changes, "events": events})
    return event


def comment_of(repository: Repository, number: int, identity: str) -> dict[str, Any]:
    """The comment of that id. Raises Refusal 404."""
    events = read(repository, number)["events"]
    found = next((event for event in events if event["type"] == "comment" and event["id"] == identity), None)
    if found is None:
        raise Refusal(404, "Comment not found", "EntryNotFound")
    comment: dict[str, Any] = found
    return comment


def edit_comment(repository: Repository, number: int, identity: str, editor: str, text: str) -> dict[str, Any]:
    """Replace a comment's text; what it said before stays in its history. Raises 400 where it is hidden."""
    return _change_comment(repository, number, identity, lambda old: _edited(old, editor, text))


def hide_comment(repository: Repository, number: int, identity: str, by: str) -> dict[str, Any]:
    """Remove a comment's text for good, its history as well; that there was one stays."""
    hidden = {**comment_data("This comment has been hidden"), "hidden": True, "hiddenBy": by}
    return _change_comment(repository, number, identity, lambda _: hidden)


def _edited(old: dict[str, Any], editor: str, text: str) -> dict[str, Any]:
    if old["hidden"]:
        raise Refusal(400, "A hidden comment cannot be edited")
    latest = {**comment_data(text)["latest"], "author": {"name": editor}}
    return {**old, "edited": True, "latest": latest, "history": [*old["history"], old["latest"]]}


def _change_comment(
    repository: Repository, number: int, identity: str, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    with locked(repository.folder / LOCK):
        changed = comment_of(repository, number, identity)
        changed = {**changed, "data": change(changed["data"])}
        discussion = read(repository, number)
        events = [changed if event["id"] == identity else event for event in discussion["events"]]
        write_record(repository.folder / "discussions" / f"{number}.json", {**discussion, "events": events})
    return changed


def merge(repository: Repository, number: int, author: str, comment: str = "") -> Commit:
    """Bring a pull request's changes to main. Raises Conflict when main has changed the same files otherwise.

    Where a kill came between the commit and the note that it was merged, that commit is noted and none is made.
    """
    with locked(repository.folder / LOCK):
        discussion = read(repository, number)
        if discussion["status"] == "draft":
            raise Refusal(400, "It is a draft: change its status to open, and then merge it")
        if not discussion["pull_request"] or discussion["status"] != "open":
            raise Refusal(400, "Only an open pull request can be merged")
        main, head = repository.resolve(MAIN), repository.resolve(f"refs/pr/{number}")
        changes = conflict_free_changes(repository, main, head)
        title = f"{discussion['title']} (#{number})"
        commit = None if changes else _on_main(repository, main, head, title)
        if commit is None:
            commit = repository.commit(MAIN, changes, author=author, title=title, message=comment, parent=main.oid)
        event = _event(author, "status-change", {"status": "merged"})
        _append(repository, discussion, event, {"status": "merged", "merged": commit.oid})
    return commit


def _on_main(repository: Repository, main: Commit, head: Commit, title: str) -> Commit | None:
    """The commit of that title that main got since `head` left it, if there is one."""
    on_head = {commit.oid for commit in repository.heads(head.oid)}
    since = takewhile(lambda commit: commit.oid not in on_head, repository.heads(main.oid))
    found = next((commit.oid for commit in since if commit.title == title), None)
    return repository.commit_of(found) if found else None


def conflict_free_changes(repository: Repository, main: Commit, head: Commit) -> list[Change]:
    """What `head` changed since it left main. Raises Conflict naming the files that main changed otherwise."""
    wanted, meanwhile = _changes_since_base(repository, main, head)
    clashes = _clashes(wanted, meanwhile)
    if clashes:
        raise Conflict(f"main has changed the same files: {', '.join(clashes[:10])}")
    new = {path: entry for path, entry in wanted.items() if path not in meanwhile}
    return [Delete(path) if entry is None else Put(path, entry) for path, entry in new.items()]


def proposed_changes(repository: Repository, number: int) -> tuple[Tree, Changes]:
    """The files where the pull request left main, and what it changes of them; of one that was merged, too."""
    main, head = repository.resolve(MAIN), repository.resolve(f"refs/pr/{number}")
    before = _base(repository, main, head)
    return before, changed_paths(before, head.tree)


def conflicting_files(repository: Repository, number: int) -> list[str]:
    """The files for which a merge of the pull request would be refused."""
    return _clashes(*_changes_since_base(repository, repository.resolve(MAIN), repository.resolve(f"refs/pr/{number}")))


def _changes_since_base(repository: Repository, main: Commit, head: Commit) -> tuple[Changes, Changes]:
    """What `head` and `main` have each changed since they parted."""
    before = _base(repository, main, head)
    return changed_paths(before, head.tree), changed_paths(before, main.tree)


def _base(repository: Repository, main: Commit, head: Commit) -> Tree:
    """The files of the last commit that `head` and `main` share."""
    on_main = {commit.oid for commit in repository.heads(main.oid)}
    base = next((commit.oid for commit in repository.heads(head.oid) if commit.oid in on_main), None)
    return repository.commit_of(base).tree if base else {}


def _clashes(wanted: Changes, meanwhile: Changes) -> list[str]:
    return sorted(path for path in wanted.keys() & meanwhile.keys() if wanted[path] != meanwhile[path])


def _next_number(repository: Repository) -> int:
    pulls = [int(ref.rpartition("/")[2]) for ref in repository.refs() if ref.startswith("refs/pr/")]
    talks = [int(file.stem) for file in (repository.folder / "discussions").glob("[0-9]*.json")]
    return max([0, *pulls, *talks]) + 1


def _write_new(
    repository: Repository, number: int, author: str, title: str, text: str, *, status: str, pull_request: bool
) -> None:
    make_folder(repository.folder / "discussions")
    discussion = {
        "num": number,
        "title": title,
        "author": author,
        "created": now(),
        "status": status,
        "pull_request": pull_request,
        "merged": None,
        "events": [_comment(author, text)],
    }
    create_record(repository.folder / "discussions" / f"{number}.json", discussion)


def _comment(author: str, text: str) -> dict[str, Any]:
    return _event(author, "comment", comment_data(text))


def comment_data(text: str) -> dict[str, Any]:
    latest = {"raw": text, "html": "", "updatedAt": now(), "author": {"name": ""}}
    return {"edited": False, "hidden": False, "latest": latest, "history": []}


def _event(author: str, kind: str, data: dict[str, Any]) -> dict[str, Any]:
    identity = secrets.token_hex(12)
    return {"id": identity, "type": kind, "createdAt": now(), "author": {"name": author}, "data": data}
