"""Server processes of a Hub on the root that the benchmark's own Hub serves too; they can die by signal 9.

    with Servers(publisher, store, [[Death(7), Death(1)]]) as servers:  # one, which dies at its 7th write, then at its 1st
        proxy.upstreams = servers.addresses
        ...
        servers.settle()              # all answer, and none dies any more

A server that died starts again at its address, without any repair step, and its next life has the next death; a life
that has none lasts. A write is an fsync of the store, those of the server's start among them.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from faults.publisher import Process, Publisher

START_LIMIT = 30.0  # seconds


@dataclass(frozen=True)
class Death:
    """By signal 9 at the n-th write of a life: before it, or after it is durable."""

    write: int
    after: bool = False


class _Server:
    """One address of the Hub, and the process that serves it while it lives."""

    def __init__(self, publisher: Publisher, root: Path, deaths: Sequence[Death]) -> None:
        self._publisher, self._root, self._deaths = publisher, root, list(deaths)
        self.port = _free_port()
        self._process: Process | None = None
        self._mortal = False  # whether this life has a death

    def start(self) -> None:
        """The next life."""
        self._mortal = bool(self._deaths)
        sabotage = {}
        if self._deaths:
            death = self._deaths.pop(0)
            sabotage = {"hub_dies_at": (death.write, death.after)}
        words = ["hub", "--root", str(self._root), "--port", str(self.port)]
        self._process = self._publisher.start(words, {}, **sabotage)

    def alive(self) -> bool:
        if self._process is not None and self._publisher.ended(self._process) is not None:
            self._process = None
        return self._process is not None

    def kill(self) -> None:
        if self.alive():
            assert self._process is not None
            process, self._process = self._process, None
            os.kill(process.pid, signal.SIGKILL)
            self._publisher.wait(process)

    def live_on(self) -> None:
        """A life that lasts, from now on."""
        self._deaths = []
        if not self.alive() or self._mortal:
            self.kill()
            self.start()

    def wait(self) -> None:
        """Until it answers, or is dead."""
        deadline = time.monotonic() + START_LIMIT
        while self.alive() and not _answers(self.port):
            if time.monotonic() > deadline:
                raise TimeoutError(f"a Hub has not started on port {self.port}")
            time.sleep(0.02)


class Servers:
    """Each server with its deaths in turn. `notice` is called at a death; without `restart` the dead stay so until `settle`."""

    def __init__(
        self,
        publisher: Publisher,
        root: Path,
        deaths: Sequence[Sequence[Death]],
        *,
        notice: Callable[[], object],
        restart: bool = True,
    ) -> None:
        self.died = 0
        self._servers = [_Server(publisher, root, each) for each in deaths]
        self._notice, self._restart = notice, restart
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._supervise, daemon=True)

    @property
    def addresses(self) -> tuple[str, ...]:
        return tuple(f"127.0.0.1:{server.port}" for server in self._servers)

    def __enter__(self) -> Self:
        for server in self._servers:
            server.start()
        for server in self._servers:
            server.wait()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end_supervision()
        for server in self._servers:
            server.kill()

    def settle(self) -> None:
        """Let every server live and answer."""
        self._end_supervision()
        for server in self._servers:
            server.live_on()
        for server in self._servers:
            server.wait()

    def _end_supervision(self) -> None:
        self._stop.set()
        self._thread.join()

    def _supervise(self) -> None:
        watched = list(self._servers)
        while not self._stop.wait(0.02):
            for server in [server for server in watched if not server.alive()]:
                self.died += 1
                self._notice()
                if self._restart:
                    server.start()
                else:
                    watched.remove(server)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0
