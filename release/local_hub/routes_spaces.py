"""A Space's state: runtime, hardware, variables and the names of its secrets. This Hub keeps it and runs nothing."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from release.local_hub.refusals import Refusal
from release.local_hub.repo_info import runtime
from release.local_hub.repository import Repository, now
from release.local_hub.web import Call, json_route
from release.local_hub.webhook_events import announce


def read_runtime(call: Call) -> Response:
    return JSONResponse(_runtime(_space(call)))


def restart(call: Call) -> Response:
    return _changed(call, stage="RUNNING")


def pause(call: Call) -> Response:
    return _changed(call, stage="PAUSED")


def hardware(call: Call) -> Response:
    asked = call.json()
    changes: dict[str, Any] = {"hardware": str(asked.get("flavor") or "cpu-basic")}
    if "sleepTimeSeconds" in asked:
        changes["sleep_time"] = asked["sleepTimeSeconds"]
    return _changed(call, **changes)


def sleep_time(call: Call) -> Response:
    return _changed(call, sleep_time=call.json().get("seconds"))


def _space(call: Call, *, write: bool = False) -> Repository:
    return call.find("space", call.repo_id, write=write)


def _changed(call: Call, **changes: Any) -> Response:
    space = _space(call, write=True)
    space.change_settings(**changes)
    return JSONResponse(_runtime(space))


def _runtime(space: Repository) -> dict[str, Any]:
    return runtime(space.settings)


def read_variables(call: Call) -> Response:
    return JSONResponse(_space(call, write=True).settings.get("variables", {}))


def read_secrets(call: Call) -> Response:
    """Names and dates only; the values are never kept, as nothing here could use them."""
    return JSONResponse(_space(call, write=True).settings.get("secrets", {}))


def set_variable(call: Call) -> Response:
    asked = call.json()
    return _set(call, "variables", {"value": str(asked.get("value", ""))})


def set_secret(call: Call) -> Response:
    return _set(call, "secrets", {})


def _set(call: Call, group: str, value: dict[str, Any]) -> Response:
    space, asked = _space(call, write=True), call.json()
    kept = {**value, "description": asked.get("description"), "updatedAt": now(), "key": _key(asked)}
    settings = space.edit_settings(lambda settings: settings.setdefault(group, {}).update({kept["key"]: kept}))
    announce(call, space, "update", "repo.config")
    return JSONResponse(settings[group])


def delete_variable(call: Call) -> Response:
    return _delete(call, "variables")


def delete_secret(call: Call) -> Response:
    return _delete(call, "secrets")


def _delete(call: Call, group: str) -> Response:
    space, key = _space(call, write=True), _key(call.json())
    settings = space.edit_settings(lambda settings: settings.setdefault(group, {}).pop(key, None))
    announce(call, space, "update", "repo.config")
    return JSONResponse(settings[group])


def _key(asked: dict[str, Any]) -> str:
    key = asked.get("key")
    if not isinstance(key, str) or not key:
        raise Refusal(400, '"key" is missing')
    return key


_SPACE = "/api/spaces/{org}/{name}"
routes = [
    json_route(f"{_SPACE}/runtime", read_runtime),
    json_route(f"{_SPACE}/restart", restart, ("POST",)),
    json_route(f"{_SPACE}/pause", pause, ("POST",)),
    json_route(f"{_SPACE}/hardware", hardware, ("POST",)),
    json_route(f"{_SPACE}/sleeptime", sleep_time, ("POST",)),
    json_route(f"{_SPACE}/variables", read_variables),
    json_route(f"{_SPACE}/variables", set_variable, ("POST",)),
    json_route(f"{_SPACE}/variables", delete_variable, ("DELETE",)),
    json_route(f"{_SPACE}/secrets", read_secrets),
    json_route(f"{_SPACE}/secrets", set_secret, ("POST",)),
    json_route(f"{_SPACE}/secrets", delete_secret, ("DELETE",)),
]
