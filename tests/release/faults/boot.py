"""What goes wrong while the Space of a release is booted and asked: each fault changes the publisher's process for one trial.

    sabotage("kill -9 during the boot", "asked", disk=None)     # in the fork that publishes

The Space is a process of its own, started as always. Where it is to misbehave, the file of its bundle that misbehaves is another
one, so what stands on the Hub is what runs; the next command publishes the right one again.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

KILL, SPACE_KILLED = "kill -9 during the boot", "Space killed by signal 9"
WRONG, MUTE, PORT = "Space that answers wrongly", "Space that never answers", "port of the Space taken"
FULL = "publisher's disk full in the boot"
MEBIBYTE = 1 << 20
# Where each is tried: a moment, how the Space misbehaves, what is full and at how many bytes.
BOOT: dict[str, tuple[Any, ...]] = {
    KILL: ("started", "loading", "listening", "asked", "answered", "environment", "deaf"),
    SPACE_KILLED: ("loading", "asked"),
    WRONG: ("ends at once", "another revision", "not JSON", "nothing", "an error"),
    MUTE: ("never listens", "no health", "no answer"),
    PORT: ("before it starts", "while it loads"),
}
# What of the boot lies on a disk of its own, and that disk's bytes: only root may make one.
SMALL_DISKS = ({"cache": 49_152}, {"cache": 16_384}, {"environment": 4 * MEBIBYTE}, {"environment": 24 * MEBIBYTE})
if os.geteuid() == 0:
    BOOT[FULL] = SMALL_DISKS
LOADING, ASKING, MAKING = 3.0, 1.5, 4.0  # seconds into the load, the question and the making of an environment
PATIENCE = 5.0  # seconds for which a Space that says nothing is waited for

# A page of a few lines in the place of app.py.
PAGE = """
import http.server, json, os, signal, sys, time

SPACE = json.load(open("space.json"))
GOOD = {"status": "ok", "revision": SPACE["revision"], "runtime": "a stand-in"}


class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.health() if self.path == "/health" else time.sleep(600)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def health(self):
        %s

    do_POST = do_GET


%s
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["GRADIO_SERVER_PORT"])), Page).serve_forever()
"""
RIGHT = "return json.dumps(GOOD).encode()"
DEAF = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
PAGES = {
    "ends at once": (RIGHT, "sys.exit(3)"),
    "another revision": ('return json.dumps(GOOD | {"revision": "0" * 40}).encode()', ""),
    "not JSON": ('return b"<html>"', ""),
    "never listens": (RIGHT, f"{DEAF}; time.sleep(600)"),
    "no health": ("time.sleep(600)", ""),
    "no answer": (RIGHT, ""),
    "deaf": (RIGHT, DEAF),
}
# Behind the real page, in the place of what answers.
ANSWERS = {"nothing": 'yield "", "", []', "an error": 'raise RuntimeError("injected"); yield'}


def sabotage(fault: str, at: Any, disk: str | None) -> None:
    """Let this process meet the fault; `disk` is a folder that is nearly full."""
    import release.space_boot as boot

    if isinstance(at, str) and (at in PAGES or at in ANSWERS):
        _publish_another_page(at)
    if at == "never listens":
        boot.SECONDS_TO_START = 4 * PATIENCE
    elif isinstance(at, str) and at in PAGES:
        boot.SECONDS_TO_ANSWER = PATIENCE
    if fault == KILL:
        _kill_at(at)
    elif fault == SPACE_KILLED:
        _kill_space_at(at)
    elif fault == PORT:
        _take_port(at)
    elif fault == FULL and "cache" in at:
        environment = boot._environment
        boot._environment = lambda hub, cache: environment(hub, cache) | {"HF_HUB_CACHE": str(disk)}
    elif fault == FULL:
        boot.satisfied = lambda _: False


def _publish_another_page(name: str) -> None:
    import release.space_bundle as bundles

    build = bundles.build_space_bundle

    def built(**arguments: Any) -> dict[str, bytes]:
        bundle = build(**arguments)
        if name in PAGES:
            return bundle | {"app.py": (PAGE % PAGES[name]).encode()}
        other = f"\n\nasync def _other(self, *_):\n    {ANSWERS[name]}\n\n\nAnswers.chat_with_note = _other\n"
        return bundle | {"answers.py": bundle["answers.py"] + other.encode()}

    bundles.build_space_bundle = built


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _later(seconds: float, what: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, what)
    timer.daemon = True
    timer.start()


def _kill_at(moment: str) -> None:
    """Of the publisher, at this moment of the boot."""
    import release.space_boot as boot

    wait, ask, stop = boot.wait_for_port, boot._Running.ask, boot.stop
    if moment == "environment":
        boot.satisfied = lambda _: False

    def waiting(*arguments: Any) -> None:
        if moment == "started":
            _die()
        if moment in ("loading", "environment"):
            _later(LOADING if moment == "loading" else MAKING, _die)
        wait(*arguments)
        if moment in ("listening", "deaf"):
            _die()

    def asked(running: Any, question: str) -> str:
        if moment == "asked":
            _later(ASKING, _die)
        return str(ask(running, question))

    def stopped(process: Any) -> None:
        if moment == "answered":
            _die()
        stop(process)

    boot.wait_for_port, boot._Running.ask, boot.stop = waiting, asked, stopped


def _kill_space_at(moment: str) -> None:
    """Of the Space, with all that it has started."""
    import release.space_boot as boot

    wait, ask = boot.wait_for_port, boot._Running.ask
    groups: list[int] = []

    def kill() -> None:
        os.killpg(groups[0], signal.SIGKILL)

    def waiting(port: int, process: Any, seconds: float) -> None:
        groups.append(process.pid)
        if moment == "loading":
            _later(LOADING, kill)
        wait(port, process, seconds)

    def asked(running: Any, question: str) -> str:
        if moment == "asked":
            _later(ASKING, kill)
        return str(ask(running, question))

    boot.wait_for_port, boot._Running.ask = waiting, asked


def _take_port(moment: str) -> None:
    """By a server of somebody else's, which answers as the Space should."""
    import release.space_boot as boot

    free = boot.free_port

    def taken() -> int:
        port = free()
        if moment == "before it starts":
            _stranger(port)
        else:
            _later(LOADING, lambda: _stranger(port))
        return port

    boot.free_port = taken


def _stranger(port: int) -> None:
    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            spaces = sorted(Path(".slipway/spaces").glob("*/*/space.json"), key=lambda file: file.stat().st_mtime)
            good = {"status": "ok", "revision": json.loads(spaces[-1].read_bytes())["revision"], "runtime": "another"}
            body = json.dumps(good).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    try:
        server = HTTPServer(("127.0.0.1", port), Stranger)
    except OSError:  # the Space was faster
        return
    threading.Thread(target=server.serve_forever, daemon=True).start()
