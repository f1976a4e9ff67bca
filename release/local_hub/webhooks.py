"""Webhooks: addresses that are told of changes, each in one file that is replaced as a whole, beside what it was sent.

<root>/webhooks/<id>.json         id is 24 hexadecimal digits; the file holds the secret, so the folder is its owner's alone
<root>/webhooks/<id>.log          the last LOG_LENGTH deliveries, with their payloads, to be looked at and sent again
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from release.local_hub.records import read_record, readable, write_record
from release.local_hub.refusals import Refusal
from release.local_hub.repository import now
from release.local_hub.storage import locked, make_folder, read_json, write_json

Webhook = dict[str, Any]
WATCHABLE = ("user", "org", "model", "dataset", "space")
DOMAINS = ("repo", "discussion")
PER_USER, LOG_LENGTH = 100, 50
_ID = re.compile(r"[0-9a-f]{24}")


class Webhooks:
    """The webhooks of a store; `root` is the store's folder."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "webhooks"
        self.lock = root / "webhooks.lock"

    def all(self) -> Iterator[Webhook]:
        """Every webhook, the oldest first."""
        found = [readable(file) for file in self.folder.glob("*.json")]
        yield from sorted((one for one in found if one), key=lambda one: (str(one["created"]), str(one["id"])))

    def of(self, owner: str) -> list[Webhook]:
        return [one for one in self.all() if one["owner"] == owner.lower()]

    def read(self, identity: str, owner: str | None = None) -> Webhook:
        """Raises 404, also for somebody else's where an owner is given."""
        found: Webhook | None = read_record(self._file(identity)) if _ID.fullmatch(identity) else None
        if found is None or (owner is not None and found["owner"] != owner.lower()):
            raise Refusal(404, "Webhook not found")
        return found

    def create(self, owner: str, fields: Webhook) -> Webhook:
        make_folder(self.folder, 0o700)
        with locked(self.lock):
            if len(self.of(owner)) >= PER_USER:
                raise Refusal(403, f"A user has at most {PER_USER} webhooks")
            made = {"id": secrets.token_hex(12), "owner": owner.lower(), "created": now(), "disabled": False, **fields}
            write_record(self._file(made["id"]), made)
            return made

    def edit(self, identity: str, owner: str, change: Callable[[Webhook], None]) -> Webhook:
        """Let `change` change it while nobody else does; the webhook afterwards."""
        with locked(self.lock):
            found = self.read(identity, owner)
            change(found)
            write_record(self._file(identity), found)
            return found

    def delete(self, identity: str, owner: str) -> None:
        with locked(self.lock):
            self._file(self.read(identity, owner)["id"]).unlink()
            self._log(identity).unlink(missing_ok=True)

    def log(self, identity: str) -> list[dict[str, Any]]:
        """Its last deliveries, the newest first."""
        entries: list[dict[str, Any]] = read_json(self._log(identity), [])
        return entries

    def note(self, identity: str, entry: dict[str, Any]) -> None:
        """Put a delivery into the log of a webhook, unless that has been deleted meanwhile."""
        with locked(self.lock):
            if self._file(identity).is_file():
                write_json(self._log(identity), [entry, *self.log(identity)][:LOG_LENGTH])

    def _file(self, identity: str) -> Path:
        return self.folder / f"{identity}.json"

    def _log(self, identity: str) -> Path:
        return self.folder / f"{identity}.log"
