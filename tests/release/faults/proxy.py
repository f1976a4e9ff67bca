"""A proxy on loopback between a publisher and its Hub, which does one thing wrong with the requests it is told to.

    with Proxy() as proxy:
        proxy.upstreams = ("127.0.0.1:8484",)                # with several, requests go to them in turn
        proxy.inject(drop, at=7)                            # the seventh request from now on, and no other
        proxy.inject(drop, at=("promoted", "POST */commit/main"))   # the first of that step which is such a one
        proxy.inject(answers(503), at=7, lasting=True)          # it and every one after it

A fault is a function of the request and of `forward`, which sends a request on; it returns the answer that the
publisher gets, or None to close the connection without one.
"""

from __future__ import annotations

import http.client
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "proxy-connection"}


@dataclass(frozen=True)
class Request:
    number: int  # counted from the last `inject`, beginning with 1
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    step: str  # what the publisher was doing


@dataclass(frozen=True)
class Answer:
    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    length: int | None = None  # what Content-Length says where it is not the body's own
    sent: int | None = None  # bytes of the body after which the connection is closed


Place = int | tuple[str, str]  # a request by its number, or by its step and a pattern of its method and path
Fault = Callable[[Request, Callable[[Request], Answer]], Answer | None]


class Proxy:
    """Forwards everything to one of `upstreams`, passing over those that do not listen.

    `seen` are the requests since the last `inject`.
    """

    def __init__(self, step: Callable[[], str] = lambda: "") -> None:
        self.upstreams: tuple[str, ...] = ()
        self.step = step
        self.seen: list[Request] = []
        self.hit: Request | None = None  # the first that the fault was done to
        self._fault: Fault | None = None
        self._at: Place = 0
        self._lasting = False
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def inject(self, fault: Fault | None, at: Place = 1, *, lasting: bool = False) -> None:
        """Count from 1 again and do `fault` to the request `at`, or also (`lasting`) to all that come after it."""
        with self._lock:
            self.seen, self.hit, self._fault, self._at, self._lasting = [], None, fault, at, lasting

    def handle(self, method: str, path: str, headers: tuple[tuple[str, str], ...], body: bytes) -> Answer | None:
        with self._lock:
            request = Request(len(self.seen) + 1, method, path, headers, body, self.step())
            self.seen.append(request)
            is_first = self.hit is None and _is_at(request, self._at)
            fault = self._fault if is_first or (self._lasting and self.hit is not None) else None
            if is_first:
                self.hit = request
        return fault(request, self.forward) if fault else self.forward(request)

    def forward(self, request: Request) -> Answer:
        """The Hub's answer. The Host header stays, so that links in answers lead through the proxy."""
        connection = self._connect(request.number)
        try:
            connection.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in HOP_BY_HOP:
                    connection.putheader(name, value)
            if request.body or request.method not in {"GET", "HEAD"}:
                connection.putheader("Content-Length", str(len(request.body)))
            connection.endheaders(request.body or None)
            response = connection.getresponse()
            headers = tuple(header for header in response.getheaders() if header[0].lower() not in HOP_BY_HOP)
            length = response.getheader("Content-Length") if request.method == "HEAD" else None
            return Answer(response.status, headers, response.read(), int(length) if length else None)
        finally:
            connection.close()

    def _connect(self, turn: int) -> http.client.HTTPConnection:
        """Raises ConnectionRefusedError where nobody listens."""
        for number in range(turn, turn + len(self.upstreams)):
            connection = http.client.HTTPConnection(self.upstreams[number % len(self.upstreams)], timeout=60)
            try:
                connection.connect()
            except ConnectionRefusedError:
                continue
            return connection
        raise ConnectionRefusedError(f"nobody listens at {' or '.join(self.upstreams)}")


def _is_at(request: Request, place: Place) -> bool:
    if isinstance(place, int):
        return request.number == place
    return request.step == place[0] and fnmatch(f"{request.method} {request.path}", place[1])


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: Proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed close their connections in mid-sentence: nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer goes out whole
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _handle(self) -> None:
        proxy = self.server.proxy
        answer = proxy.handle(self.command, self.path, tuple(self.headers.items()), self._body())
        if answer is None:
            self._hang_up()
            return
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            self.send_header(name, value)
        if answer.status not in {204, 304}:
            self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        self.end_headers()
        self.wfile.write(answer.body[: answer.sent])
        self.wfile.flush()
        if answer.sent is not None:
            self._hang_up()

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            body = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return body
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _hang_up(self) -> None:
        """A reset, as when the other side's machine is gone; what was written may or may not arrive."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = _handle


def flipped(data: bytes) -> bytes:
    """The bytes with one bit in their middle changed."""
    changed = bytearray(data)
    if changed:
        changed[len(changed) // 2] ^= 1
    return bytes(changed)


def with_body(request: Request, body: bytes) -> Request:
    return replace(request, body=body)
