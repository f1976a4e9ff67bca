"""Collections: named lists of repositories, each in one file that is replaced as a whole.

    <root>/collections/<id>.json     id is 24 hexadecimal digits, the last part of the collection's slug

Who may write in a collection's namespace may change it. A private one is seen by those who may read its namespace.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from release.local_hub.refusals import Conflict, Refusal
from release.local_hub.repository import now
from release.local_hub.storage import locked, make_folder, read_json, write_json

Collection = dict[str, Any]
ITEM_TYPES = ("model", "dataset", "space")
ITEMS_LIMIT = 1000
DESCRIPTION_LIMIT, NOTE_LIMIT, TITLE_LIMIT = 150, 500, 60
_ID = re.compile(r"[0-9a-f]{24}")


class Collections:
    """The collections of a store; `root` is the store's folder."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "collections"
        self.lock = root / "collections.lock"

    def all(self) -> Iterator[Collection]:
        """Every collection, the newest change first."""
        found = [read_json(file) for file in self.folder.glob("*.json")]
        yield from sorted((one for one in found if one), key=lambda one: str(one["updated"]), reverse=True)

    def read(self, slug: str) -> Collection:
        """Raises 404. A slug without its id is no slug; its words in front are for people."""
        identity = slug.rpartition("-")[2]
        found: Collection | None = read_json(self._file(identity)) if _ID.fullmatch(identity) else None
        if found is None or found["namespace"].lower() != slug.partition("/")[0].lower():
            raise Refusal(404, "Collection not found")
        return found

    def create(self, namespace: str, title: str, description: str | None, *, private: bool) -> Collection:
        """Raises Conflict, whose message is the slug, where the namespace has one of this title."""
        make_folder(self.folder)
        with locked(self.lock):
            for one in self.all():
                if (one["namespace"].lower(), one["title"]) == (namespace.lower(), title):
                    raise Conflict(slug_of(one))
            identity = secrets.token_hex(12)
            made: Collection = {"id": identity, "namespace": namespace, "title": title, "description": description}
            made |= {"private": private, "position": 0, "theme": "indigo", "items": [], "updated": now()}
            write_json(self._file(identity), made)
            return made

    def edit(self, slug: str, change: Callable[[Collection], None]) -> Collection:
        """Let `change` change it while nobody else does; the collection afterwards."""
        with locked(self.lock):
            found = self.read(slug)
            change(found)
            found["updated"] = now()
            for position, item in enumerate(found["items"]):
                item["position"] = position
            write_json(self._file(found["id"]), found)
            return found

    def delete(self, slug: str) -> None:
        with locked(self.lock):
            self._file(self.read(slug)["id"]).unlink()

    def _file(self, identity: str) -> Path:
        return self.folder / f"{identity}.json"


def slug_of(collection: Collection) -> str:
    """`namespace/words-of-the-title-id`."""
    words = re.sub(r"[^a-z0-9]+", "-", collection["title"].lower()).strip("-")[:60]
    return f"{collection['namespace']}/{words or 'collection'}-{collection['id']}"


def add_item(collection: Collection, kind: str, repo_id: str, note: str | None) -> None:
    """Raises Conflict where it is in there, and 403 where the collection is full."""
    if find_item(collection, kind, repo_id) is not None:
        raise Conflict(f"{repo_id} is in this collection already")
    if len(collection["items"]) >= ITEMS_LIMIT:
        raise Refusal(403, f"A collection has at most {ITEMS_LIMIT} items")
    collection["items"].append({"_id": secrets.token_hex(12), "id": repo_id, "type": kind, "note": note})


def find_item(collection: Collection, kind: str, repo_id: str) -> dict[str, Any] | None:
    wanted = (kind, repo_id.lower())
    return next((item for item in collection["items"] if (item["type"], item["id"].lower()) == wanted), None)


def item_by_id(collection: Collection, identity: str) -> dict[str, Any]:
    for item in collection["items"]:
        if item["_id"] == identity:
            found: dict[str, Any] = item
            return found
    raise Refusal(404, "There is no such item in this collection")
