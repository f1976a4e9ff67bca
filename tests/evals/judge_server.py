"""A small chat endpoint on loopback that judges answers by a rule, and the moderation and Perspective protocols beside it."""

from __future__ import annotations

import contextlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SIDES = re.compile(r"<answer_A>\n(.*?)\n</answer_A>.*<answer_B>\n(.*?)\n</answer_B>", re.DOTALL)
Reply = tuple[int, dict[str, Any], dict[str, str]]  # status, body, headers


@dataclass
class Service:
    """`asked` holds (path, body, headers) of every request; `fail_first` requests get a 503 before the answers begin."""

    url: str
    asked: list[tuple[str, dict[str, Any], dict[str, str]]] = field(default_factory=list)
    fail_first: int = 0


@contextlib.contextmanager
def service(reply: Callable[[str, dict[str, Any], dict[str, str]], Reply]) -> Iterator[Service]:
    """Answer every POST by `reply(path, body, headers)` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            headers = {name.lower(): value for name, value in self.headers.items()}
            made.asked.append((self.path, body, headers))
            if made.fail_first:
                made.fail_first -= 1
                self._send(503, {"error": "busy"}, {"Retry-After": "0"})
            else:
                self._send(*reply(self.path, body, headers))

        def _send(self, code: int, value: dict[str, Any], headers: dict[str, str]) -> None:
            content = json.dumps(value).encode()
            self.send_response(code)
            for name, text in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, text)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Service(f"http://127.0.0.1:{server.server_address[1]}/v1")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def judging(verdict: Callable[[str, str], str], key: str | None = None) -> Callable[..., Reply]:
    """A judge that writes `verdict(a, b)`, and knows one key."""

    def reply(_path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        given = headers.get("authorization", "")
        if key is not None and given != f"Bearer {key}":
            return 401, {"error": f"wrong key: {given}"}, {}
        found = SIDES.search(body["messages"][-1]["content"])
        assert found
        text = verdict(found.group(1), found.group(2))
        return 200, {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}, {}

    return reply
