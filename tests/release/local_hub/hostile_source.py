"""A Hub that lists what no Hub lists, for `hub mirror` to copy from."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

OID, GIT_ID = "a" * 40, "5716ca5987cbf97d6bb54920bea6adde242d87e6"  # the id of b"bar\n"


@dataclass
class Listed:
    """What it says of its one repository; by default nothing is wrong with it."""

    repo_id: str = "org/m"
    oid: str = OID
    branch: str = "main"
    title: Any = "t"
    gated: Any = False
    tree: list[dict[str, Any]] = field(default_factory=lambda: [file_entry()])
    etag: str = f'"{GIT_ID}"'


def file_entry(**changes: Any) -> dict[str, Any]:
    return {"type": "file", "path": "a.txt", "size": 4, "oid": GIT_ID, **changes}


@contextmanager
def hostile_source(listed: Listed) -> Iterator[str]:
    """Its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path
            if "/refs" in path:
                branch = {"name": listed.branch, "ref": "refs/heads/main", "targetCommit": listed.oid}
                self.answer({"branches": [branch], "tags": [], "converts": []})
            elif "/commits/" in path:
                date = "2026-01-01T00:00:00.000Z"
                commit = {
                    "id": listed.oid,
                    "title": listed.title,
                    "message": "",
                    "authors": [{"user": "x"}],
                    "date": date,
                }
                self.answer([commit])
            elif "/tree/" in path:
                self.answer(listed.tree)
            elif "/resolve/" in path:
                self.send_response(200)
                names = {"Content-Length": "4", "ETag": listed.etag, "X-Repo-Commit": listed.oid}
                for name, value in names.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(b"bar\n")
            else:
                info = {"_id": "1", "id": listed.repo_id, "sha": listed.oid, "private": False, "gated": listed.gated}
                self.answer({**info, "siblings": [], "tags": [], "downloads": 0, "likes": 0})

        do_HEAD = do_GET

        def answer(self, value: Any) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
