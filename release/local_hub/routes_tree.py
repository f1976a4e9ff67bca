"""Files and history of a revision: tree, paths-info, refs, commits, and the branches and tags themselves."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any
from urllib.parse import parse_qs

from starlette.responses import JSONResponse, Response

from release.local_hub.bounded_cache import BoundedCache
from release.local_hub.commits import Commit, Head, head_of
from release.local_hub.fields import text
from release.local_hub.refusals import EntryNotFound, Refusal
from release.local_hub.repo_info import pointer_size
from release.local_hub.repository import Repository
from release.local_hub.tree import Entry, changed_paths, folders
from release.local_hub.web import Call, json_route
from release.local_hub.webhook_events import announce

TREE_PAGE = 1000
COMMITS_PAGE = 50
PATHS_LIMIT = 100_000  # of which one request of JSON_LIMIT bytes hardly holds more


def tree(call: Call) -> Response:
    """Files and folders of a folder, `recursive` or not; further pages by a Link header."""
    repository = call.repository()
    commit = repository.resolve(call.param("revision"))
    folder = call.param("path").strip("/") if "path" in call.request.path_params else ""
    known = folders(commit.tree)
    if folder and folder not in known:
        raise EntryNotFound(folder, commit.oid)
    prefix = f"{folder}/" if folder else ""
    recursive = call.query.get("recursive", "").lower() in {"1", "true"}
    paths = sorted(
        path
        for path in [*commit.tree, *known]
        if path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])
    )
    after = call.query.get("cursor", "")
    page = [path for path in paths if path > after]
    headers = {"X-Repo-Commit": commit.oid}
    if len(page) > TREE_PAGE:
        page = page[:TREE_PAGE]
        headers |= call.next_link(cursor=page[-1])
    last = last_commits(repository, commit) if call.query.get("expand", "").lower() in {"1", "true"} else None
    return JSONResponse([describe(path, commit, known, last) for path in page], headers=headers)


def paths_info(call: Call) -> Response:
    """The same for chosen paths; those that are not there are left out."""
    repository = call.repository()
    commit = repository.resolve(call.param("revision"))
    if "json" in call.request.headers.get("content-type", ""):
        asked: dict[str, Any] = call.json()
    else:
        try:
            asked = parse_qs(call.body.decode(errors="replace"), max_num_fields=PATHS_LIMIT + 10)
        except ValueError as error:
            raise _too_many_paths() from error
    wanted = asked.get("paths", [])
    paths = [str(path).strip("/") for path in (wanted if isinstance(wanted, list) else [wanted])]
    if len(paths) > PATHS_LIMIT:
        raise _too_many_paths()
    known = folders(commit.tree)
    expand = str(asked.get("expand")).strip("[']").lower() in {"1", "true"}
    last = last_commits(repository, commit) if expand else None
    there = [path for path in dict.fromkeys(paths) if path in commit.tree or path in known]
    return JSONResponse([describe(path, commit, known, last) for path in there])


def _too_many_paths() -> Refusal:
    return Refusal(413, f"At most {PATHS_LIMIT:,} paths are looked up at once; ask for the tree, or several times")


def describe(
    path: str, commit: Commit, known: Mapping[str, str], last: Mapping[str, Head] | None = None
) -> dict[str, Any]:
    entry = commit.tree.get(path)
    if entry is None:
        item: dict[str, Any] = {"type": "directory", "oid": known[path], "size": 0, "path": path}
    else:
        item = {"type": "file", "oid": entry.oid, "size": entry.size, "path": path, **_lfs(entry)}
    if last is not None and path in last:
        item["lastCommit"] = {"id": last[path].oid, "title": last[path].title, "date": last[path].date}
    return item


def _lfs(entry: Entry) -> dict[str, Any]:
    if not entry.lfs:
        return {}
    return {"lfs": {"oid": entry.sha256, "size": entry.size, "pointerSize": pointer_size(entry)}}


_LAST = BoundedCache[dict[str, Head]](limit=400_000, weigh=lambda found: 100 + len(found))


def last_commits(repository: Repository, commit: Commit) -> Mapping[str, Head]:
    """Path -> the commit that last changed it; for a folder, that last changed anything beneath it."""
    return _LAST.get((repository.folder, commit.oid), lambda: _last_commits(repository, commit))


def _last_commits(repository: Repository, commit: Commit) -> dict[str, Head]:
    open_paths, found = set(commit.tree), dict[str, Head]()
    for step in repository.history(commit.oid):
        before, head = repository.commit_of(step.parent).tree if step.parent else {}, head_of(step)
        for path in changed_paths(before, step.tree).keys() & open_paths:
            open_paths.discard(path)
            found[path] = head
            parts = path.split("/")
            for count in range(1, len(parts)):
                found.setdefault("/".join(parts[:count]), head)
        if not open_paths:
            break
    return found


def refs(call: Call) -> Response:
    groups: dict[str, list[dict[str, str]]] = {"branches": [], "converts": [], "tags": [], "pullRequests": []}
    names = {"heads": "branches", "convert": "converts", "tags": "tags", "pr": "pullRequests"}
    for ref, oid in sorted(call.repository().refs().items()):
        _, group, name = ref.split("/", 2)
        groups[names[group]].append({"name": name, "ref": ref, "targetCommit": oid})
    if not call.query.get("include_prs"):
        del groups["pullRequests"]
    return JSONResponse(groups)


def commits(call: Call) -> Response:
    repository = call.repository()
    history = list(repository.heads(repository.resolve(call.param("revision")).oid))
    page = call.number("p", 0)
    formatted = "formatted" in call.query.getlist("expand[]") + call.query.getlist("expand")
    shown = history[page * COMMITS_PAGE : (page + 1) * COMMITS_PAGE]
    headers = {"X-Total-Count": str(len(history))}
    if (page + 1) * COMMITS_PAGE < len(history):
        headers |= call.next_link(p=str(page + 1))
    return JSONResponse([_commit_item(commit, formatted) for commit in shown], headers=headers)


def _commit_item(commit: Head, formatted: bool) -> dict[str, Any]:
    item: dict[str, Any] = {
        "id": commit.oid,
        "title": commit.title,
        "message": commit.message,
        "authors": [{"user": commit.author, "avatar": ""}],
        "date": commit.date,
    }
    if formatted:
        item["formatted"] = {"title": escape(commit.title), "message": escape(commit.message)}
    return item


def create_branch(call: Call) -> Response:
    repository, asked = call.repository(write=True), call.json()
    start = repository.resolve(text(asked, "startingPoint") or "main")
    ref = f"refs/heads/{call.param('branch')}"
    repository.create_ref(ref, start.oid)
    announce(call, repository, "update", "repo.content", refs=[(ref, None, start.oid)])
    return JSONResponse({"success": True})


def delete_branch(call: Call) -> Response:
    return _delete_ref(call, f"refs/heads/{call.param('branch')}")


def _delete_ref(call: Call, ref: str) -> Response:
    repository = call.repository(write=True)
    before = repository.refs().get(ref)
    repository.delete_ref(ref)
    announce(call, repository, "update", "repo.content", refs=[(ref, before, None)])
    return JSONResponse({"success": True})


def create_tag(call: Call) -> Response:
    repository, asked = call.repository(write=True), call.json()
    name, message = text(asked, "tag"), text(asked, "message")
    if not name:
        raise Refusal(400, '"tag" is missing')
    target = repository.resolve(call.param("revision"))
    repository.create_ref(f"refs/tags/{name}", target.oid, message or None)
    announce(call, repository, "update", "repo.content", refs=[(f"refs/tags/{name}", None, target.oid)])
    return JSONResponse({"success": True})


def delete_tag(call: Call) -> Response:
    return _delete_ref(call, f"refs/tags/{call.param('revision')}")


def super_squash(call: Call) -> Response:
    repository = call.repository(write=True)
    ref, title = f"refs/heads/{call.param('branch')}", text(call.json(), "message") or "Super-squash branch"
    before, made = repository.refs().get(ref), repository.squash(ref, call.require_user(), title)
    announce(call, repository, "update", "repo.content", refs=[(ref, before, made.oid)])
    return JSONResponse({"success": True})


_REPO = "/api/{kind:kinds}/{org}/{name}"
routes = [
    json_route(f"{_REPO}/tree/{{revision}}", tree),
    json_route(f"{_REPO}/tree/{{revision}}/{{path:path}}", tree),
    json_route(f"{_REPO}/paths-info/{{revision}}", paths_info, ("POST",)),
    json_route(f"{_REPO}/refs", refs),
    json_route(f"{_REPO}/commits/{{revision}}", commits),
    json_route(f"{_REPO}/branch/{{branch}}", create_branch, ("POST",)),
    json_route(f"{_REPO}/branch/{{branch}}", delete_branch, ("DELETE",)),
    json_route(f"{_REPO}/tag/{{revision}}", create_tag, ("POST",)),
    json_route(f"{_REPO}/tag/{{revision}}", delete_tag, ("DELETE",)),
    json_route(f"{_REPO}/super-squash/{{branch}}", super_squash, ("POST",)),
]
