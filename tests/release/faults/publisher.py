"""Publishers that start at once: `python -m release ...` in forks of a process that has imported everything.

    with Publisher(scratch) as publisher:
        process = publisher.start(["resume", "--run", str(run)], environment)
        code, said = publisher.wait(process)

Each is a process of its own, which can be killed with signal 9. In two ways it is not the command as typed: the model
that came back from the Hub is loaded in the publisher's own process (starting an interpreter and importing torch takes
longer than all the rest), and pauses between tries are cut to PAUSE seconds.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[3]
PAUSE = 0.01  # seconds
ANSWER_LIMIT = 4.0  # seconds that a publisher waits for an answer
TIME_LIMIT = 300.0  # seconds after which a publisher counts as hung,
BOOT_LIMIT = 1800.0  # and one that boots its Space, on a machine that is busy with other things
KILLED = -signal.SIGKILL
HUNG = -signal.SIGALRM


@dataclass(frozen=True)
class Process:
    pid: int
    output: Path


class Publisher:
    """The process that forks; `scratch` holds the publishers' caches and what they say."""

    def __init__(self, scratch: Path) -> None:
        self.scratch, self._count, self._lock = scratch, 0, threading.Lock()
        scratch.mkdir(parents=True, exist_ok=True)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {
            "PYTHONPATH": os.pathsep.join(
                [str(ROOT), str(ROOT / "tests" / "release"), environment.get("PYTHONPATH", "")]
            ),
            "OMP_NUM_THREADS": "1",
            "HF_HOME": str(scratch / "home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_DOWNLOAD_TIMEOUT": f"{ANSWER_LIMIT:.0f}",
            "HF_HUB_ETAG_TIMEOUT": f"{ANSWER_LIMIT:.0f}",
            "HF_XET_CLIENT_RETRY_BASE_DELAY": "10ms",
            "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "2",
            "HF_XET_CLIENT_READ_TIMEOUT": f"{ANSWER_LIMIT:.0f}s",
        }
        self._process = subprocess.Popen(
            [sys.executable, __file__],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def start(self, command: Sequence[str], environment: dict[str, str], **sabotage: Any) -> Process:
        """Begin a command; `sabotage` are the settings of `_sabotage`."""
        self._count += 1
        output = self.scratch / f"{self._count}.txt"
        output.touch()  # it may be killed before it opens it
        environment = {"TMPDIR": str(self.scratch)} | environment
        job = {"command": list(command), "environment": environment, "output": str(output), **sabotage}
        return Process(int(self._ask(job)), output)

    def wait(self, process: Process, limit: float = TIME_LIMIT) -> tuple[int, str]:
        """The exit code (negative: the signal that ended it) and what it said; after `limit` seconds it is hung."""
        deadline = time.monotonic() + limit
        while not (code := self._ask({"ended": process.pid, "kill": time.monotonic() > deadline})):
            time.sleep(0.01)
        return int(code), process.output.read_text(errors="replace")

    def ended(self, process: Process) -> int | None:
        """The exit code of a process that has ended, to be asked for once; None while it runs."""
        code = self._ask({"ended": process.pid, "kill": False})
        return int(code) if code else None

    def run(
        self, command: Sequence[str], environment: dict[str, str], limit: float = TIME_LIMIT, **sabotage: Any
    ) -> tuple[int, str]:
        return self.wait(self.start(command, environment, **sabotage), limit)

    def _ask(self, job: dict[str, Any]) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            return self._process.stdout.readline().strip()


def _serve() -> None:
    """Fork for each job on stdin. No thread is ever started here, so that a fork is a whole process."""
    import torch

    torch.set_num_threads(1)
    _import_everything()
    for line in sys.stdin:
        job = json.loads(line)
        print(_ended(job["ended"], job["kill"]) if "ended" in job else _forked(job), flush=True)


def _import_everything() -> None:
    """What a publication imports on its way, by doing it once: load a model, and build a Space's files."""
    import functools
    import tempfile

    from tiny_run import make_checkpoint

    import release.__main__
    import release.local_hub.server
    import release.publish
    import release.rollback
    import release.space_boot
    import release.space_bundle

    with tempfile.TemporaryDirectory() as folder:
        make_checkpoint(Path(folder) / "checkpoint", seed=0)
        _load_here(Path(folder) / "checkpoint")
    # Reading the metadata of a hundred installed packages takes longer than a publication.
    release.space_bundle.pinned_requirements = functools.cache(release.space_bundle.pinned_requirements)
    release.space_bundle.pinned_requirements()


def _forked(job: dict[str, Any]) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        output = os.open(job.pop("output"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.environ.update(job.pop("environment"))
        code = _run(job.pop("command"), **job)
    except BaseException:  # noqa: BLE001 - the fork must end here, whatever it is
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _ended(pid: int, kill: bool) -> str:
    """Its exit code; nothing while it runs."""
    found, status = os.waitpid(pid, os.WNOHANG)
    if found:
        return str(os.waitstatus_to_exitcode(status))
    if kill:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return str(int(HUNG))
    return ""


def _run(command: list[str], **sabotage: Any) -> int:
    import release.downloaded
    import release.hub_transport
    import release.space_boot
    from release.__main__ import main

    if command[0] == "prepare":
        from faults.world import write_runs

        write_runs(Path(command[1]))
        return 0
    sleep = time.sleep
    time.sleep = lambda seconds: sleep(min(seconds, PAUSE))
    release.hub_transport.ANSWER_LIMIT = ANSWER_LIMIT
    release.space_boot.SECONDS_TO_START = release.space_boot.SECONDS_TO_ANSWER = BOOT_LIMIT / 2
    release.downloaded.load_in_fresh_process = _load_here
    _sabotage(**sabotage)
    return main(command)


def _load_here(directory: Path) -> Any:
    from release.probe import Examination, load, take_probe

    loaded = load(directory)
    return Examination(
        missing=loaded.missing, unexpected=loaded.unexpected, mismatched=loaded.mismatched, probe=take_probe(loaded)
    )


def _sabotage(
    kill_before: str | None = None,
    kill_after: str | None = None,
    full_at: str | None = None,
    hub_dies_at: tuple[int, bool] | None = None,
    boot: tuple[str, Any, str | None] | None = None,
) -> None:
    """Die by signal 9 before or after the journal's line of a step, or as a Hub at a write; find the disk full at that line;
    meet one of boot.py's faults."""
    import errno

    from release.journal import Journal

    if hub_dies_at is not None:
        from faults.disk import Disk

        Disk(dies_at=hub_dies_at[0], after=hub_dies_at[1]).__enter__()
    if boot is not None:
        from faults.boot import sabotage

        sabotage(*boot)
    record = Journal.record

    def sabotaged(journal: Journal, step: str, **data: Any) -> None:
        if step == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)
        if step == full_at:
            raise OSError(errno.ENOSPC, "No space left on device", str(journal.path))
        record(journal, step, **data)
        if step == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.record = sabotaged


if __name__ == "__main__":
    _serve()
