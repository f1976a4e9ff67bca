"""Servers of this machine as processes: a free port, a wait until they listen, an end that takes their children along.

port = free_port()
process = start_with_parent([sys.executable, "app.py", str(port)], environment=os.environ, output=log)
wait_for_port(port, process, seconds=60)
stop(process)
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from time import monotonic, sleep
from typing import IO, Any

from training.errors import UsageError

# Run what follows for as long as whoever started it lives and holds the pipe to it: one that dies by signal 9 closes that
# too. Then the whole session ends at once, with what the server has started itself (pip, for one).
WITH_PARENT = """
import os, signal, subprocess, sys, threading

def end_with_parent():
    while os.read(0, 4096):
        pass
    os.killpg(0, signal.SIGKILL)

signal.signal(signal.SIGTERM, lambda *_: None)  # the server gets it too, and may take its time
threading.Thread(target=end_with_parent, daemon=True).start()
code = subprocess.call(sys.argv[1:], stdin=subprocess.DEVNULL)
sys.exit(code if code >= 0 else 128 - code)
"""


def start_with_parent(
    words: Sequence[str], *, environment: Mapping[str, str], output: IO[Any]
) -> subprocess.Popen[Any]:
    """Start a server in a session of its own; neither it nor what it starts outlives this process, however this dies."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", WITH_PARENT, *words],
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def free_port(wanted: int = 0) -> int:
    """`wanted`, or any free one where something else listens there. Raises UsageError where there is none."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise UsageError("there is no free port on this machine's loopback address")


def wait_for_port(port: int, process: subprocess.Popen[Any], seconds: float) -> None:
    """Return when the process, or one that it has started, listens on the port.

    Raises UsageError where the process ends, or time runs out; a stranger who listens there is not waited for.
    """
    deadline = monotonic() + seconds
    while monotonic() < deadline:
        if process.poll() is not None:
            stranger = ", and another process listens on its port" if _answers(port) else ""
            raise UsageError("a server ended before it answered", found=f"exit code {process.returncode}{stranger}")
        if _answers(port) and listens(process, port):
            return
        sleep(0.2)
    raise UsageError(f"a server did not answer within {seconds:.0f} s", where=f"port {port}")


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def listens(process: subprocess.Popen[Any], port: int) -> bool:
    """Whether the process, or one that it has started, is who listens on the port."""
    import psutil

    try:
        first = psutil.Process(process.pid)
        for each in (first, *first.children(recursive=True)):
            if any(at.status == psutil.CONN_LISTEN and at.laddr.port == port for at in each.net_connections("tcp")):
                return True
    except psutil.NoSuchProcess:  # it has just ended: the next look at it says how
        return False
    return False


def stop(process: subprocess.Popen[Any]) -> None:
    """End a server that has a session of its own, and its children: politely, then for certain."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, kind)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                continue
    if process.stdin is not None:
        process.stdin.close()
