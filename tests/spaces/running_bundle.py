"""A flavour's bundle as files, served by `spaces/serve.py`, and asked by gradio_client."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.space_bundle import build_space_bundle
from release.space_flavour import PinnedGguf, SpaceFlavour

ROOT = Path(__file__).resolve().parents[2]
NO_HUB = "http://127.0.0.1:9"  # HF_HUB_OFFLINE would forbid huggingface_hub's client any server
SECONDS_TO_START, SECONDS_TO_INSTALL = 250, 1100


@dataclass(frozen=True)
class RunningBundle:
    url: str
    process: subprocess.Popen[bytes]

    def health(self) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            return dict(json.load(error))

    def processor_share(self, seconds: float) -> float:
        """Of one core, over the next seconds."""
        before = processor_seconds(self.process)
        time.sleep(seconds)
        return (processor_seconds(self.process) - before) / seconds


def processor_seconds(process: subprocess.Popen[bytes]) -> float:
    """What the process has used of the processor, all its threads together."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_bundle(
    folder: Path, checkpoint: Path, hashes: dict[str, str], name: str, told: dict[str, Any], **changes: Any
) -> Path:
    """The published files, except that space.json names folders instead of repositories, so that no Hub is needed.

    `changes` are fields of space.json that only this machine knows.
    """
    backend = "llama.cpp" if name == "cpu" else name
    flavour = SpaceFlavour(
        name=name,
        backend=backend,
        precision="float32" if name == "zerogpu" else "the server's",
        hardware=None,
        memory=None,
        url=told.get("url"),
        gguf=told.get("gguf")
        and PinnedGguf(**{**told["gguf"], "size": 1, "repo_id": "org/tiny", "revision": "0" * 40}),
    )
    files = build_space_bundle(
        model_id="org/tiny",
        revision="0" * 40,
        tag="v1.0",
        checkpoint_digest="sha256:" + "0" * 64,
        scorecard=None,
        title="Tiny chat",
        license=None,
        verify_command="python -m release verify org/tiny@v1.0",
        flavour=flavour,
        files=hashes,
    )
    folder.mkdir()
    for file, content in files.items():
        (folder / file).write_bytes(content)
    space = json.loads(files["space.json"]) | {"model_id": str(checkpoint), "revision": None, **changes}
    if "gguf" in told:
        space["backend_settings"]["gguf"] = told["gguf"]
    (folder / "space.json").write_text(json.dumps(space))
    return folder


@contextmanager
def running_bundle(folder: Path, *, isolated: bool = False) -> Iterator[RunningBundle]:
    """Served until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, str(ROOT / "spaces" / "serve.py"), str(folder), "--port", str(port)]
    with (folder.parent / "space.log").open("wb") as output:
        process = subprocess.Popen(
            [*command, *(["--isolated"] if isolated else [])],
            env={**os.environ, "HF_ENDPOINT": NO_HUB},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    space = RunningBundle(f"http://127.0.0.1:{port}", process)
    try:
        _wait(space, SECONDS_TO_INSTALL if isolated else SECONDS_TO_START, folder.parent / "space.log")
        yield space
    finally:
        process.terminate()
        process.wait(timeout=20)


def ask(url: str, question: str) -> str:
    from gradio_client import Client

    return str(Client(url, verbose=False).predict(question, "", 0, 1, 16, api_name="/chat"))


def _wait(space: RunningBundle, seconds: int, log: Path) -> None:
    for _ in range(seconds * 2):
        if space.process.poll() is not None:
            break
        try:
            space.health()
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"the Space did not start:\n{log.read_text()[-3000:]}")
