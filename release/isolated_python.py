"""A Python with exactly the packages that a requirements file names, made once for each such file.

    python = isolated_python("gradio==6.2.0\\n", Path(".slipway/environments"), log_file)

The folder of an environment is named by the SHA-256 of its requirements and of the Python that made it. One that was not
finished is made anew.
"""

from __future__ import annotations

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


def environment_folder(requirements: str, kept: Path, python: str = sys.executable) -> Path:
    """Where the environment of these requirements lies, whether or not it was made."""
    key = hashlib.sha256(f"{python}\n{sys.version}\n{requirements}".encode()).hexdigest()[:16]
    return kept / key


def isolated_python(
    requirements: str,
    kept: Path,
    output: IO[Any],
    *,
    python: str = sys.executable,
    variables: Mapping[str, str] | None = None,
) -> Path:
    """The environment's Python; pip's words go to `output`. Raises UsageError where pip fails."""
    home = environment_folder(requirements, kept, python)
    made, complete = home / "bin" / "python", home / "complete.json"
    if complete.is_file():
        return made
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    file = home / "requirements.txt"
    file.write_text(requirements, encoding="utf-8")
    for command in (
        [python, "-m", "venv", str(home)],
        [str(made), "-m", "pip", "install", "--quiet", "-r", str(file)],
    ):
        environment = dict(os.environ if variables is None else variables)
        done = subprocess.run(command, stdout=output, stderr=output, env=environment, check=False)
        if done.returncode != 0:
            raise UsageError(
                "the environment of the Space cannot be made",
                where=str(file),
                found=f"exit status {done.returncode} of {' '.join(command)}",
                next_step="read what pip said before this, and mend the requirements",
            )
    complete.write_text(json.dumps({"python": python, "requirements": requirements}), encoding="utf-8")
    return made
