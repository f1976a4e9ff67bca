"""A Space's state: runtime, hardware, variables, secrets, logs. Requests only write it down; space_runner.py acts on it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response, StreamingResponse

from release.local_hub.fields import number, text, variable
from release.local_hub.refusals import Refusal
from release.local_hub.repo_info import runtime
from release.local_hub.repository import Repository, now
from release.local_hub.space_log import new_lines
from release.local_hub.space_status import GOING_ON, LOGS, log_file, read_status, set_secret_value
from release.local_hub.web import Call, json_route
from release.local_hub.webhook_events import announce

DESCRIPTION_LIMIT = 1000  # characters
LOG_INTERVAL = 0.5  # seconds between two looks at a log


def read_runtime(call: Call) -> Response:
    return JSONResponse(_runtime(_space(call)))


def restart(call: Call) -> Response:
    space, factory = _space(call, write=True), call.query.get("factory") == "true"

    def again(settings: dict[str, Any]) -> None:
        settings["stage"] = "RUNNING"
        settings["restarts"] = settings.get("restarts", 0) + 1
        if factory:
            settings["rebuilt"] = settings["restarts"]

    space.edit_settings(again)
    return JSONResponse(_runtime(space))


def pause(call: Call) -> Response:
    return _changed(_space(call, write=True), stage="PAUSED")


def hardware(call: Call) -> Response:
    space, asked = _space(call, write=True), call.json()
    changes: dict[str, Any] = {"hardware": text(asked, "flavor", 100) or "cpu-basic"}
    if "sleepTimeSeconds" in asked:
        changes["sleep_time"] = number(asked, "sleepTimeSeconds")
    return _changed(space, **changes)


def sleep_time(call: Call) -> Response:
    return _changed(_space(call, write=True), sleep_time=number(call.json(), "seconds"))


def _space(call: Call, *, write: bool = False) -> Repository:
    return call.by_its_name(call.find("space", call.repo_id, write=write))


def _changed(space: Repository, **changes: Any) -> Response:
    space.change_settings(**changes)
    return JSONResponse(_runtime(space))


def _runtime(space: Repository) -> dict[str, Any]:
    return runtime(space, space.resolve("main").tree, read_status(space))


def read_variables(call: Call) -> Response:
    return JSONResponse(_space(call, write=True).settings.get("variables", {}))


def read_secrets(call: Call) -> Response:
    """Names and dates only: no answer has their values."""
    return JSONResponse(_space(call, write=True).settings.get("secrets", {}))


def set_variable(call: Call) -> Response:
    space, (key, value) = _space(call, write=True), variable(call.json())
    return _set(call, space, "variables", key, {"value": value})


def set_secret(call: Call) -> Response:
    space, (key, value) = _space(call, write=True), variable(call.json())
    set_secret_value(space, key, value)
    return _set(call, space, "secrets", key, {})


def _set(call: Call, space: Repository, group: str, key: str, value: dict[str, Any]) -> Response:
    kept = {**value, "description": text(call.json(), "description", DESCRIPTION_LIMIT), "updatedAt": now(), "key": key}
    settings = space.edit_settings(lambda settings: settings.setdefault(group, {}).update({key: kept}))
    announce(call, space, "update", "repo.config")
    return JSONResponse(settings[group])


def delete_variable(call: Call) -> Response:
    return _delete(call, "variables")


def delete_secret(call: Call) -> Response:
    answer = _delete(call, "secrets")
    set_secret_value(_space(call, write=True), _key(call.json()), None)
    return answer


def read_log(call: Call) -> Response:
    """The build's or the app's log as server-sent events, for those who may write; it goes on while the Space runs."""
    space = _space(call, write=True)
    if call.param("log") not in LOGS:
        raise Refusal(404, f"There is no such log; there are {' and '.join(LOGS)}")
    return StreamingResponse(_events(space, call.param("log")), media_type="text/event-stream")


async def _events(space: Repository, kind: str) -> AsyncIterator[str]:
    """Each line as an event in the Hub's form. A log that begins anew is read from its start."""
    place = 0
    while True:
        status = await run_in_threadpool(read_status, space)
        ended = status is None or status.stage not in GOING_ON
        lines, place = await run_in_threadpool(new_lines, log_file(space, kind), place)
        for line in lines:
            yield f"data: {json.dumps({'data': line.text, 'timestamp': line.timestamp})}\n\n"
        if ended and not lines:
            return
        await asyncio.sleep(LOG_INTERVAL)


def _delete(call: Call, group: str) -> Response:
    space, key = _space(call, write=True), _key(call.json())
    settings = space.edit_settings(lambda settings: settings.setdefault(group, {}).pop(key, None))
    announce(call, space, "update", "repo.config")
    return JSONResponse(settings[group])


def _key(asked: dict[str, Any]) -> str:
    key = text(asked, "key")
    if not key:
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
    json_route(f"{_SPACE}/logs/{{log}}", read_log),
]
