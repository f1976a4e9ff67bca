"""Releases of a tiny run, one after another, and what a reader finds of them."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

from tiny_run import change_weights, rescore

from release.hub_client import HubClient
from release.plan import make_plan
from release.publish import publish
from release.request import Request
from training.run_record import RunRecord


def release(run: Path, hub: HubClient, repo_id: str, tag: str, *, space: bool = True) -> None:
    make_plan(run, Request(repo_id, tag=tag, space=f"{repo_id}-chat" if space else None))
    publish(run, hub, no_boot="its answers are looked at elsewhere" if space else None)


def next_release(run: Path, hub: HubClient, repo_id: str) -> None:
    """v2 of other bytes."""
    parent = RunRecord.read(run / "run.json").parent("base")
    assert parent is not None
    rescore(
        run, change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(1)), parent.digest
    )
    release(run, hub, repo_id, "v2")


def is_visible(hub: HubClient, path: str) -> bool:
    """Whether a reader without a token finds it."""
    try:
        with urllib.request.urlopen(f"{hub.endpoint}/api/{path}"):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False
