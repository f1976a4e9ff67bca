"""One request to the Hub: who asks, for which repository, with which body; and how handlers become routes.

def repo_info(call: Call) -> Response:                 # runs in a thread, so it may touch the disk
    repository = call.repository()                     # or the refusal that its absence deserves
routes = [json_route("/api/{kind:kinds}/{org}/{name}", repo_info)]
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import logging
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from release.content_digest import DAMAGED, HEADER, content_digest, digest_value
from release.local_hub.access import require_access
from release.local_hub.accounts import ANONYMOUS, Caller
from release.local_hub.fields import parsed, whole_number
from release.local_hub.refusals import Refusal
from release.local_hub.repository import Repository
from release.local_hub.store import Store
from release.local_hub.webhook_delivery import Deliveries
from training.command import explain_os_error

JSON_LIMIT = 2 << 20  # bytes of a request's JSON that is not an upload
STALL_LIMIT = 60.0  # seconds without a byte of a body
POLITENESS = 32 << 20  # bytes that are read past a limit and thrown away before the refusal
_READ_BY_POST = ("/git-upload-pack", "/info/lfs/objects/batch")  # git and git-lfs know no other way to send a token
URL_PREFIX = {"model": "", "dataset": "datasets/", "space": "spaces/"}
log = logging.getLogger("slipway.hub")


class _Kinds(StringConvertor):
    regex = "models|datasets|spaces"


register_url_convertor("kinds", _Kinds())


class Call:
    """A request, with the store it is about and the caller who makes it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        _require_own_name(request)
        self.store: Store = request.app.state.store
        self.caller = _caller(request, self.store)
        self.body = b""

    @property
    def deliveries(self) -> Deliveries:
        """What sends this server's webhooks."""
        found: Deliveries = self.request.app.state.deliveries
        return found

    @property
    def endpoint(self) -> str:
        """This server's address as the client wrote it, for the links in answers."""
        return f"{self.request.url.scheme}://{self.request.url.netloc}"

    @property
    def query(self) -> Any:
        return self.request.query_params

    def param(self, name: str) -> str:
        """A part of the path, decoded: a revision such as refs%2Fpr%2F1 arrives as one part."""
        return unquote(str(self.request.path_params[name]))

    @property
    def kind(self) -> str:
        return self.param("kind").removesuffix("s") if "kind" in self.request.path_params else "model"

    @property
    def repo_id(self) -> str:
        return f"{self.param('org')}/{self.param('name')}"

    def json(self) -> dict[str, Any]:
        """The body as a JSON object; an empty body is an empty object."""
        return parsed(self.body)

    def offers(self, *names: str) -> None:
        """Raises 400 for a parameter of the query that is none of these: an answer as if it had not been asked for misleads."""
        for key in self.query:
            if key.removesuffix("[]") not in names:
                raise Refusal(400, f"This Hub's list does not offer {key[:40]!r}; it knows {', '.join(names)}")

    def number(self, key: str, default: int) -> int:
        """A number of the query. Raises 400 for what is none."""
        text = self.query.get(key)
        found = default if text is None else whole_number(text)
        if found is None:
            raise Refusal(400, f"Not a number: {key}={text[:40]!r}")
        return found

    def repository(self, *, write: bool = False, content: bool = False) -> Repository:
        """The repository in the path. Raises the Hub's refusals for missing, private, gated and foreign ones.

        `content`: the answer has what files say, and not only that they are there.
        """
        return self.find(self.kind, self.repo_id, write=write, content=content)

    def find(self, kind: str, repo_id: str, *, write: bool = False, content: bool = False) -> Repository:
        try:
            repository = self.store.find(kind, repo_id)
        except Refusal:
            repository = None  # a name that no repository can have
        if repository is None or (repository.private and not self.caller.may_read(repository.namespace)):
            raise self.missing()
        if content:
            require_access(repository, self.caller, self.web_url(repository))
        if write:
            self.require_write(repository.namespace, f"write to {kind} {repository.id}")
        return repository

    def missing(self) -> Refusal:
        """Missing and private look the same; to the anonymous both are 401, as a login might help."""
        if self.caller.user is None:
            return Refusal(401, "Invalid username or password.", "RepoNotFound")
        return Refusal(404, "Repository not found", "RepoNotFound")

    def require_user(self) -> str:
        if self.caller.user is None:
            raise Refusal(401, "Invalid username or password.")
        return self.caller.user

    def require_write(self, namespace: str, action: str) -> str:
        """The user's name, if they may write in the namespace with this token."""
        user = self.require_user()
        if not self.caller.may_write(namespace):
            reason = (
                "the token has no write scope" if self.caller.scope != "write" else "it is somebody else's namespace"
            )
            raise Refusal(403, f"You don't have the rights to {action}: {reason}")
        return user

    def require_write_token(self, action: str) -> str:
        """The user's name, if the token may change anything at all."""
        user = self.require_user()
        if self.caller.scope != "write":
            raise Refusal(403, f"You don't have the rights to {action}: the token has no write scope")
        return user

    def web_url(self, repository: Repository) -> str:
        return f"{self.endpoint}/{URL_PREFIX[repository.kind]}{repository.id}"

    def next_link(self, **parameters: str) -> dict[str, str]:
        """The Link header that leads to the next page of this listing."""
        query = [(key, value) for key, value in self.query.multi_items() if key not in parameters]
        text = "&".join(f"{quote(key)}={quote(value, safe='')}" for key, value in [*query, *parameters.items()])
        return {"Link": f'<{self.endpoint}{self.request.scope["path"]}?{text}>; rel="next"'}


def _require_own_name(request: Request) -> None:
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


def _caller(request: Request, store: Store) -> Caller:
    """Who the Authorization header stands for. Raises 401 for a token that is nobody's."""
    header = request.headers.get("authorization")
    if header is None:
        return ANONYMOUS
    token = bearer_token(request)
    basic = token is None and (request.method in {"GET", "HEAD"} or request.url.path.endswith(_READ_BY_POST))
    if basic:
        token = _basic_password(header)
    caller = store.accounts.caller(token) if token else None
    if caller is None:
        raise Refusal(401, "Invalid credentials in Authorization header")
    # A browser remembers what it was told and sends it along from any page, so Basic may only read.
    return replace(caller, scope="read") if basic else caller


def _basic_password(header: str) -> str | None:
    scheme, _, value = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None


Handler = Callable[[Call], Response]
StreamHandler = Callable[[Call], Awaitable[Response]]


def json_route(path: str, handler: Handler, methods: tuple[str, ...] = ("GET",), limit: int = JSON_LIMIT) -> Route:
    """A handler that runs in a thread after its body, at most `limit` bytes, has been read."""

    async def endpoint(request: Request) -> Response:
        call = await run_in_threadpool(Call, request)
        if request.method not in {"GET", "HEAD"}:
            call.body = b"".join([block async for block in body_blocks(request, limit)])
        return await run_in_threadpool(handler, call)

    return Route(path, endpoint, methods=list(methods), name=handler.__name__)


def stream_route(path: str, handler: StreamHandler, methods: tuple[str, ...]) -> Route:
    """A handler that reads its body itself, as it arrives."""

    async def endpoint(request: Request) -> Response:
        return await handler(await run_in_threadpool(Call, request))

    return Route(path, endpoint, methods=list(methods), name=handler.__name__)


async def body_blocks(request: Request, limit: int, block: int = 1 << 20) -> AsyncIterator[bytes]:
    """The body in blocks of about `block` bytes.

    Raises 413 as soon as it is longer than `limit`, 408 where nothing comes for STALL_LIMIT seconds, and 400 at its end
    where it is not what its Content-Digest says.
    """
    waiting, size = bytearray(), 0
    promised, digest = request.headers.get(HEADER, ""), hashlib.sha256()
    declared = int(request.headers.get("content-length") or 0)
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(STALL_LIMIT):
                part = await anext(stream, None)
        except TimeoutError as error:
            raise Refusal(408, "The body stopped coming", headers={"Connection": "close"}) from error
        if part is None:
            break
        size += len(part)
        if max(size, declared) > limit:
            # A client that is cut off in mid-sentence never reads why, so hear it out, within reason.
            if size < min(declared, limit + POLITENESS):
                continue
            raise Refusal(413, f"The body is larger than {limit} bytes", headers={"Connection": "close"})
        if promised.startswith("sha-256="):
            digest.update(part)
        waiting += part
        if len(waiting) >= block:
            yield bytes(waiting)
            waiting.clear()
    if promised.startswith("sha-256=") and promised != digest_value(digest.digest()):
        raise Refusal(400, "The body changed on its way: it is not what its Content-Digest says", DAMAGED)
    if waiting:
        yield bytes(waiting)


async def written(write: Callable[[bytes], Any], blocks: AsyncIterator[bytes]) -> None:
    """Hand each block to `write`, in a thread, while the next one arrives."""
    writing: asyncio.Future[Any] | None = None
    try:
        async for block in blocks:
            if writing is not None:
                await writing
            writing = asyncio.ensure_future(run_in_threadpool(write, block))
    finally:
        if writing is not None:
            await writing


def answer_refusal(_: Request, error: Exception) -> Response:
    """A refusal in the Hub's own shape: headers by which clients choose their exception, and a JSON body."""
    assert isinstance(error, Refusal)
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
    the digest of their body, and keeps those to a token out of caches."""

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
