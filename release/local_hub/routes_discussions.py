"""Discussions and pull requests over HTTP."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from release.local_hub import discussions
from release.local_hub.access import standing
from release.local_hub.fields import choice, flag, text, whole_number
from release.local_hub.file_diffs import git_diff
from release.local_hub.refusals import Refusal
from release.local_hub.repository import MAIN, Repository
from release.local_hub.web import Call, json_route
from release.local_hub.webhook_events import announce

PAGE = 50
STATUSES = ("open", "closed")


def listing(call: Call) -> Response:
    repository = call.repository()
    call.offers("type", "status", "author", "p")
    found = discussions.read_all(repository)
    kind, status, author = (call.query.get(key) for key in ("type", "status", "author"))
    if kind not in (None, "all", "discussion", "pull_request") or status not in (None, "all", *STATUSES):
        raise Refusal(400, '"type" is all, discussion or pull_request, "status" all, open or closed')
    if kind in {"discussion", "pull_request"}:
        found = [item for item in found if item["pull_request"] == (kind == "pull_request")]
    if status in STATUSES:
        found = [item for item in found if (item["status"] in discussions.UNDECIDED) == (status == "open")]
    if author:
        found = [item for item in found if item["author"].lower() == author.lower()]
    start = call.number("p", 0) * PAGE
    items = [_summary(repository, item) for item in found[start : start + PAGE]]
    return JSONResponse({"discussions": items, "count": len(found), "start": start})


def _summary(repository: Repository, item: dict[str, Any]) -> dict[str, Any]:
    return {
        "num": item["num"],
        "title": item["title"],
        "author": {"name": item["author"]},
        "createdAt": item["created"],
        "status": item["status"],
        "isPullRequest": item["pull_request"],
        "repo": {"name": repository.id, "type": repository.kind},
    }


def details(call: Call) -> Response:
    repository = call.repository()
    item = discussions.read(repository, _number(call))
    answer = {**_summary(repository, item), "events": list(item["events"])}
    if item["pull_request"]:
        answer["changes"] = {"base": "refs/heads/main", "mergeCommitId": item["merged"]}
        undecided = item["status"] in discussions.UNDECIDED
        answer["filesWithConflicts"] = discussions.conflicting_files(repository, item["num"]) if undecided else []
        answer["events"] += _commit_events(repository, item["num"])
        before, changed = discussions.proposed_changes(repository, item["num"])
        barred = standing(repository, call.caller) is not None
        answer["diff"] = git_diff(repository.blobs, before, changed, barred=barred)
    return JSONResponse(answer)


def _commit_events(repository: Repository, number: int) -> list[dict[str, Any]]:
    """The commits of a pull request that are not on main, oldest first."""
    refs = repository.refs()
    on_main = {commit.oid for commit in repository.heads(refs["refs/heads/main"])}
    events: list[dict[str, Any]] = []
    for commit in repository.heads(refs[f"refs/pr/{number}"]):
        if commit.oid in on_main:
            break
        data = {"subject": commit.title, "oid": commit.oid}
        author = {"name": commit.author}
        events.append({"id": commit.oid, "type": "commit", "createdAt": commit.date, "author": author, "data": data})
    return events[::-1]


def create(call: Call) -> Response:
    repository, user, asked = call.repository(), _writer(call), call.json()
    title, words, pull_request = _text(asked, "title")[:300], text(asked, "description"), flag(asked, "pullRequest")
    number = discussions.open_discussion(repository, user, title, words or "", pull_request=pull_request is True)
    announce(call, repository, "create", "discussion", number=number)
    return JSONResponse({"num": number, "pullRequest": pull_request is True, "url": call.web_url(repository)})


def comment(call: Call) -> Response:
    repository, user = call.repository(), _writer(call)
    data = discussions.comment_data(_text(call.json(), "comment"))
    number = _number(call)
    event = discussions.add_event(repository, number, user, "comment", data)
    announce(call, repository, "create", "discussion.comment", number=number, comment=event)
    return JSONResponse({"newMessage": event})


def edit_comment(call: Call) -> Response:
    """For the comment's author."""
    repository, user, number, identity = call.repository(), _writer(call), _number(call), call.param("comment")
    if discussions.comment_of(repository, number, identity)["author"]["name"] != user:
        raise Refusal(403, "Only its author edits a comment")
    words = _text(call.json(), "content")
    return _comment_changed(call, repository, discussions.edit_comment(repository, number, identity, user, words))


def hide_comment(call: Call) -> Response:
    """For the comment's author and for those who may write to the repository."""
    repository, user, number, identity = call.repository(), _writer(call), _number(call), call.param("comment")
    if discussions.comment_of(repository, number, identity)["author"]["name"] != user:
        call.require_write(repository.namespace, "hide this comment")
    return _comment_changed(call, repository, discussions.hide_comment(repository, number, identity, user))


def _comment_changed(call: Call, repository: Repository, event: dict[str, Any]) -> Response:
    announce(call, repository, "update", "discussion.comment", number=_number(call), comment=event)
    return JSONResponse({"updatedComment": event})


def change_title(call: Call) -> Response:
    repository, user, number = *_owned(call), _number(call)
    title, old = _text(call.json(), "title")[:300], discussions.read(repository, number)["title"]
    event = discussions.add_event(repository, number, user, "title-change", {"from": old, "to": title}, title=title)
    announce(call, repository, "update", "discussion", number=number)
    return JSONResponse({"newTitle": event})


def change_status(call: Call) -> Response:
    repository, user, asked = *_owned(call), call.json()
    status, words = choice(asked, "status", STATUSES), text(asked, "comment")
    if status is None:
        raise Refusal(400, '"status" must be open or closed')
    number = _number(call)
    event = discussions.change_status(repository, number, user, status)
    if words:
        discussions.add_event(repository, number, user, "comment", discussions.comment_data(words))
    announce(call, repository, "update", "discussion", number=number)
    return JSONResponse({"newStatus": event})


def merge(call: Call) -> Response:
    repository = call.repository(write=True)
    number = _number(call)
    commit = discussions.merge(repository, number, call.require_user(), text(call.json(), "comment") or "")
    announce(call, repository, "update", "discussion", number=number)
    announce(call, repository, "update", "repo.content", refs=[(MAIN, commit.parent, commit.oid)])
    return JSONResponse({"success": True, "commitOid": commit.oid})


def _writer(call: Call) -> str:
    """Anyone with a write token may open a discussion in a repository that they can read."""
    user = call.require_user()
    if call.caller.scope != "write":
        raise Refusal(403, "The token has no write scope")
    return user


def _owned(call: Call) -> tuple[Repository, str]:
    """For the author of the discussion and for those who may write to the repository."""
    repository, user = call.repository(), _writer(call)
    if discussions.read(repository, _number(call))["author"] != user:
        call.require_write(repository.namespace, "change this discussion")
    return repository, user


def _number(call: Call) -> int:
    number = whole_number(call.param("number"))
    if number is None:
        raise Refusal(404, "Discussion not found", "EntryNotFound")
    return number


def _text(asked: dict[str, Any], key: str) -> str:
    value = (text(asked, key) or "").strip()
    if not value:
        raise Refusal(400, f'"{key}" is missing')
    return value


_BASE = "/api/{kind:kinds}/{org}/{name}/discussions"
routes = [
    json_route(_BASE, listing),
    json_route(_BASE, create, ("POST",)),
    json_route(f"{_BASE}/{{number}}", details),
    json_route(f"{_BASE}/{{number}}/comment", comment, ("POST",)),
    json_route(f"{_BASE}/{{number}}/comment/{{comment}}/edit", edit_comment, ("POST",)),
    json_route(f"{_BASE}/{{number}}/comment/{{comment}}/hide", hide_comment, ("POST",)),
    json_route(f"{_BASE}/{{number}}/title", change_title, ("POST",)),
    json_route(f"{_BASE}/{{number}}/status", change_status, ("POST",)),
    json_route(f"{_BASE}/{{number}}/merge", merge, ("POST",)),
]
