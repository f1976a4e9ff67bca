"""Answers of the Hub: refusals and failures in its own shape, and what every answer carries."""

from __future__ import annotations

import logging
import uuid

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from release.content_digest import HEADER, content_digest
from release.local_hub.refusals import Moved, Refusal
from training.command import explain_os_error

# Which other sites may show an answer in their pages (an image, a script): a browser sends its login along, and that something
# loads, or does not, would tell them what is private here. Only public files are free of it.
RESOURCE_POLICY = "Cross-Origin-Resource-Policy"

log = logging.getLogger("slipway.hub")


def answer_refusal(_: Request, error: Exception) -> Response:
    """A refusal in the Hub's own shape: headers by which clients choose their exception, and a JSON body."""
    assert isinstance(error, Refusal)
    if isinstance(error, Moved):
        return PlainTextResponse(error.message, error.status, error.headers)
    headers = {**error.headers, "X-Error-Message": _header_safe(error.message)}
    if error.code:
        headers["X-Error-Code"] = error.code
    return JSONResponse({"error": error.message.encode(errors="replace").decode()}, error.status, headers)


def answer_os_error(request: Request, error: Exception) -> Response:
    """A full disk is 507: nothing was stored, and the client may try again when there is room."""
    assert isinstance(error, OSError)
    known = explain_os_error(error)
    if known is not None and "space" in known.what:
        return answer_refusal(request, Refusal(507, "No space left on the Hub's disk; nothing of this was stored"))
    log.error("%s %s failed: %s", request.method, request.scope["path"], error)
    return answer_refusal(request, Refusal(500, "The Hub's storage failed; its log says how"))


def answer_disconnect(_request: Request, _error: Exception) -> Response:
    """The client went away in mid-upload; nobody reads this answer."""
    return Response(status_code=499)


def answer_bug(_request: Request, _error: Exception) -> Response:
    """Anything else is a fault of this server, whose log has the traceback."""
    return JSONResponse(
        {"error": "The Hub has failed; its log says how"}, 500, {"X-Error-Message": "The Hub has failed"}
    )


class HubMiddleware:
    """Routes by the path as it was sent, so that %2F stays within its part; numbers every answer, gives the short ones
    the digest of their body, and keeps those to a token out of caches and all out of other sites' pages."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path = scope.get("raw_path", scope["path"].encode()).split(b"?")[0].decode("latin-1")
        scope = {**scope, "path": path}
        request_id = uuid.uuid4().hex

        with_token = any(name == b"authorization" for name, _ in scope["headers"])
        begun: Message | None = None

        async def send_numbered(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", []), (b"x-request-id", request_id.encode())]
                if with_token and not any(name.lower() == b"cache-control" for name, _ in headers):
                    headers.append((b"cache-control", b"private, no-store"))
                if not any(name.lower() == RESOURCE_POLICY.lower().encode() for name, _ in headers):
                    headers.append((RESOURCE_POLICY.lower().encode(), b"same-origin"))
                begun = {**message, "headers": headers}
                return
            if begun is not None:
                if (
                    message["type"] == "http.response.body"
                    and not message.get("more_body")
                    and scope["method"] != "HEAD"
                ):
                    digest = content_digest(message.get("body", b""))
                    begun["headers"].append((HEADER.lower().encode(), digest.encode()))
                await send(begun)
                begun = None
            await send(message)

        await self.app(scope, receive, send_numbered)


def _header_safe(text: str) -> str:
    return "".join(char if 32 <= ord(char) < 127 else "?" for char in text)[
        :1000
    ].strip()  # h11 sends no space at an end


ERROR_HANDLERS = {
    Refusal: answer_refusal,
    OSError: answer_os_error,
    ClientDisconnect: answer_disconnect,
    Exception: answer_bug,
}
