"""The Spaces of a root as processes of this machine: what runs follows what the repositories say.

    with running_spaces(store, "http://127.0.0.1:8484"):
        ...     # a commit, a restart, a pause or another variable of a Space takes effect within a second or two

Whatever server process has taken a request, it has only written to the repository. The one process that runs Spaces compares
what is wanted with what runs, again and again, so that nothing is lost when either is killed.
"""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import psutil

from release.local_hub.refusals import Refusal
from release.local_hub.repository import MAIN, Repository
from release.local_hub.space_log import written_log
from release.local_hub.space_process import CannotRun, SpaceApp, build, is_built, prepare, start, stop
from release.local_hub.space_status import (
    PAUSED,
    RUNNING,
    STOPPED,
    SpaceStatus,
    is_alive,
    log_file,
    read_status,
    runtime_folder,
    secret_values,
    write_status,
)
from release.local_hub.store import Store
from training.command import log
from training.errors import UsageError

INTERVAL = 1.0  # seconds between two looks
STARTUP_LIMIT = 1800.0  # seconds until an app must answer, as on the Hub


@dataclass(frozen=True)
class Wanted:
    """Everything on which a running Space depends: where it differs, the Space is started anew."""

    commit: str | None
    paused: bool
    restarts: int
    rebuilt: int  # the restart that was to make the environment anew
    variables: tuple[tuple[str, str], ...]


@contextmanager
def running_spaces(store: Store, endpoint: str) -> Iterator[None]:
    """Run the Spaces of `store` until the block ends. Raises UsageError where another process does."""
    with (store.root / "spaces.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                "another server runs the Spaces of this root",
                where=str(store.root),
                next_step="start this one without --run-spaces",
            ) from error
        ended = threading.Event()
        thread = threading.Thread(target=_run, args=(store, endpoint, ended), name="spaces")
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _run(store: Store, endpoint: str, ended: threading.Event) -> None:
    for space in store.repositories("space"):
        _stop_stale(space)
    runs: dict[str, _Run] = {}
    try:
        while not ended.is_set():
            _converge(store, endpoint, runs)
            ended.wait(INTERVAL)
    finally:
        for run in runs.values():
            run.end(STOPPED)


def _stop_stale(space: Repository) -> None:
    """End what a killed server left running."""
    status = read_status(space)
    if status is not None and status.pid is not None and is_alive(status):
        with suppress(ProcessLookupError):
            os.killpg(status.pid, signal.SIGKILL)
    if status is not None:
        write_status(space, SpaceStatus(STOPPED, status.commit))


def _converge(store: Store, endpoint: str, runs: dict[str, _Run]) -> None:
    """Start, replace and end runs until they are those that are wanted."""
    spaces = {space.folder.name: space for space in store.repositories("space")}
    for name in runs.keys() - spaces.keys():
        runs.pop(name).end(None)
    for name, space in spaces.items():
        try:
            wanted = _wanted(space)
        except (OSError, Refusal):
            continue  # deleted at this moment, and the next look will not list it; or its records are damaged
        current = runs.get(name)
        if current is not None and current.wanted == wanted:
            continue
        if current is not None:
            current.end(STOPPED)
        runs[name] = _Run(store, space, wanted, endpoint, current)
        runs[name].start()


def _wanted(space: Repository) -> Wanted:
    settings, secrets = space.settings, secret_values(space)
    variables = {key: str(kept["value"]) for key, kept in settings.get("variables", {}).items()}
    return Wanted(
        space.refs().get(MAIN),
        settings.get("stage") == PAUSED,
        settings.get("restarts", 0),
        settings.get("rebuilt", 0),
        tuple(sorted({**variables, **secrets}.items())),
    )


class _Run(threading.Thread):
    """One Space at one commit, from its files to its end; every step is a stage that readers see."""

    def __init__(
        self, store: Store, space: Repository, wanted: Wanted, endpoint: str, before: threading.Thread | None
    ) -> None:
        super().__init__(name=f"space {space.id}", daemon=True)
        self.before = before
        self.store, self.space, self.wanted, self.endpoint = store, space, wanted, endpoint
        self.process: subprocess.Popen[bytes] | None = None
        self.ended, self.lock = threading.Event(), threading.Lock()
        self.status = SpaceStatus("BUILDING", wanted.commit)

    def run(self) -> None:
        if self.before is not None:
            self.before.join()  # it may be in the midst of a build in the same folder
            self.before = None
        try:
            self._run()
        except CannotRun as error:
            stage = "NO_APP_FILE" if "nothing to run" in error.what else "CONFIG_ERROR"
            self._set(stage=stage, error=f"{error.what}, expected {error.expected}")
        except UsageError as error:
            log(f"Space {self.space.id}: {error}")
            self._set(stage="BUILD_ERROR", error="its environment cannot be made; the build log says why")
        except OSError as error:
            log(f"Space {self.space.id}: {error}")
            self._set(stage="RUNTIME_ERROR", error="it cannot be started; the words of the Hub's own server say why")

    def end(self, stage: str | None) -> None:
        """Stop what runs; leave `stage` as the Space's, or write nothing, for the Space is gone."""
        with self.lock:
            self.ended.set()
            if self.process is not None:
                stop(self.process)
            if stage is not None and self.space.folder.is_dir():
                write_status(self.space, SpaceStatus(stage, self.wanted.commit))

    def _run(self) -> None:
        if self.wanted.commit is None or self.wanted.paused:
            self._set(stage=PAUSED if self.wanted.paused else "NO_APP_FILE")
            return
        self._set(stage="BUILDING")
        folder = runtime_folder(self.space).absolute()  # the app has another working directory
        app = prepare(self.space, self.space.commit_of(self.wanted.commit), folder / "files")
        python = self._build(app, self.store.root.absolute() / "environments")
        with written_log(log_file(self.space, "run")) as words:
            code = self._serve(python, app, words)
        if not self.ended.is_set():
            self._set(stage="RUNTIME_ERROR", error=f"the app ended with exit status {code}", pid=None, address=None)

    def _build(self, app: SpaceApp, environments: Path) -> Path:
        """The Python of the Space's environment. What takes minutes is told of at its start and at its end."""
        anew, began = 0 < self.wanted.rebuilt == self.wanted.restarts, time.monotonic()
        told = anew or not is_built(app, environments)
        if told:
            log(
                f"Space {self.space.id}: making its environment; `hf spaces logs {self.space.id} --build` has pip's words"
            )
        outcome = "could not be made"
        try:
            with written_log(log_file(self.space, "build")) as words:
                python = build(app, environments, words, anew=anew)
            outcome = "is made"
        finally:
            if told:
                log(f"Space {self.space.id}: its environment {outcome}, after {time.monotonic() - began:.0f} s")
        return python

    def _serve(self, python: Path, app: SpaceApp, words: IO[str]) -> int | None:
        """Start the app and wait for its end; its exit status, None where the run was ended before."""
        port = _free_port()
        with self.lock:
            if self.ended.is_set():
                return None
            self.process = start(python, app, self._variables(port), port, words)
        began = psutil.Process(self.process.pid).create_time()
        address = f"http://127.0.0.1:{port}"
        self._set(stage="APP_STARTING", address=address, pid=self.process.pid, started=began)
        if self._answers(address, self.process):
            self._set(stage=RUNNING)
            log(f"Space {self.space.id} runs at {address}")
        return self.process.wait()

    def _answers(self, address: str, process: subprocess.Popen[bytes]) -> bool:
        """Wait until the app answers. One that never does is ended."""
        limit = time.monotonic() + STARTUP_LIMIT
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while process.poll() is None and not self.ended.wait(0.2):
            try:
                with direct.open(address, timeout=5):
                    return True
            except urllib.error.HTTPError as error:
                if error.code < 500:
                    return True
            except OSError:
                if time.monotonic() > limit:
                    stop(process)
        return False

    def _variables(self, port: int) -> dict[str, str]:
        author, _, name = self.space.id.partition("/")
        return {
            "HF_ENDPOINT": self.endpoint,
            "SPACE_ID": self.space.id,
            "SPACE_AUTHOR_NAME": author,
            "SPACE_REPO_NAME": name,
            "SPACE_HOST": f"127.0.0.1:{port}",
            "TRUSTED_PROXIES": "0",  # there is none: whoever asks the app connects to it
            **dict(self.wanted.variables),
        }

    def _set(self, **changes: object) -> None:
        """Write the status, unless the run was ended: then somebody else writes it."""
        with self.lock:
            if not self.ended.is_set() and self.space.folder.is_dir():
                self.status = replace(self.status, **changes)  # type: ignore[arg-type]
                write_status(self.space, self.status)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
