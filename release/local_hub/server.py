"""Start the embedded Hub: in this process for tests and demos, or in the foreground for `python -m release hub`.

with running_hub(tmp_path / "hub") as hub:
    token = hub.store.create_user("slipway")
    HfApi(endpoint=hub.endpoint, token=token).create_repo("slipway/demo")
"""

from __future__ import annotations

import ipaddress
import signal
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from release.local_hub.app import create_app
from release.local_hub.connections import Connection
from release.local_hub.space_runner import running_spaces
from release.local_hub.store import Store
from training.errors import UsageError

REQUEST_LIMIT = 30  # seconds that a client may take to ask for something


@dataclass(frozen=True)
class RunningHub:
    """A Hub that answers at `endpoint`; `store` changes what it serves."""

    endpoint: str
    store: Store


@contextmanager
def running_hub(root: Path, port: int = 0, wrap: Callable[[ASGIApp], ASGIApp] | None = None) -> Iterator[RunningHub]:
    """Serve the store under `root` on loopback from a thread until the block ends; port 0 takes a free one.

    `wrap` puts an ASGI application around the Hub's own, with which a test makes requests or answers fail.
    """
    store = Store(root)
    listener = _listen("127.0.0.1", port)
    server = uvicorn.Server(_configuration(store, wrap=wrap, local=True))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="local-hub", daemon=True)
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the Hub's server did not start")
            time.sleep(0.005)
        yield RunningHub(f"http://127.0.0.1:{listener.getsockname()[1]}", store)
    finally:
        server.should_exit = True
        thread.join(timeout=10)
        listener.close()


def serve(
    store: Store,
    host: str,
    port: int,
    *,
    run_spaces: bool = False,
    names: Collection[str] = (),
    listening: Callable[[], None] | None = None,
) -> None:
    """Serve in the foreground until SIGTERM or Ctrl-C; prints one line with the endpoint when it is reachable.

    `run_spaces` runs the code of every Space here, as this user, each at a port of loopback. On loopback it answers to
    loopback's names and to `names`, under which a proxy of this machine passes requests on; elsewhere to every name.
    `listening` makes a token when the port is this server's: one that was written before would be sent to whoever has the port.
    """
    if listening is None:
        _refuse_without_tokens(store, host)
    listener = _listen(host, port)
    try:
        if listening is not None:
            listening()
        shown = f"[{host}]" if ":" in host else host
        endpoint = f"http://{shown}:{listener.getsockname()[1]}"
        ready = f"Hub ready at {endpoint} (HF_ENDPOINT={endpoint})"
        server = _ForegroundServer(_configuration(store, ready=ready, local=is_loopback(host), names=names))
        with running_spaces(store, endpoint) if run_spaces else nullcontext():
            server.run(sockets=[listener])
    finally:
        listener.close()
    if server.interrupted:
        raise KeyboardInterrupt


def _refuse_without_tokens(store: Store, host: str) -> None:
    if not is_loopback(host) and not store.accounts.has_tokens():
        raise UsageError(
            "a Hub that others can reach must have a user, or nobody could write to it",
            where=f"--host {host}",
            next_step=f"python -m release hub user NAME --root {store.root}",
        )


class _ForegroundServer(uvicorn.Server):
    """Stops at SIGTERM and Ctrl-C after the answers in flight; uvicorn's own would then die of the same signal."""

    interrupted = False

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        previous = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.interrupted = self.interrupted or sig == signal.SIGINT
        super().handle_exit(sig, frame)


def is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _configuration(
    store: Store,
    ready: str | None = None,
    wrap: Callable[[ASGIApp], ASGIApp] | None = None,
    *,
    local: bool,
    names: Collection[str] = (),
) -> uvicorn.Config:
    store.blobs.sweep()
    own = {name.lower() for name in names}
    answers_to = (lambda name: is_loopback(name) or name in own) if local else None
    app: ASGIApp = create_app(store, ready, reach_private=local, answers_to=answers_to)
    return uvicorn.Config(
        wrap(app) if wrap else app,
        http=Connection,
        log_level="warning",
        access_log=False,  # upload addresses carry signatures
        server_header=False,
        timeout_keep_alive=REQUEST_LIMIT,
        timeout_graceful_shutdown=5,
        lifespan="on",
    )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's delay (40 ms an answer) off only for sockets that say that they are TCP.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise UsageError(
            f"cannot listen on {host} port {port}: {error.strerror or error}",
            next_step="choose another --port, or 0 for a free one",
        ) from error
    listener.listen(1024)
    return listener
