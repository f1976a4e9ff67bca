"""Lists of repositories over HTTP: what narrows and orders them, and which properties are told.

Nothing is answered as if it had not been asked for: a filter that this Hub does not have is 400.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from starlette.responses import JSONResponse, Response

from release.local_hub.commits import Commit
from release.local_hub.refusals import Refusal
from release.local_hub.repo_info import card_data, list_item, parameter_counts, repo_info, texts
from release.local_hub.repository import Repository, passed_over
from release.local_hub.store import KINDS
from release.local_hub.web import Call, json_route

LIST_PAGE = 1000
SORTS = ("lastModified", "createdAt", "downloads", "likes", "trendingScore")
_COMMON = ("author", "search", "filter", "pipeline_tag", "gated", "sort", "direction", "limit", "cursor")
_MORE = {"full": "siblings", "cardData": "cardData", "config": "config"}  # what asks for it, and the property
_OFFERED = {
    "model": (*_COMMON, *_MORE, "expand", "num_parameters"),
    "dataset": (*_COMMON, *_MORE, "expand"),
    "space": (*_COMMON, *_MORE, "expand", "datasets", "models", "linked"),
}
_BOUND = re.compile(r"(min|max):([0-9]{1,9}(?:\.[0-9]{1,9})?)([KMBT]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}

Found = tuple[Repository, Commit, dict[str, Any]]


def listing(call: Call) -> Response:
    """Repositories that the caller may see."""
    call.offers(*_OFFERED[call.kind])
    key, start, size = call.query.get("sort", "lastModified"), call.number("cursor", 0), call.number("limit", LIST_PAGE)
    if key not in SORTS:
        raise Refusal(400, f"Lists are sorted by {', '.join(SORTS)}")
    found = list(_narrowed(call))
    found.sort(key=lambda one: str(one[2].get(key, "")), reverse=call.query.get("direction", "-1") == "-1")
    end = start + min(size, LIST_PAGE)
    headers = call.next_link(cursor=str(end)) if end < len(found) else {}
    return JSONResponse([_told(call, one) for one in found[start:end]], headers=headers)


def _narrowed(call: Call) -> Iterator[Found]:
    """Those that the caller may see and that every filter lets through."""
    wanted = [*call.query.getlist("filter"), *call.query.getlist("pipeline_tag")]
    tags = {tag for value in wanted for tag in value.split(",")}
    gated, bounds = _gated(call), _bounds(call.query.get("num_parameters"))
    linked = {key: set(call.query.getlist(key)) for key in ("datasets", "models") if call.query.getlist(key)}
    for repository in call.store.repositories(call.kind):
        try:
            if not _named(call, repository):
                continue
            commit = repository.resolve("main")
            item = list_item(repository, commit)
            fits = tags <= {*item["tags"], item.get("pipeline_tag")}
            if gated is not None:
                fits = fits and bool(item["gated"]) == gated
            if bounds is not None:
                count = sum(parameter_counts(repository.blobs, commit.tree).values())
                fits = fits and count > 0 and bounds[0] <= count <= bounds[1]
            if linked:
                card = card_data(repository.blobs, commit.tree)
                fits = fits and all(names & set(texts(card.get(key))) for key, names in linked.items())
        except (Refusal, FileNotFoundError) as error:
            passed_over(repository, error)
            continue
        if fits:
            yield repository, commit, item


def _named(call: Call, repository: Repository) -> bool:
    """Whether the caller may see it, and author and every word of `search` fit its name."""
    author = call.query.get("author", "").lower()
    if author and repository.namespace.lower() != author:
        return False
    words = " ".join(call.query.getlist("search")).lower().split()
    if any(word not in repository.id.lower() for word in words):
        return False
    return call.caller.may_read(repository.namespace) or not repository.private


def _gated(call: Call) -> bool | None:
    said = call.query.get("gated")
    if said is None:
        return None
    if said.lower() not in {"true", "false", "1", "0"}:
        raise Refusal(400, '"gated" must be true or false')
    return said.lower() in {"true", "1"}


def _bounds(said: str | None) -> tuple[float, float] | None:
    """`min:6B,max:128B`, either or both, as numbers of parameters."""
    if said is None:
        return None
    bounds = {"min": 0.0, "max": float("inf")}
    for part in said.split(","):
        found = _BOUND.fullmatch(part.strip())
        if found is None:
            raise Refusal(400, '"num_parameters" is such as min:100M,max:7B')
        bounds[found[1].lower()] = float(found[2]) * _UNITS[found[3].upper()]
    return bounds["min"], bounds["max"]


def _told(call: Call, one: Found) -> dict[str, Any]:
    """What the list says of one: the usual properties and those asked for, or (`expand`) only those asked for."""
    repository, commit, item = one
    only = {value.removesuffix("[]") for value in [*call.query.getlist("expand"), *call.query.getlist("expand[]")]}
    more = {name for key, name in _MORE.items() if call.query.get(key, "").lower() in {"1", "true"}}
    if only or more:
        whole = repo_info(repository, commit)
        if only:
            return {key: value for key, value in whole.items() if key in only | {"_id", "id"}}
        item = item | {key: whole[key] for key in more if key in whole}
    if call.query.get("linked", "").lower() in {"1", "true"}:
        card = card_data(repository.blobs, commit.tree)
        item = item | {key: texts(card.get(key)) for key in ("models", "datasets")}
    return item


def storage(call: Call) -> Response:
    """The repositories of the user, or of an organisation of theirs, the largest first: bytes of the contents of all commits."""
    user = call.require_user()
    owner = call.param("account") if "account" in call.request.path_params else user
    if not call.caller.may_read(owner):
        raise Refusal(403, f"You are no member of {owner}")
    found = []
    for kind in KINDS:
        for repository in call.store.repositories(kind):
            if repository.namespace.lower() == owner.lower():
                try:
                    found.append(_stored(repository))
                except (Refusal, FileNotFoundError) as error:
                    passed_over(repository, error)
    whole = sum(one["storage"] for one in found) or 1
    found.sort(key=lambda one: (-one["storage"], one["id"]))
    return JSONResponse([{**one, "storagePercent": 100 * one["storage"] / whole} for one in found])


def _stored(repository: Repository) -> dict[str, Any]:
    commits = {commit.oid: commit for oid in set(repository.refs().values()) for commit in repository.history(oid)}
    sizes = {entry.sha256: entry.size for commit in commits.values() for entry in commit.tree.values()}
    return {
        "id": repository.id,
        "type": repository.kind,
        "updatedAt": repository.resolve("main").date,
        "visibility": "private" if repository.private else "public",
        "storage": sum(sizes.values()),
    }


routes = [
    json_route("/api/{kind:kinds}", listing),
    json_route("/api/settings/repositories", storage),
    json_route("/api/organizations/{account}/settings/repositories", storage),
]
