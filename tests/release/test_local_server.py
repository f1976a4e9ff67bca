"""A server that is started with its parent ends with it, with all that it has started; a stranger on its port is not it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from release.local_server import free_port, start_with_parent, stop, wait_for_port
from training.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
# A server that is deaf to SIGTERM, and a process that it has started.
DEAF = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""
PARENT = """
import os, sys, time
from release.local_server import start_with_parent
start_with_parent([sys.executable, "-c", sys.argv[1]], environment=os.environ, output=sys.stdout)
time.sleep(600)
"""
LISTENING = "import socket, sys, time; held = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_a_killed_parent_leaves_neither_a_deaf_server_nor_what_that_has_started() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, DEAF], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pids = [int(word) for word in parent.stdout.readline().split()]
    assert len(pids) == 2
    assert not any(_gone(pid) for pid in pids)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 60
    while not all(_gone(pid) for pid in pids):
        assert time.monotonic() < deadline, "they live on"
        time.sleep(0.05)


def test_a_server_is_waited_for_until_it_listens_and_its_exit_code_is_its_own() -> None:
    port = free_port()
    with Path(os.devnull).open("w") as nowhere:
        process = start_with_parent(
            [sys.executable, "-c", LISTENING, str(port)], environment=os.environ, output=nowhere
        )
        try:
            wait_for_port(port, process, seconds=60)
        finally:
            stop(process)
        assert process.returncode == 128 + signal.SIGTERM
        ended = start_with_parent([sys.executable, "-c", "raise SystemExit(3)"], environment=os.environ, output=nowhere)
        with pytest.raises(UsageError, match="ended before it answered") as error:
            wait_for_port(port, ended, seconds=60)
        stop(ended)
    assert error.value.found == "exit code 3"


def test_a_stranger_that_listens_on_the_port_is_not_taken_for_the_server() -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger, Path(os.devnull).open("w") as nowhere:
        port = stranger.getsockname()[1]
        process = start_with_parent(
            [sys.executable, "-c", LISTENING, str(port)], environment=os.environ, output=nowhere
        )
        with pytest.raises(UsageError) as error:
            wait_for_port(port, process, seconds=60)
        stop(process)
    assert error.value.found == "exit code 1, and another process listens on its port"
