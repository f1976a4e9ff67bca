"""Access to gated repositories over HTTP: asked for by users, listed and answered by those who may write there."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, RedirectResponse, Response

from release.local_hub.access import (
    ACCESS_STATUSES,
    REJECTED,
    Request,
    access_requests,
    ask_for_access,
    grant_access,
    set_access,
    standing,
)
from release.local_hub.fields import text
from release.local_hub.forms import is_own_form
from release.local_hub.gate_form import Field, answers, fields_of, filled_in
from release.local_hub.refusals import Refusal
from release.local_hub.repo_info import card_data
from release.local_hub.repository import Repository
from release.local_hub.web import Call, json_route

ASK = "ask-access"


def ask(call: Call) -> Response:
    """The caller's request, with answers to what the card asks of strangers: a program's in JSON by the fields' labels; a
    browser's is the form of the repository's page, to which it returns."""
    repository, user = call.repository(), call.require_user()
    fields = asked_of(repository) if standing(repository, call.caller) == "stranger" else []
    if is_own_form(call, repository, ASK):
        ask_for_access(repository, user, answers(fields, filled_in(call.body, fields)))
        return RedirectResponse(call.web_url(repository), 303)
    if call.caller.login == "write":
        raise Refusal(403, "This form is not of this Hub's own page, or is too old; load the page again")
    if call.caller.scope != "write":
        raise Refusal(403, "Asking for access is a change, and the token has no write scope")
    given = answers(fields, call.json()) if fields else {}
    return JSONResponse({"status": ask_for_access(repository, user, given)["status"]})


def asked_of(repository: Repository) -> list[Field]:
    """What the card on main asks of whoever wants access."""
    return fields_of(card_data(repository.blobs, repository.resolve("main").tree))


def listing(call: Call) -> Response:
    repository, status = call.repository(write=True), call.param("status")
    if not repository.settings.get("gated"):
        raise Refusal(400, "This repository is not gated")
    if status not in ACCESS_STATUSES:
        raise Refusal(400, f"The status is one of {', '.join(ACCESS_STATUSES)}")
    return JSONResponse([_item(request) for request in access_requests(repository, status)])


def _item(request: Request) -> dict[str, Any]:
    user = {"user": request["user"], "fullname": request["user"]}
    kept = {key: request[key] for key in ("requestId", "status", "timestamp")}
    kept |= {"fields": request["fields"]} if "fields" in request else {}
    return {**kept, "user": user} | ({"rejectionReason": request["reason"]} if "reason" in request else {})


def handle(call: Call) -> Response:
    """Accept, reject, or put back among those that wait."""
    repository, asked = call.repository(write=True), call.json()
    name, status = text(asked, "user") or text(asked, "requestId"), text(asked, "status")
    if status not in ACCESS_STATUSES or not name:
        raise Refusal(400, f"An answer has a user or a requestId, and a status: {', '.join(ACCESS_STATUSES)}")
    reason = (text(asked, "rejectionReason") or "")[:1000] if status == REJECTED else None
    return JSONResponse(_item(set_access(repository, name, str(status), reason)))


def grant(call: Call) -> Response:
    repository, user = call.repository(write=True), text(call.json(), "user") or ""
    if call.store.accounts.kind_of(user) != "user":
        raise Refusal(404, f"There is no user {user[:96]!r} on this Hub")
    grant_access(repository, call.store.accounts.spelling(user))
    return JSONResponse({"success": True})


_REPO = "/api/{kind:kinds}/{org}/{name}/user-access-request"
routes = [
    json_route("/{kind:kinds}/{org}/{name}/ask-access", ask, ("POST",)),
    json_route("/{org}/{name}/ask-access", ask, ("POST",)),
    json_route(f"{_REPO}/handle", handle, ("POST",)),
    json_route(f"{_REPO}/grant", grant, ("POST",)),
    json_route(f"{_REPO}/{{status}}", listing),
]
