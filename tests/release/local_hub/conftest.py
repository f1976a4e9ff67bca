"""A Hub on loopback for each test, the real client of a user on it, and raw requests that no client would send."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

REPOSITORY_ROOT = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Any]:
    from release.local_hub.server import running_hub

    with running_hub(tmp_path / "hub") as running:
        yield running


@pytest.fixture
def token(hub: Any) -> str:
    """A write token of the user `slipway`."""
    return hub.store.create_user("slipway")


@pytest.fixture
def api(hub: Any, token: str) -> Any:
    """The unchanged client, as the user `slipway`."""
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.endpoint, token=token)


@pytest.fixture
def client(hub: Any) -> Callable[[str | bool], Any]:
    """The unchanged client with another token; False is nobody."""
    from huggingface_hub import HfApi

    return lambda token: HfApi(endpoint=hub.endpoint, token=token)


@pytest.fixture
def ask(hub: Any) -> Callable[..., Answer]:
    """A raw request: the path goes out exactly as written."""

    def request(
        method: str, path: str, token: str | None = None, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        connection = http.client.HTTPConnection(urlsplit(hub.endpoint).netloc, timeout=20)
        sent = dict(headers or {})
        if token:
            sent["Authorization"] = f"Bearer {token}"
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        try:
            connection.request(method, path, body=body, headers=sent)
            response = connection.getresponse()
            names = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, names, response.read())
        finally:
            connection.close()

    return request


@pytest.fixture
def run_stock_client(hub: Any, tmp_path: Path) -> Callable[..., str]:
    """Run a script in a fresh process that knows nothing but HF_ENDPOINT, HF_TOKEN and an empty HF_HOME; its output."""

    def run(script: str, token: str | None = None, **variables: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE"))}
        environment = {
            **kept,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "hf-home"),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            **variables,
        }
        if token:
            environment["HF_TOKEN"] = token
        done = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
