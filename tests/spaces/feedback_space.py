"""A feedback Space for tests: pairs of which the better answer is known to the test, served as `python app.py` on a free port."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from made_votes import NEW, OLD, answer

from release.feedback_bundle import build_feedback_bundle, write_folder
from training.feedback_pairs import Pair
from training.votes import Turn, pair_id

TOPICS = ("tea", "rain", "bread", "trains", "sleep", "maps", "salt", "bees", "snow", "paper")


def make_pairs(count: int) -> list[Pair]:
    """The newer model answers to the point; the older one rambles. A rule can tell them apart by the word "um"."""
    pairs = []
    for number in range(count):
        topic = TOPICS[number % len(TOPICS)]
        prompt = [Turn(role="user", content=f"Tell me one thing about {topic} ({number}).")]
        good = answer(f"One thing about {topic}: it is worth a closer look, for reason {number}.", NEW)
        bad = answer(f"um, {topic}, well, um, there are many things, number {number} and so on", OLD)
        one, other = (good, bad) if number % 3 else (bad, good)
        pairs.append(Pair(pair_id=pair_id(prompt, one, other), prompt=prompt, one=one, other=other))
    return pairs


def write_space(folder: Path, pairs: list[Pair], **settings: Any) -> Path:
    """The published files in `folder`."""
    file = folder.parent / f"{folder.name}-pairs.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(pair.model_dump(mode="json")) + "\n" for pair in pairs))
    values = {"votes_dataset": None, "title": "Which answer is better?", **settings}
    write_folder(build_feedback_bundle(pairs=file, **values), folder)
    return folder


@dataclass
class FeedbackSpace:
    """The Space as a process that can be killed and started again on the same disk and port."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def votes(self) -> list[dict[str, Any]]:
        """What stands on the disk, whole lines only."""
        content = b"".join(file.read_bytes() for file in sorted((self.folder / "votes").glob("*.jsonl")))
        return [json.loads(line) for line in content.splitlines(keepends=True) if line.endswith(b"\n")]

    def start(self) -> None:
        if not self.port:
            with socket.create_server(("127.0.0.1", 0)) as free:
                self.port = free.getsockname()[1]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {"GRADIO_SERVER_PORT": str(self.port), "GRADIO_SERVER_NAME": "127.0.0.1"}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "VOTES_DIR": str(self.folder / "votes"), **self.environment}
        log = self.folder.parent / f"{self.folder.name}.log"
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "app.py"], cwd=self.folder, env=environment, stdout=output, stderr=subprocess.STDOUT
            )
        for _ in range(800):
            if self.process.poll() is not None:
                break
            try:
                self.health()
                return
            except OSError:
                time.sleep(0.25)
        raise AssertionError(f"the Space did not start:\n{log.read_text()[-3000:]}")

    def health(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    def kill(self) -> None:
        """As a machine does that goes away: no handler runs."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(timeout=20)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(timeout=40)


@contextmanager
def modules_of(bundle: Path, names: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The bundle's own modules by name, as its app imports them, and none of another Space of the same name."""
    monkeypatch.syspath_prepend(str(bundle))
    taken = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    yield {name: importlib.import_module(name) for name in names}
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(taken)
