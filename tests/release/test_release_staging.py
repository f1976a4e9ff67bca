"""What has not been checked yet is seen by nobody without a token, also where the repository is public already."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from releases import is_visible, next_release, release
from tiny_run import OWNER

from release.__main__ import main
from release.hub_client import HubClient
from release.local_hub.server import RunningHub
from release.plan import make_plan
from release.publish import Publication, publish
from release.request import Request
from training.errors import HubError


@pytest.fixture
def broken_off(run: Path, hub: HubClient, repo_id: str, monkeypatch: pytest.MonkeyPatch, load_here: None) -> None:
    """v1 is public, and the publication of v2 broke off when it was staged."""
    release(run, hub, repo_id, "v1", space=False)

    def broken(*_: Any) -> None:
        raise HubError("the Hub was switched off", where=hub.endpoint)

    with monkeypatch.context() as patch:
        patch.setattr(Publication, "_check", broken)
        with pytest.raises(HubError, match="switched off"):
            next_release(run, hub, repo_id)


def staged(run: Path) -> dict[str, Any]:
    lines = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()]
    return dict([line for line in lines if line["step"] == "staged"][-1])


def seen(hub: HubClient, path: str) -> Any:
    with urllib.request.urlopen(f"{hub.endpoint}/api/{path}") as answer:
        return json.load(answer)


def test_the_next_release_of_a_public_repository_is_staged_in_a_private_one(
    run: Path, hub: HubClient, repo_id: str, broken_off: None
) -> None:
    apart = staged(run)["repository"]
    assert apart.startswith(f"{repo_id[:40]}")
    assert "-staging-" in apart
    assert [branch["name"] for branch in seen(hub, f"models/{repo_id}/refs")["branches"]] == ["main"]
    assert not is_visible(hub, f"models/{apart}")
    assert apart not in [item["id"] for item in seen(hub, f"models?author={OWNER}")]
    assert main(["resume", "--run", str(run)]) == 0
    assert hub.repository(apart) is None
    released = hub.repository(repo_id)
    assert released is not None
    assert released.branches == {"main": released.tags["v2"]}


def test_rollback_of_a_publication_that_broke_off_removes_what_was_staged_apart(
    run: Path, hub: HubClient, repo_id: str, broken_off: None
) -> None:
    apart = staged(run)["repository"]
    for _ in range(2):
        assert main(["rollback", "--run", str(run)]) == 0
    assert hub.repository(apart) is None
    left = hub.repository(repo_id)
    assert left is not None
    assert left.branches == {"main": left.tags["v1"]}
    assert not left.private


def test_a_release_sends_again_what_the_hub_has_lost_of_the_one_before(
    run: Path, hub: HubClient, hub_with_owner: tuple[RunningHub, str], repo_id: str, load_here: None
) -> None:
    """Private, it is staged on a branch, so that only what differs from main would be sent."""
    store = hub_with_owner[0].store
    for tag in ("v1", "v2"):
        make_plan(run, Request(repo_id, tag=tag, private=True))
        publish(run, hub)
        released = store.find("model", repo_id)
        assert released is not None
        tree = released.resolve(tag).tree
        for path in ("model.safetensors", "config.json"):
            blob = store.blobs.path(tree[path].sha256)
            assert blob.is_file(), f"{path} of {tag}"
            if tag == "v1":
                blob.unlink()
