"""Who asks the Hub, and by which of its names: the headers Authorization and Host."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from urllib.parse import urlsplit

from starlette.requests import Request

from release.local_hub.accounts import ANONYMOUS, Caller
from release.local_hub.refusals import Refusal
from release.local_hub.store import Store

_FORMS = ("/ask-access",)  # sent by a page of this Hub, with a proof of it (forms.py)
_READ_BY_POST = ("/git-upload-pack", "/info/lfs/objects/batch")  # git and git-lfs know no other way to send a token


def require_own_name(request: Request) -> None:
    """Raises 421 where the Hub is asked for by a name that is not its own.

    A web page may give its own name this machine's address (DNS rebinding), and its scripts could then read what a Hub on
    loopback shows to everybody. Links in answers bear the name, too.
    """
    answers_to, sent = request.app.state.answers_to, request.headers.get("host")
    if answers_to is None or sent is None:  # HTTP/1.0 knows no names
        return
    try:  # not request.url, which takes the server's address where the header is no proper name, as evil_1.example
        name = urlsplit(f"//{sent}").hostname or ""
    except ValueError as error:  # such as [::1
        raise Refusal(400, "The Host header is no name and no address") from error
    if not answers_to(name):
        raise Refusal(
            421, f"This Hub is not called {name[:100]}; start it with --public-host {name[:100]} if it is to be"
        )


def bearer_token(request: Request) -> str | None:
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else None


def caller_of(request: Request, store: Store) -> Caller:
    """Who the Authorization header stands for. Raises 401 for a token that is nobody's."""
    header = request.headers.get("authorization")
    if header is None:
        return ANONYMOUS
    token = bearer_token(request)
    basic = token is None and (
        request.method in {"GET", "HEAD"} or request.url.path.endswith((*_READ_BY_POST, *_FORMS))
    )
    if basic:
        token = _basic_password(header)
    caller = store.accounts.caller(token) if token else None
    if caller is None:
        raise Refusal(401, "Invalid credentials in Authorization header")
    # A browser remembers what it was told and sends it along from any page, so Basic may only read.
    return replace(caller, scope="read", login=caller.scope) if basic else caller


def _basic_password(header: str) -> str | None:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None
