"""Run the Space of a release as it stands on the Hub, and ask it one question, before anybody is shown it.

    reason = reason_not_to_boot(flavour)             # what answers is not on this machine; None where it can be run
    boot = boot_space(hub, space, requirements, revision=commit)
    boot.answer

The Space comes from the Hub at its commit, by `spaces/serve.py`, and its model at the pinned revision, into an empty cache. It
runs on this Python where that has exactly its requirements, else in an environment made from them.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from release.hub_client import HubClient
from release.local_server import free_port, start_with_parent, stop, wait_for_port
from release.records import SpaceBoot, SpaceReceipt
from release.space_flavour import SpaceFlavour
from training.command import log
from training.errors import UsageError, VerificationMismatch

SERVE = Path(__file__).resolve().parents[1] / "spaces" / "serve.py"
QUESTION = "How can I fall asleep more easily?"
ANSWER_TOKENS, ANSWER_KEPT = 64, 400  # tokens asked for, greedily; characters kept of them
SECONDS_TO_START, SECONDS_TO_INSTALL, SECONDS_TO_ANSWER, SECONDS_TO_REACH = 300.0, 2400.0, 300.0, 5.0
NOT_THEIRS = ("THUMBS_DATASET", "PYTHONPATH", "HF_HUB_OFFLINE")  # variables of ours that would change what is booted

ASK = """
import sys
from gradio_client import Client
url, question, tokens = sys.argv[1:]
print(Client(url, verbose=False).predict(question, "", 0, 1, int(tokens), api_name="/chat"))
"""


class NoAnswer(Exception):
    """The Space did not come up, or did not answer; its text says how."""


def reason_not_to_boot(flavour: SpaceFlavour | None) -> str | None:
    """Why what answers in this flavour cannot be run here; None where it can."""
    if flavour is None:
        return None
    if flavour.backend == "zerogpu":
        return "it answers on ZeroGPU, which only the platform has"
    if flavour.url is not None and (problem := _unreachable(flavour.url)) is not None:
        return f"its server {flavour.url} cannot be reached from here ({problem})"
    return None


def boot_space(hub: HubClient, space: SpaceReceipt, requirements: str, *, revision: str) -> SpaceBoot:
    """What the Space answered with the model at `revision`. Raises VerificationMismatch where it does not."""
    isolated = not satisfied(requirements)
    log(f"booting the Space {space.repo_id}" + (" in an environment of its own" if isolated else ""))
    try:
        with _running(hub, space, isolated=isolated) as running:
            health = running.health()
            if health.get("status") != "ok" or health.get("revision") != revision:
                raise NoAnswer(str(health.get("reason") or health))
            answer = running.ask(QUESTION)
            if not answer:
                raise NoAnswer(f"nothing, asked {QUESTION!r}")
    except NoAnswer as error:
        raise VerificationMismatch(
            "the Space does not answer, so the publication stops before its end",
            where=f"{hub.endpoint}/spaces/{space.repo_id}, commit {space.commit}",
            expected=f"an answer of the model at {revision}",
            found=_without_token(str(error), hub),
            next_step="the same command tries again, with --no-boot REASON without asking it; "
            "python -m release rollback --run RUN undoes the release",
        ) from error
    log(f"it answers: {answer[:80]!r}")
    return SpaceBoot(question=QUESTION, answer=answer[:ANSWER_KEPT], runtime=str(health["runtime"]), isolated=isolated)


def satisfied(requirements: str) -> bool:
    """Whether this Python has exactly the pinned packages (a build's suffix, as of 2.13.0+cpu, aside)."""
    pins = [line.strip() for line in requirements.splitlines() if line.strip() and not line.startswith("#")]
    return all(_installed(name) == version for name, _, version in (pin.partition("==") for pin in pins))


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name).partition("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


@dataclass
class _Running:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def health(self) -> dict[str, Any]:
        import httpx2

        try:
            return dict(httpx2.get(f"{self.url}/health", timeout=SECONDS_TO_ANSWER).json())
        except (httpx2.HTTPError, ValueError) as error:
            raise NoAnswer(f"/health: {error!r}") from error

    def ask(self, question: str) -> str:
        """As any client would, in a process of its own."""
        words = [sys.executable, "-W", "ignore", "-c", ASK, self.url, question, str(ANSWER_TOKENS)]
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS_TO_ANSWER, check=False)
        except subprocess.TimeoutExpired as error:
            raise NoAnswer(f"no answer within {SECONDS_TO_ANSWER:.0f} s") from error
        if done.returncode != 0:
            raise NoAnswer(done.stderr.strip().rpartition("\n")[2])
        return done.stdout.strip()


@contextmanager
def _running(hub: HubClient, space: SpaceReceipt, *, isolated: bool) -> Iterator[_Running]:
    """The Space, until the block ends; it ends with this process too."""
    port = free_port()
    words = [sys.executable, str(SERVE), space.repo_id, "--revision", space.commit, "--port", str(port)]
    if isolated:
        words.append("--isolated")
    with tempfile.TemporaryDirectory(prefix="slipway-boot-") as cache, tempfile.TemporaryFile("w+") as output:
        process = start_with_parent(words, environment=_environment(hub, cache), output=output)
        try:
            try:
                wait_for_port(port, process, SECONDS_TO_INSTALL if isolated else SECONDS_TO_START)
            except UsageError as error:
                raise NoAnswer(f"{error.what} ({error.found or error.where}):\n{_tail(output)}") from error
            yield _Running(port)
        finally:
            stop(process)


def _environment(hub: HubClient, cache: str) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if name not in NOT_THEIRS}
    told = {"HF_ENDPOINT": hub.endpoint, "HF_HUB_CACHE": cache, "PYTHONUNBUFFERED": "1"}
    return {**ours, **told, **({"HF_TOKEN": hub.api.token} if isinstance(hub.api.token, str) else {})}


def _tail(output: IO[str]) -> str:
    output.seek(0)
    return output.read()[-3000:].strip()


def _without_token(text: str, hub: HubClient) -> str:
    return text.replace(hub.api.token, "...") if isinstance(hub.api.token, str) and hub.api.token else text


def _unreachable(url: str) -> str | None:
    """What is in the way of a server; None where anything answers there."""
    import httpx2

    try:
        httpx2.get(url, timeout=SECONDS_TO_REACH)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return type(error).__name__
    return None
