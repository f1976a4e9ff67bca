"""Repositories as wholes: who am I, create, delete, move, settings and information."""

from __future__ import annotations

from typing import Any

from starlette.responses import JSONResponse, Response

from release.local_hub.fields import Fields, choice, flag, number, objects, text, variable
from release.local_hub.refusals import Conflict, Refusal
from release.local_hub.repo_info import repo_info
from release.local_hub.repository import Repository, now
from release.local_hub.store import KINDS, split_id
from release.local_hub.web import Call, json_route
from release.local_hub.webhook_events import announce, announcement

SDKS = ("gradio", "docker", "static", "streamlit")


def who_am_i(call: Call) -> Response:
    user = call.require_user()
    organisations = [{"type": "org", "id": name, "name": name, "fullname": name} for name in call.caller.organisations]
    return JSONResponse(
        {
            "type": "user",
            "id": user.lower(),
            "name": user,
            "fullname": user,
            "isPro": False,
            "canPay": False,
            "orgs": [{**org, "roleInOrg": "write", "isEnterprise": False} for org in organisations],
            "auth": {
                "type": "access_token",
                "accessToken": {"displayName": call.caller.token_name, "role": call.caller.scope},
            },
        }
    )


def create(call: Call) -> Response:
    asked = call.json()
    kind = text(asked, "type") or "model"
    if kind not in KINDS:
        raise Refusal(400, f"This Hub keeps models, datasets and Spaces, not {kind[:40]!r}")
    user = call.require_user()
    name, namespace = text(asked, "name") or "", text(asked, "organization") or user
    split_id(f"{namespace}/{name}")
    call.require_write(namespace, f"create a {kind} under the namespace {namespace}")
    settings: dict[str, Any] = {"private": _asks_private(asked) is True}
    secret_values: dict[str, str] = {}
    if kind == "space":
        space, secret_values = _space_settings(asked)
        settings |= space
    return _created(call, kind, f"{namespace}/{name}", user, secret_values=secret_values, **settings)


def duplicate(call: Call) -> Response:
    """A copy of all branches and tags under another name. Its content is shared, so that nothing is pending; whoever had to be let
    in to the original has to be to the copy."""
    source, asked = call.repository(content=True), call.json()
    new_id = text(asked, "repository") or ""
    namespace, _ = split_id(new_id)
    user = call.require_write(namespace, f"create a {source.kind} under the namespace {namespace}")
    private, there = _asks_private(asked), source.settings
    settings: dict[str, Any] = {
        "private": source.private if private is None else private,
        "gated": there.get("gated", False),
    }
    secret_values: dict[str, str] = {}
    if source.kind == "space":
        space, secret_values = _space_settings({**asked, "sdk": there.get("sdk")})
        settings |= space if "variables" in asked else {**space, "variables": there.get("variables", {})}
    return _created(call, source.kind, new_id, user, secret_values=secret_values, copy_of=source, **settings)


def _created(call: Call, kind: str, repo_id: str, user: str, **settings: Any) -> Response:
    try:
        repository = call.store.create_repository(kind, repo_id, user, **settings)
    except Conflict as error:
        existing = call.find(kind, repo_id)
        body = {"error": error.message, "url": call.web_url(existing)}
        return JSONResponse(body, 409, {"X-Error-Message": error.message})
    announce(call, repository, "create", "repo")
    return JSONResponse({"url": call.web_url(repository), "name": repository.id, "id": repository.folder.name})


def _space_settings(asked: Fields) -> tuple[Fields, dict[str, str]]:
    """What a new Space is told, and the values of its secrets, which are kept elsewhere."""
    sdk = choice(asked, "sdk", SDKS)
    if sdk is None:
        raise Refusal(400, f"A Space needs an sdk: {', '.join(SDKS)}")
    if asked.get("volumes") or asked.get("template"):
        raise Refusal(400, "This Hub's Spaces have no volumes and no templates")
    settings: Fields = {"sdk": sdk, "hardware": text(asked, "hardware", 100) or "cpu-basic"}
    if "sleepTimeSeconds" in asked:
        settings["sleep_time"] = number(asked, "sleepTimeSeconds")
    given: dict[str, dict[str, str]] = {}
    for group in ("variables", "secrets"):
        found = objects(asked, group)
        given[group] = dict(variable(item) for item in found)
        settings[group] = {
            item["key"]: {"key": item["key"], "description": text(item, "description"), "updatedAt": now()}
            for item in found
        }
    for key, value in given["variables"].items():
        settings["variables"][key]["value"] = value
    return settings, given["secrets"]


def delete(call: Call) -> Response:
    asked = call.json()
    namespace = text(asked, "organization") or call.require_user()
    repository = _by_its_own_name(call, text(asked, "type"), f"{namespace}/{text(asked, 'name')}")
    told = announcement(call, repository, "delete", "repo")
    call.store.delete_repository(repository)
    call.deliveries.send(told)
    return JSONResponse({"success": True})


def move(call: Call) -> Response:
    asked = call.json()
    new_id = call.store.spelt_id(text(asked, "toRepo") or "")
    repository = _by_its_own_name(call, text(asked, "type"), text(asked, "fromRepo") or "")
    namespace, _ = split_id(new_id)
    call.require_write(namespace, f"move a repository to the namespace {namespace}")
    told = announcement(call, repository, "move", "repo", moved_to=new_id)
    call.store.move_repository(repository, new_id)
    call.deliveries.send(told)
    return JSONResponse({"success": True, "name": new_id})


def _by_its_own_name(call: Call, kind: str | None, repo_id: str) -> Repository:
    """The repository that is to go or to be called otherwise. Raises 404 for a name that it bore once: whoever cleans up after
    themselves by an old name does not mean what has become of it since."""
    repository = call.find(kind or "model", repo_id, write=True)
    if repository.id.lower() != repo_id.lower():
        raise Refusal(404, f"{repo_id} was moved and is {repository.id} now; say that name", "RepoNotFound")
    return repository


def change_settings(call: Call) -> Response:
    repository, asked = call.repository(write=True), call.json()
    changes: dict[str, Any] = {}
    private = _asks_private(asked)
    if private is not None:
        changes["private"] = private
    if "gated" in asked:
        if asked["gated"] is not False and asked["gated"] not in ("auto", "manual"):
            raise Refusal(400, '"gated" must be false, "auto" or "manual"')
        changes["gated"] = asked["gated"]
    repository.change_settings(**changes)
    announce(call, repository, "update", "repo.config")
    settings = repository.settings
    return JSONResponse({"private": settings["private"], "gated": settings["gated"]})


def _asks_private(asked: dict[str, Any]) -> bool | None:
    """`visibility` (public, private, protected) or the older `private`; None if neither is there."""
    visibility = choice(asked, "visibility", ("public", "private"))
    return flag(asked, "private") if visibility is None else visibility == "private"


def information(call: Call) -> Response:
    repository = call.repository()
    revision = call.param("revision") if "revision" in call.request.path_params else "main"
    with_blobs = call.query.get("blobs", "").lower() in {"1", "true"}
    return JSONResponse(repo_info(repository, repository.resolve(revision), with_blobs=with_blobs))


def check_access(call: Call) -> Response:
    call.repository(write=call.request.url.path.endswith("/write"), content=True)
    return JSONResponse({})


def overview(call: Call) -> Response:
    """A user or an organisation, and how much of theirs the caller may see."""
    name = call.param("account")
    kind = call.store.accounts.kind_of(name)
    if kind is None:
        raise Refusal(404, "There is no user or organisation of this name")
    counts = {
        f"num{word}s": sum(
            repository.namespace.lower() == name.lower() and call.may_see(repository)
            for repository in call.store.repositories(word.lower())
        )
        for word in ("Model", "Dataset", "Space")
    }
    spelt = call.store.accounts.spelling(name)
    names = {"user": spelt, "name": spelt, "fullname": spelt, "avatarUrl": "", "isPro": False}
    return JSONResponse({**names, "type": kind, **counts, "orgs": []})


routes = [
    json_route("/api/whoami-v2", who_am_i),
    json_route("/api/repos/create", create, ("POST",)),
    json_route("/api/repos/delete", delete, ("DELETE",)),
    json_route("/api/repos/move", move, ("POST",)),
    json_route("/api/users/{account}/overview", overview),
    json_route("/api/organizations/{account}/overview", overview),
    json_route("/api/{kind:kinds}/{org}/{name}", information),
    json_route("/api/{kind:kinds}/{org}/{name}/revision/{revision}", information),
    json_route("/api/{kind:kinds}/{org}/{name}/settings", change_settings, ("PUT",)),
    json_route("/api/{kind:kinds}/{org}/{name}/duplicate", duplicate, ("POST",)),
    json_route("/api/{kind:kinds}/{org}/{name}/auth-check", check_access),
    json_route("/api/{kind:kinds}/{org}/{name}/auth-check/write", check_access),
]
