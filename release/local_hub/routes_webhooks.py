"""Webhooks over HTTP, as huggingface_hub's create_webhook and its like ask; their deliveries, and sending one again."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from release.local_hub.accounts import NAME
from release.local_hub.refusals import Refusal
from release.local_hub.web import Call, json_route
from release.local_hub.webhook_delivery import Delivery
from release.local_hub.webhook_targets import BadTarget, parsed
from release.local_hub.webhooks import DOMAINS, WATCHABLE, Webhook

WATCHED_LIMIT, SECRET_LIMIT = 100, 256


def listing(call: Call) -> Response:
    return JSONResponse([_answer(one) for one in call.deliveries.webhooks.of(call.require_user())])


def details(call: Call) -> Response:
    return JSONResponse({"webhook": _answer(call.deliveries.webhooks.read(call.param("webhook"), call.require_user()))})


def create(call: Call) -> Response:
    owner, fields = _owner(call), _fields(call.json())
    if "url" not in fields or not fields.get("watched"):
        raise Refusal(400, "A webhook has a url, and watches something")
    made = call.deliveries.webhooks.create(owner, {"domains": list(DOMAINS), "secret": None, **fields})
    return JSONResponse({"webhook": _answer(made)})


def change(call: Call) -> Response:
    """What is not named stays; an empty `watched`, which the client sends where none was given, too."""
    owner, fields = _owner(call), _fields(call.json())
    return _edited(call, owner, {key: value for key, value in fields.items() if key != "watched" or value})


def enable(call: Call) -> Response:
    return _edited(call, _owner(call), {"disabled": False})


def disable(call: Call) -> Response:
    return _edited(call, _owner(call), {"disabled": True})


def delete(call: Call) -> Response:
    call.deliveries.webhooks.delete(call.param("webhook"), _owner(call))
    return JSONResponse({"success": True})


def deliveries(call: Call) -> Response:
    """The last deliveries with their payloads, the newest first."""
    hook = call.deliveries.webhooks.read(call.param("webhook"), call.require_user())
    return JSONResponse(call.deliveries.webhooks.log(hook["id"]))


def replay(call: Call) -> Response:
    """Send a payload of the log again."""
    hook = call.deliveries.webhooks.read(call.param("webhook"), _owner(call))
    for entry in call.deliveries.webhooks.log(hook["id"]):
        if entry["id"] == call.param("delivery"):
            call.deliveries.send([Delivery(hook["id"], entry["payload"])])
            return JSONResponse({"success": True}, 202)
    raise Refusal(404, "There is no such delivery in the log")


def _owner(call: Call) -> str:
    user = call.require_user()
    if call.caller.scope != "write":
        raise Refusal(403, "The token has no write scope")
    return user


def _edited(call: Call, owner: str, changes: Webhook) -> Response:
    edited = call.deliveries.webhooks.edit(call.param("webhook"), owner, lambda one: one.update(changes))
    return JSONResponse({"webhook": _answer(edited)})


def _fields(asked: dict[str, Any]) -> Webhook:
    """Those fields of a webhook that a request names, checked."""
    if asked.get("jobSourceId") or asked.get("secrets"):
        raise Refusal(400, "This Hub runs no Jobs; a webhook has a url")
    fields: Webhook = {}
    if asked.get("url") is not None:
        try:
            parsed(str(asked["url"]))
        except BadTarget as error:
            raise Refusal(400, f"This url cannot be a webhook's: {error}") from error
        fields["url"] = str(asked["url"])
    if asked.get("watched") is not None:
        fields["watched"] = _watched(asked["watched"])
    if asked.get("domains") is not None:
        domains = asked["domains"]
        if not isinstance(domains, list) or not domains or not set(map(str, domains)) <= set(DOMAINS):
            raise Refusal(400, f"Domains are some of {', '.join(DOMAINS)}")
        fields["domains"] = [domain for domain in DOMAINS if domain in domains]
    if asked.get("secret") is not None:
        secret = asked["secret"]
        printable = (
            isinstance(secret, str) and len(secret) <= SECRET_LIMIT and secret.isascii() and secret.isprintable()
        )
        if not printable:
            raise Refusal(400, f"A secret is at most {SECRET_LIMIT} printable ASCII characters: it travels in a header")
        fields["secret"] = secret
    return fields


def _watched(asked: Any) -> list[dict[str, str]]:
    if not isinstance(asked, list) or len(asked) > WATCHED_LIMIT:
        raise Refusal(400, f"A webhook watches a list of at most {WATCHED_LIMIT}")
    for item in asked:
        kind, name = (str(item.get("type")), item.get("name")) if isinstance(item, dict) else ("", None)
        parts = 1 if kind in {"user", "org"} else 2
        words = str(name).split("/")
        if kind not in WATCHABLE or len(words) != parts or not all(NAME.fullmatch(word) for word in words):
            raise Refusal(400, f"A watched thing has a type ({', '.join(WATCHABLE)}) and a name of that type")
    return [{"type": item["type"], "name": item["name"]} for item in asked]


def _answer(hook: Webhook) -> dict[str, Any]:
    return {key: hook[key] for key in ("id", "url", "watched", "domains", "secret", "disabled")}


_ONE = "/api/settings/webhooks/{webhook}"
routes = [
    json_route("/api/settings/webhooks", listing),
    json_route("/api/settings/webhooks", create, ("POST",)),
    json_route(_ONE, details),
    json_route(_ONE, change, ("POST",)),
    json_route(_ONE, delete, ("DELETE",)),
    json_route(f"{_ONE}/enable", enable, ("POST",)),
    json_route(f"{_ONE}/disable", disable, ("POST",)),
    json_route(f"{_ONE}/logs", deliveries),
    json_route(f"{_ONE}/replay/{{delivery}}", replay, ("POST",)),
]
