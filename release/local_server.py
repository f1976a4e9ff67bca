"""Servers of this machine as processes: a free port, a wait until they listen, an end that takes their children along.

port = free_port()
process = subprocess.Popen([*with_parent(), "app.py"], start_new_session=True)
wait_for_port(port, process, seconds=60)
stop(process)
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from typing import Any

from training.errors import UsageError

# Run what follows, and let the kernel end it when whoever started it dies, by signal 9 too (Linux; prctl(2), PR_SET_PDEATHSIG).
WITH_PARENT = """
import ctypes, os, signal, sys
prctl = getattr(ctypes.CDLL(None), "prctl", None)
if prctl is not None:
    prctl(1, signal.SIGTERM)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def with_parent() -> list[str]:
    """This Python, for a server that does not outlive this process; the script and its arguments come after it."""
    return [sys.executable, "-c", WITH_PARENT]


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
    """Return when something listens on the port. Raises UsageError where the process ends, or time runs out."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise UsageError("a server ended before it answered", found=f"exit code {process.returncode}")
        with socket.socket() as probe:
            probe.settimeout(1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise UsageError(f"a server did not answer within {seconds:.0f} s", where=f"port {port}")


def stop(process: subprocess.Popen[Any]) -> None:
    """End a server that has a session of its own, and its children: politely, then for certain."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            os.killpg(process.pid, kind)
            try:
                process.wait(timeout=15)
            except subprocess.TimeoutExpired:
                continue
