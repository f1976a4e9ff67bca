"""Rollback takes the Space along, shows again what it hid, and says what it leaves."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from releases import is_visible, next_release, release

from release.__main__ import main
from release.hub_client import HubClient
from release.plan import make_plan
from release.publish import publish
from release.request import Request


def served(hub: HubClient, space: str) -> str:
    return str(json.loads(hub.text(space, "main", "space.json", "space"))["tag"])


@pytest.mark.usefixtures("load_here")
def test_the_space_returns_with_its_model_to_the_release_that_is_named(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    release(run, hub, repo_id, "v1")
    next_release(run, hub, repo_id)
    assert served(hub, f"{repo_id}-chat") == "v2"
    back = ["rollback", "--repo", repo_id, "--to"]
    for _ in range(2):  # the second time there is nothing left to do
        assert main([*back, "v1"]) == 0
        assert f"the Space {repo_id}-chat serves v1" in capsys.readouterr().out
        assert served(hub, f"{repo_id}-chat") == "v1"
        assert len(hub.history(f"{repo_id}-chat", kind="space")) == 4
    assert main([*back, "v2"]) == 0
    assert served(hub, f"{repo_id}-chat") == "v2"
    assert main(["rollback", "--run", str(run), "--to", "v1"]) == 0
    assert served(hub, f"{repo_id}-chat") == "v1"


@pytest.mark.usefixtures("load_here")
def test_a_space_that_never_served_the_release_stays_and_is_named(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    release(run, hub, repo_id, "v1", space=False)
    next_release(run, hub, repo_id)
    for _ in range(2):
        assert main(["rollback", "--repo", repo_id, "--to", "v1"]) == 0
        assert f"the Space {repo_id}-chat still serves v2" in capsys.readouterr().out
    assert served(hub, f"{repo_id}-chat") == "v2"


@pytest.mark.usefixtures("load_here")
def test_what_a_rollback_hid_is_public_again_once_it_is_returned_to(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    release(run, hub, repo_id, "v1")
    places = (f"models/{repo_id}", f"spaces/{repo_id}-chat")
    assert main(["rollback", "--run", str(run)]) == 0
    assert [is_visible(hub, place) for place in places] == [False, False]
    back = ["rollback", "--repo", repo_id, "--to", "v1"]
    assert main([*back, "--keep-private"]) == 0
    assert "it is private" in capsys.readouterr().out
    assert [is_visible(hub, place) for place in places] == [False, False]
    assert main(back) == 0
    assert "it is public" in capsys.readouterr().out
    assert [is_visible(hub, place) for place in places] == [True, True]


@pytest.mark.usefixtures("load_here")
def test_a_private_release_stays_private_when_it_is_returned_to(run: Path, hub: HubClient, repo_id: str) -> None:
    make_plan(run, Request(repo_id, tag="v1", private=True))
    publish(run, hub)
    assert main(["rollback", "--repo", repo_id, "--to", "v1"]) == 0
    assert not is_visible(hub, f"models/{repo_id}")
    assert main(["rollback", "--run", str(run), "--keep-private"]) == 2


@pytest.mark.usefixtures("load_here")
def test_a_first_release_on_which_another_was_built_is_not_undone(
    run: Path, tmp_path: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Undoing it would hide the repository, and the later release with it."""
    release(run, hub, repo_id, "v1", space=False)
    other = Path(
        shutil.copytree(
            run,
            tmp_path / "other",
            ignore=shutil.ignore_patterns("plan.json", "journal.jsonl", "receipt.json", "bundle"),
        )
    )
    next_release(other, hub, repo_id)
    assert main(["rollback", "--run", str(run)]) == 2
    assert "has moved on to the release v2" in capsys.readouterr().err
    assert is_visible(hub, f"models/{repo_id}")
