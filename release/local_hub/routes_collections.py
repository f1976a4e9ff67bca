"""Collections over HTTP, as huggingface_hub's create_collection, add_collection_item and their like ask."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from release.local_hub.collections import (
    DESCRIPTION_LIMIT,
    ITEM_TYPES,
    NOTE_LIMIT,
    TITLE_LIMIT,
    Collection,
    Collections,
    add_item,
    item_by_id,
    slug_of,
)
from release.local_hub.fields import flag, number, text
from release.local_hub.refusals import Conflict, Refusal
from release.local_hub.web import Call, json_route

SORTS = ("lastModified", "trending", "upvotes")  # nobody votes here, so that all are the first
LISTED_ITEMS = 4  # of each collection in a list, as on the Hub


def listing(call: Call) -> Response:
    """`owner` and `item` (`models/org/name`) narrow it; each may be given several times. The newest change comes first."""
    call.offers("owner", "item", "sort", "limit")
    if call.query.get("sort", SORTS[0]) not in SORTS:
        raise Refusal(400, f"Collections are sorted by {', '.join(SORTS)}")
    owners = {owner.lower() for owner in call.query.getlist("owner")}
    wanted = {item.lower() for item in call.query.getlist("item")}
    answers = [one for one in visible(call) if not owners or one["owner"]["name"].lower() in owners]
    # Of what the caller may see: else it would tell whether a private repository is in a collection.
    answers = [
        answer
        for answer in answers
        if not wanted or wanted & {f"{item['type']}s/{item['id']}".lower() for item in answer["items"]}
    ]
    answers = answers[: call.number("limit", len(answers))]
    for answer in answers:
        answer["items"] = answer["items"][:LISTED_ITEMS]
        del answer["position"]  # the client counts these itself
    return JSONResponse(answers)


def visible(call: Call) -> list[dict[str, Any]]:
    """The collections that the caller may see, with those of their items that they may see."""
    return [answer_of(call, one) for one in _collections(call).all() if _may_see(call, one)]


def details(call: Call) -> Response:
    return JSONResponse(answer_of(call, readable(call)))


def create(call: Call) -> Response:
    asked = call.json()
    namespace = call.store.accounts.spelling(text(asked, "namespace") or call.require_user())
    call.require_write(namespace, f"create a collection under the namespace {namespace}")
    title, description = text(asked, "title", TITLE_LIMIT), text(asked, "description", DESCRIPTION_LIMIT)
    if not title:
        raise Refusal(400, "A collection has a title")
    try:
        made = _collections(call).create(namespace, title, description, private=flag(asked, "private") is True)
    except Conflict as error:
        message = f"{namespace} has a collection of this title"
        return JSONResponse({"error": message, "slug": error.message}, 409, {"X-Error-Message": message})
    return JSONResponse(answer_of(call, made))


def change(call: Call) -> Response:
    asked, slug = call.json(), _writable(call)
    changes: dict[str, Any] = {
        key: text(asked, key, limit)
        for key, limit in (("title", TITLE_LIMIT), ("description", DESCRIPTION_LIMIT), ("theme", 40))
        if asked.get(key) is not None
    }
    private, position = flag(asked, "private"), number(asked, "position")
    changes |= {} if private is None else {"private": private}
    changes |= {} if position is None else {"position": position}
    return JSONResponse({"data": answer_of(call, _collections(call).edit(slug, lambda one: one.update(changes)))})


def delete(call: Call) -> Response:
    _collections(call).delete(_writable(call))
    return JSONResponse({"success": True})


def add(call: Call) -> Response:
    slug, asked = _writable(call), call.json()
    item = asked.get("item")
    kind, repo_id = (text(item, key) or "" for key in ("type", "id")) if isinstance(item, dict) else ("", "")
    if kind not in ITEM_TYPES:
        raise Refusal(400, f"This Hub's collections hold models, datasets and Spaces, not {kind[:40]!r}")
    spelt, note = call.find(kind, repo_id).id, text(asked, "note", NOTE_LIMIT)
    made = _collections(call).edit(slug, lambda one: add_item(one, kind, spelt, note))
    return JSONResponse(answer_of(call, made))


def change_item(call: Call) -> Response:
    slug, identity, asked = _writable(call), call.param("item"), call.json()
    note, position = text(asked, "note", NOTE_LIMIT), number(asked, "position")

    def edit(collection: Collection) -> None:
        item = item_by_id(collection, identity)
        if note is not None:
            item["note"] = note
        if position is not None:
            collection["items"].remove(item)
            collection["items"].insert(max(0, position), item)

    return JSONResponse({"data": answer_of(call, _collections(call).edit(slug, edit))})


def delete_item(call: Call) -> Response:
    slug, identity = _writable(call), call.param("item")
    _collections(call).edit(slug, lambda one: one["items"].remove(item_by_id(one, identity)))
    return JSONResponse({"success": True})


def _collections(call: Call) -> Collections:
    return Collections(call.store.root)


def _may_see(call: Call, collection: Collection) -> bool:
    return not collection["private"] or call.caller.may_read(collection["namespace"])


def readable(call: Call) -> Collection:
    """Raises 404 also for a private one that the caller may not see."""
    found = _collections(call).read(f"{call.param('org')}/{call.param('slug')}")
    if not _may_see(call, found):
        raise Refusal(404, "Collection not found")
    return found


def _writable(call: Call) -> str:
    """The slug of a collection that the caller may change."""
    found = readable(call)
    call.require_write(found["namespace"], "change this collection")
    return slug_of(found)


def answer_of(call: Call, one: Collection) -> dict[str, Any]:
    """With those items that the caller may see: a repository that was made private or deleted is not told of."""
    items: list[dict[str, Any]] = []
    for item in one["items"]:
        repository = call.found(item["type"], item["id"])
        if repository is not None:
            note = {"text": item["note"]} if item["note"] else None
            told = {"id": repository.id, "repoType": item["type"], "note": note, "position": len(items)}
            items.append({**item, **told})
    kind = call.store.accounts.kind_of(one["namespace"])
    return {
        "slug": slug_of(one),
        "title": one["title"],
        "description": one["description"],
        "owner": {"name": one["namespace"], "type": "org" if kind == "organisation" else "user"},
        "items": items,
        "lastUpdated": one["updated"],
        "position": one["position"],
        "private": one["private"],
        "theme": one["theme"],
        "upvotes": 0,
    }


_ONE = "/api/collections/{org}/{slug}"
routes = [
    json_route("/api/collections", listing),
    json_route("/api/collections", create, ("POST",)),
    json_route(_ONE, details),
    json_route(_ONE, change, ("PATCH",)),
    json_route(_ONE, delete, ("DELETE",)),
    json_route(f"{_ONE}/items", add, ("POST",)),
    json_route(f"{_ONE}/items/{{item}}", change_item, ("PATCH",)),
    json_route(f"{_ONE}/items/{{item}}", delete_item, ("DELETE",)),
]
