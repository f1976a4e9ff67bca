"""A stub that speaks Text Generation Inference's protocol, and OpenAI's chat completions, token by token in server-sent events.

    with tgi_stub(["Hello", " there."]) as stub:
        stub.url, stub.requests, stub.written

It is no model: it says its script, and keeps what it was asked and how many events it could send before the reader left.
A script may also be a function of what was asked, so that a conversation can be had with it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Script = list[str] | Callable[[dict[str, Any]], Iterable[str]]


@dataclass
class TgiStub:
    url: str
    status: int = 200
    refusal: bytes = b'{"error": "Model is overloaded", "error_type": "overloaded"}'  # with another status than 200
    body: bytes | None = None  # what is said instead of events
    requests: list[dict[str, Any]] = field(default_factory=list)
    written: int = 0


@contextmanager
def tgi_stub(script: Script, *, status: int = 200, pause: float = 0.0, body: bytes | None = None) -> Iterator[TgiStub]:
    """Serve on a free port of the loopback interface until the block ends. `body` is said instead of events, before the pause."""

    left = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            stub.requests.append({"path": self.path, "headers": dict(self.headers), "body": asked})
            if stub.status != 200:
                self.send_response(stub.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(stub.refusal)))
                self.end_headers()
                self.wfile.write(stub.refusal)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            if stub.body is not None:
                self.wfile.write(stub.body)
                self.wfile.flush()
                left.wait(pause)
                return
            pieces = script(asked) if callable(script) else script
            events = _openai(pieces) if self.path.endswith("/chat/completions") else _tgi(pieces)
            for event in events:
                try:
                    self.wfile.write(f"data:{json.dumps(event)}\n\n".encode())
                    self.wfile.flush()
                except OSError:  # the reader has left
                    return
                stub.written += 1
                if left.wait(pause):
                    return

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = TgiStub(f"http://127.0.0.1:{server.server_address[1]}", status, body=body)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        left.set()
        server.shutdown()
        server.server_close()


def _tgi(pieces: Iterable[str]) -> Iterator[dict[str, Any]]:
    said: list[str] = []

    def event(text: str, last: bool) -> dict[str, Any]:
        end = {"finish_reason": "eos_token", "generated_tokens": len(said) + 1, "seed": None}
        return {
            "index": len(said) + 1,
            "token": {"id": len(said), "text": text, "logprob": -0.5, "special": last},
            "generated_text": "".join(said) if last else None,
            "details": end if last else None,
        }

    for text in pieces:
        yield event(text, last=False)
        said.append(text)
    yield event("<|im_end|>", last=True)


def _openai(pieces: Iterable[str]) -> Iterator[dict[str, Any]]:
    def event(delta: dict[str, str], ended: str | None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": ended}
        return {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": "stub", "choices": [choice]}

    for text in pieces:
        yield event({"role": "assistant", "content": text}, None)
    yield event({}, "stop")
