"""One Space as a process of this machine: its files, its environment, its app.

    app = prepare(space, commit, folder)                # its files, and what is to be run of them
    python = build(app, environments, log)              # minutes for a new requirements.txt
    process = start(python, app, variables, port, log)

The process gets an environment of Python packages and variables of its own, and nothing of the Hub's: no token, no variable of
the Hub's process beyond what pip and a shell need. It is no sandbox: it runs as the Hub's user.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from release.isolated_python import environment_folder, is_made, isolated_python
from release.local_hub.commits import Commit
from release.local_hub.repo_info import app_file, card_data
from release.local_hub.repository import Repository
from training.errors import UsageError

APP_MAY_HAVE = re.compile(r"PATH|LANG|LC_\w+|TZ|TMPDIR|SSL_CERT_\w+|REQUESTS_CA_BUNDLE|(?i:https?_proxy|no_proxy)")
PIP_MAY_HAVE = re.compile(r"HOME|PIP_\w+")  # the address of a package index may hold a password
STOP_SECONDS = 5.0  # from SIGTERM to SIGKILL


class CannotRun(UsageError):
    """This Space is of a kind that is not run here, or has nothing to run."""


@dataclass(frozen=True)
class SpaceApp:
    """What there is to run: a Gradio app, or (sdk static) a folder of pages."""

    folder: Path
    sdk: str
    file: str
    requirements: str
    python: str


def prepare(space: Repository, commit: Commit, folder: Path) -> SpaceApp:
    """Write the commit's files into `folder`, which is made anew. Raises CannotRun."""
    card = card_data(space.blobs, commit.tree)
    sdk = str(card.get("sdk") or space.settings.get("sdk"))
    if sdk not in ("gradio", "static"):
        raise CannotRun(f"a Space of sdk {sdk!r} is not run here", expected="gradio or static")
    file = app_file(space, commit.tree)
    if file not in commit.tree:
        raise CannotRun(
            "the Space has nothing to run", expected=file, next_step=f"add {file}, or name app_file in README.md"
        )
    shutil.rmtree(folder, ignore_errors=True)
    for path, entry in commit.tree.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(space.blobs.path(entry.sha256), target)  # a link would let the app change the Hub's bytes
    named = folder / "requirements.txt"
    lines = [named.read_text(encoding="utf-8")] if named.is_file() else []
    if sdk == "gradio" and card.get("sdk_version"):
        lines.append(f"gradio=={card['sdk_version']}")
    return SpaceApp(folder, sdk, file, "\n".join(lines) + "\n", _python(card.get("python_version")))


def _python(version: Any) -> str:
    """The Python that the card asks for where there is one, else this one; the build's log names it."""
    wanted = f"python{version}" if version else ""
    here = f"python{sys.version_info.major}.{sys.version_info.minor}"
    return sys.executable if wanted in ("", here) else shutil.which(wanted) or sys.executable


def build(app: SpaceApp, environments: Path, log: IO[str], *, anew: bool = False) -> Path:
    """The Python to run the app with. Raises UsageError where pip fails."""
    if app.sdk == "static":
        return Path(sys.executable)
    began, home = time.monotonic(), environment_folder(app.requirements, environments, app.python)
    log.write(f"{app.python}, packages in {home.name}:\n{app.requirements}")
    log.flush()
    variables = own_variables(APP_MAY_HAVE, PIP_MAY_HAVE)
    made = isolated_python(app.requirements, environments, log, python=app.python, variables=variables, anew=anew)
    log.write(f"ready after {time.monotonic() - began:.0f} s\n")
    return made


def is_built(app: SpaceApp, environments: Path) -> bool:
    """Whether `build` has nothing to make."""
    return app.sdk == "static" or is_made(environment_folder(app.requirements, environments, app.python))


def own_variables(*patterns: re.Pattern[str]) -> dict[str, str]:
    """The Hub's own variables with such names."""
    return {name: value for name, value in os.environ.items() if any(each.fullmatch(name) for each in patterns)}


def start(
    python: Path, app: SpaceApp, variables: Mapping[str, str], port: int, log: IO[str]
) -> subprocess.Popen[bytes]:
    """Start the app on a port of loopback; what it says goes to `log`."""
    if app.sdk == "static":
        command = [str(python), "-I", "-m", "http.server", str(port), "--bind", "127.0.0.1"]
    else:
        command = [str(python), app.file]
    home = app.folder.parent / "home"
    home.mkdir(exist_ok=True)
    environment = {
        **own_variables(APP_MAY_HAVE),
        "HOME": str(home),
        "HF_HOME": str(home / "huggingface"),
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GRADIO_ANALYTICS_ENABLED": "False",
        "GRADIO_SERVER_NAME": "127.0.0.1",
        "GRADIO_SERVER_PORT": str(port),
        "PYTHONUNBUFFERED": "1",
        **variables,
    }
    return subprocess.Popen(
        command,
        cwd=app.folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the app and all that it has started."""
    _signal(process.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=STOP_SECONDS)
    _signal(process.pid, signal.SIGKILL)
    process.wait()


def _signal(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return
