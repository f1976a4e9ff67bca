"""Gated repositories: everybody may see that they are there, only members and those who were let in get their files.

require_access(repository, caller, url)                              # raises GatedRepo, 401 or 403
ask_for_access(repository, "visitor")                                # `auto` accepts at once, `manual` waits
set_access(repository, "visitor", ACCEPTED)

Who asked, and what was answered, lies under `access` in repo.json, by the user's name in lower case.
"""

from __future__ import annotations

import secrets
from typing import Any

from release.local_hub.accounts import Caller
from release.local_hub.refusals import Conflict, Refusal
from release.local_hub.repository import Repository, now

PENDING, ACCEPTED, REJECTED = "pending", "accepted", "rejected"
ACCESS_STATUSES = (PENDING, ACCEPTED, REJECTED)
Request = dict[
    str, Any
]  # requestId, user, status, timestamp; fields that were filled in, and a rejection's reason, where there are


def require_access(repository: Repository, caller: Caller, url: str) -> None:
    """Raises the Hub's GatedRepo for those who may not have the content: 401 before a login, 403 after it.

    `url`: the repository's page, which says how to ask.
    """
    status = standing(repository, caller)
    restricted = f"Access to {repository.kind} {repository.id} is restricted"
    if status == "anonymous":
        raise Refusal(401, f"{restricted}: log in with a token of a user who has been let in.", "GatedRepo")
    if status == PENDING:
        raise Refusal(403, f"Your request to access {repository.kind} {repository.id} awaits its authors.", "GatedRepo")
    if status == REJECTED:
        raise Refusal(403, f"{restricted}: its authors have rejected your request.", "GatedRepo")
    if status is not None:
        raise Refusal(403, f"{restricted} and you are not in the authorized list. Visit {url} to ask.", "GatedRepo")


def standing(repository: Repository, caller: Caller) -> str | None:
    """How somebody stands who may not have the content: `anonymous`, `pending`, `rejected`, or `stranger`, who may ask.

    None for those who may have it.
    """
    settings = repository.settings
    if not settings.get("gated") or caller.may_read(repository.namespace):
        return None
    if caller.user is None:
        return "anonymous"
    status = settings.get("access", {}).get(caller.user.lower(), {}).get("status", "stranger")
    return None if status == ACCEPTED else str(status)


def access_requests(repository: Repository, status: str) -> list[Request]:
    """The requests of a status, oldest first."""
    found = repository.settings.get("access", {}).values()
    return sorted((item for item in found if item["status"] == status), key=lambda item: str(item["timestamp"]))


def ask_for_access(repository: Repository, user: str, fields: dict[str, Any] | None = None) -> Request:
    """A user's own request, as it stands afterwards, with what they filled in. Asking again undoes no rejection and changes no
    answer. Raises 400 where nothing is gated."""

    def ask(settings: dict[str, Any]) -> None:
        mode = _mode(settings)
        request = _request_of(settings, user)
        if fields:
            request.setdefault("fields", fields)
        if mode == "auto" and request["status"] == PENDING:
            request["status"] = ACCEPTED

    asked: Request = repository.edit_settings(ask)["access"][user.lower()]
    return asked


def set_access(repository: Repository, name: str, status: str, reason: str | None = None) -> Request:
    """Answer the request of a user or with an id. Raises 404 where there is none, 409 where the answer stands already."""
    answered: list[Request] = []

    def answer(settings: dict[str, Any]) -> None:
        _mode(settings)
        known = settings.get("access", {})
        request = known.get(name.lower()) or next((item for item in known.values() if item["requestId"] == name), None)
        if request is None:
            raise Refusal(404, "There is no such request for access", "EntryNotFound")
        if request["status"] == status:
            raise Conflict(f"This request is {status} already")
        request |= {"status": status, "timestamp": now()}
        request.pop("reason", None)
        if reason:
            request["reason"] = reason
        answered.append(request)

    repository.edit_settings(answer)
    return answered[0]


def grant_access(repository: Repository, user: str) -> None:
    """Let a user in, asked or not. Raises 409 where they are in already."""

    def grant(settings: dict[str, Any]) -> None:
        _mode(settings)
        request = _request_of(settings, user)
        if request["status"] == ACCEPTED:
            raise Conflict(f"{user} has access already")
        request |= {"status": ACCEPTED, "timestamp": now()}
        request.pop("reason", None)

    repository.edit_settings(grant)


def _mode(settings: dict[str, Any]) -> str:
    if not settings.get("gated"):
        raise Refusal(400, "This repository is not gated")
    return str(settings["gated"])


def _request_of(settings: dict[str, Any], user: str) -> Request:
    """The user's request among the settings, a new one if need be."""
    new = {"requestId": secrets.token_hex(12), "user": user, "status": PENDING, "timestamp": now()}
    request: Request = settings.setdefault("access", {}).setdefault(user.lower(), new)
    return request
