"""A published, signed release that no test changes, and what a check finds wrong with a copy of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_run import examine_here

from release.bundle import files_of
from release.hub_client import HubClient
from release.local_hub.server import RunningHub
from release.plan import make_plan
from release.publish import publish
from release.records import Receipt
from release.request import Request
from release.signature import SignWith, Trust, check

TAG = "v1.0.0"


@contextmanager
def published(
    repo_id: str, tiny_run: Path, folder: Path, hub: tuple[RunningHub, str], sign: SignWith
) -> Iterator[tuple[Path, Receipt]]:
    """A copy of the run in `folder`, released under TAG, and its receipt; HF_ENDPOINT and HF_TOKEN stand within the block."""
    run = Path(shutil.copytree(tiny_run, folder / "run"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_ENDPOINT", hub[0].endpoint)
        patch.setenv("HF_TOKEN", hub[1])
        patch.setattr("release.downloaded.load_in_fresh_process", examine_here)
        make_plan(run, Request(repo_id, tag=TAG, sign=sign))
        yield run, publish(run, HubClient.connect())[0]


def found_wrong(folder: Path, trust: Trust, repo_id: str) -> dict[str, str | None]:
    """What is not as it was signed: check or file -> what was found."""
    return {
        finding.subject if finding.check == "signed" else finding.check: finding.found
        for finding in check(folder, files_of(folder), trust, repo_id, TAG)
        if not finding.ok
    }
