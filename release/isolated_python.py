"""A Python with exactly the packages that a requirements file names, made once for each such file.

    python = isolated_python("gradio==6.2.0\\n", Path(".slipway/environments"), log_file)

The folder of an environment is named by the SHA-256 of its requirements and of the Python that made it. One that was not
finished is made anew. Two who need the same one at the same time wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from training.errors import UsageError

COMPLETE = "complete.json"  # written last
# Whoever waits for minutes reads what is fetched and installed; bars are for terminals.
PIP_OPTIONS = ("--progress-bar", "off", "--no-input", "--disable-pip-version-check")


def environment_folder(requirements: str, kept: Path, python: str = sys.executable) -> Path:
    """Where the environment of these requirements lies, whether or not it was made."""
    key = hashlib.sha256(f"{python}\n{sys.version}\n{requirements}".encode()).hexdigest()[:16]
    return kept / key


def is_made(home: Path) -> bool:
    """Whether the environment in this folder was finished."""
    return (home / COMPLETE).is_file()


def isolated_python(
    requirements: str,
    kept: Path,
    output: IO[Any],
    *,
    python: str = sys.executable,
    variables: Mapping[str, str] | None = None,
    anew: bool = False,
) -> Path:
    """The environment's Python; pip's words go to `output`. `anew`: also where it was made before.

    Raises UsageError where pip fails or the disk is full.
    """
    home = environment_folder(requirements, kept, python)
    kept.mkdir(parents=True, exist_ok=True)
    with home.with_name(f"{home.name}.lock").open("ab") as lock:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX)
        if anew or not is_made(home):
            try:
                _make(home, requirements, output, python, variables)
            except OSError as error:
                raise UsageError(
                    "the environment of the Space cannot be made", where=str(home), found=str(error)
                ) from error
    return home / "bin" / "python"


def _make(home: Path, requirements: str, output: IO[Any], python: str, variables: Mapping[str, str] | None) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(exist_ok=True)
    made, file = home / "bin" / "python", home / "requirements.txt"
    file.write_text(requirements, encoding="utf-8")
    for command in (
        [python, "-m", "venv", str(home)],
        [str(made), "-m", "pip", "install", *PIP_OPTIONS, "-r", str(file)],
    ):
        environment = dict(os.environ if variables is None else variables) | {"PYTHONUNBUFFERED": "1"}
        done = subprocess.run(command, stdout=output, stderr=output, env=environment, check=False)
        if done.returncode != 0:
            raise UsageError(
                "the environment of the Space cannot be made",
                where=str(file),
                found=f"exit status {done.returncode} of {' '.join(command)}",
                next_step="read what pip said before this, and mend the requirements",
            )
    (home / COMPLETE).write_text(json.dumps({"python": python, "requirements": requirements}), encoding="utf-8")
