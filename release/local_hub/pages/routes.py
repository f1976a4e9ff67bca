"""The pages' addresses, and the headers that keep them from running or loading anything but themselves."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from jinja2 import ChainableUndefined, Environment, FileSystemLoader
from markupsafe import Markup
from starlette.responses import HTMLResponse, RedirectResponse, Response

from release.local_hub.access import standing
from release.local_hub.answers import answer_refusal
from release.local_hub.fields import whole_number
from release.local_hub.forms import form_proof
from release.local_hub.pages import format, views
from release.local_hub.pages.views import Context
from release.local_hub.refusals import Moved, Refusal
from release.local_hub.routes_access import ASK
from release.local_hub.web import Call, json_route

_HERE = Path(__file__).parent
_STYLE = (_HERE / "style.css").read_text()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}

# A card says what it likes, so that any field may be missing or of another type.
_templates = Environment(
    loader=FileSystemLoader(_HERE), autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True
)
_templates.globals["style"] = Markup(_STYLE)  # our own file; quoting it would change its hash
_templates.filters.update(
    size=format.size,
    count=format.count,
    ago=format.ago,
    day=format.day,
    value=format.commas,
    part=lambda text: quote(text, safe=""),
)


def _page(template: str, gather: Callable[[Call], Context]) -> Callable[[Call], Response]:
    """A handler that shows what `gather` finds, or the refusal as a page."""

    def handler(call: Call) -> Response:
        try:
            context = gather(call)
        except Moved:
            raise  # a browser goes there by itself
        except Refusal as refusal:
            return refusal_page(call, refusal)
        return _render(template, call, context)

    return handler


def _render(template: str, call: Call, context: Context, status: int = 200) -> Response:
    shown = {
        "endpoint": call.endpoint,
        "user": call.caller.user,
        "here": call.request.scope["path"],
        "search": "",
        **context,
    }
    return HTMLResponse(_templates.get_template(template).render(shown), status, HEADERS)


def refusal_page(call: Call, refusal: Refusal) -> Response:
    """The same status and headers as a client gets, with an explanation for people."""
    plain = answer_refusal(call.request, refusal)
    page = _render("refusal.jinja", call, {"refusal": refusal}, refusal.status)
    for name in ("x-error-code", "x-error-message"):
        if name in plain.headers:
            page.headers[name] = plain.headers[name]
    return page


def wants_page(call: Call) -> bool:
    return call.request.method == "GET" and "text/html" in call.request.headers.get("accept", "")


def _revision(call: Call) -> str:
    return call.param("revision") if "revision" in call.request.path_params else "main"


def _path(call: Call) -> str:
    return call.param("path").strip("/") if "path" in call.request.path_params else ""


def _namespace(call: Call) -> Context:
    name = call.param("namespace")
    if call.store.accounts.kind_of(name) is None:
        raise Refusal(404, "There is no user or organisation of this name")
    return views.index(call, None, call.store.accounts.spelling(name))


def _card(call: Call) -> Context:
    repository = call.repository()
    return views.card(repository, "main", standing(repository, call.caller), form_proof(call, repository, ASK))


def _talk(call: Call) -> Context:
    repository = call.repository()
    return views.talk(repository, _number(call), barred=standing(repository, call.caller) is not None)


def _number(call: Call) -> int:
    number = whole_number(call.param("number"))
    if number is None:
        raise Refusal(404, "Discussion not found")
    return number


def _leaderboard(call: Call) -> Context:
    from release.local_hub.pages.leaderboard import leaderboard_page  # scorecards' code is read when first asked for

    return leaderboard_page(call)


def _scores(call: Call) -> Context:
    from release.local_hub.pages.scores import scores_page  # as above

    repository = call.repository(content=True)
    if repository.kind != "model":
        raise Refusal(404, "Models have scores")
    return scores_page(repository, _revision(call))


def login(call: Call) -> Response:
    """Ask the browser for a token (as the password), so that private repositories can be looked at."""
    target = call.query.get("next", "/")
    if not target.startswith("/") or target.startswith("//") or "\\" in target:
        target = "/"
    if call.caller.user is not None:
        return RedirectResponse(target, 303)
    page = refusal_page(call, Refusal(401, "Give your user name, and a token as the password"))
    page.headers["WWW-Authenticate"] = 'Basic realm="Slipway Hub", charset="UTF-8"'
    return page


def icon(_: Call) -> Response:
    headers = {**HEADERS, "Cache-Control": "max-age=86400"}
    return Response((_HERE / "icon.svg").read_bytes(), media_type="image/svg+xml", headers=headers)


index = _page("index.jinja", lambda call: views.index(call, None))
kind_index = _page("index.jinja", lambda call: views.index(call, call.kind))
namespace = _page("index.jinja", _namespace)
leaderboard = _page("leaderboard.jinja", _leaderboard)
collections = _page("collections.jinja", views.collections)
collection = _page("collection.jinja", views.collection)
card = _page("card.jinja", _card)
files = _page("files.jinja", lambda call: views.files(call.repository(), _revision(call), _path(call)))
file = _page("file.jinja", lambda call: views.file(call.repository(content=True), _revision(call), _path(call)))
history = _page("history.jinja", lambda call: views.history(call.repository(), _revision(call)))
commit = _page("commit.jinja", lambda call: views.commit(call.repository(content=True), _revision(call)))
scores = _page("scores.jinja", _scores)
talks = _page("talks.jinja", lambda call: views.talks(call.repository()))
talk = _page("talk.jinja", _talk)

_PAGES = [
    ("", card),
    ("/tree/{revision}", files),
    ("/tree/{revision}/{path:path}", files),
    ("/blob/{revision}/{path:path}", file),
    ("/commits/{revision}", history),
    ("/commit/{revision}", commit),
    ("/scores/{revision}", scores),
    ("/discussions", talks),
    ("/discussions/{number}", talk),
]
_METHODS = ("GET", "HEAD")
routes = [
    json_route("/", index, _METHODS),
    json_route("/leaderboard", leaderboard, _METHODS),
    json_route("/login", login, _METHODS),
    json_route("/icon.svg", icon, _METHODS),
    json_route("/{kind:kinds}", kind_index, _METHODS),
    json_route("/collections", collections, _METHODS),
    json_route("/collections/{org}/{slug}", collection, _METHODS),
    *(json_route(f"/{{kind:kinds}}/{{org}}/{{name}}{rest}", handler, _METHODS) for rest, handler in _PAGES),
    json_route("/{namespace}", namespace, _METHODS),
    *(json_route(f"/{{org}}/{{name}}{rest}", handler, _METHODS) for rest, handler in _PAGES),
]
