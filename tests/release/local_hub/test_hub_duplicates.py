"""`hf repos duplicate` and `hf repos ls`: a copy with its history, and what each repository takes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commit_operations import add
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from release.local_hub.fsck import check


@pytest.fixture
def original(api: HfApi) -> HfApi:
    api.create_repo("slipway/demo")
    api.create_commit("slipway/demo", [add("w.bin", bytes(300_000)), add("a.txt", b"first")], commit_message="Files")
    api.create_tag("slipway/demo", tag="v1", tag_message="the first")
    api.create_commit("slipway/demo", [add("a.txt", b"second")], commit_message="Second")
    api.create_branch("slipway/demo", branch="dev")
    api.create_discussion("slipway/demo", title="Not copied")
    return api


def test_a_copy_has_every_branch_tag_and_commit_and_goes_its_own_way(original: HfApi, hub: Any, tmp_path: Path) -> None:
    url = original.duplicate_repo("slipway/demo", "slipway/copy")
    assert (url.repo_id, url.files_copy_pending) == ("slipway/copy", False)
    for name in ("slipway/demo", "slipway/copy"):
        assert [one.title for one in original.list_repo_commits(name)] == ["Second", "Files", "initial commit"]
    ours, theirs = (original.list_repo_refs(name) for name in ("slipway/demo", "slipway/copy"))
    assert (ours.branches, ours.tags) == (theirs.branches, theirs.tags)
    there = Path(original.snapshot_download("slipway/copy", revision="v1", cache_dir=tmp_path / "cache"))
    assert (there / "w.bin").stat().st_size == 300_000
    original.create_commit("slipway/copy", [add("b.txt", b"b")], commit_message="Third")
    assert "b.txt" not in original.list_repo_files("slipway/demo")
    assert list(original.get_repo_discussions("slipway/copy")) == []
    original.delete_repo("slipway/demo")
    assert original.list_repo_files("slipway/copy", revision="v1")
    assert check(hub.store.root) == []


def test_it_is_as_open_as_the_original_unless_told_otherwise(original: HfApi) -> None:
    original.update_repo_settings("slipway/demo", private=True)
    original.duplicate_repo("slipway/demo", "slipway/one")
    original.duplicate_repo("slipway/demo", "slipway/two", visibility="public")
    assert [original.model_info(f"slipway/{name}").private for name in ("one", "two")] == [True, False]
    with pytest.raises(HfHubHTTPError, match="409"):
        original.duplicate_repo("slipway/demo", "slipway/one")
    assert original.duplicate_repo("slipway/demo", "slipway/one", exist_ok=True).repo_id == "slipway/one"


def test_nobody_copies_what_they_may_not_read_or_to_where_they_may_not_write(
    original: HfApi, hub: Any, client: Callable[..., HfApi]
) -> None:
    stranger = client(hub.store.create_user("stranger"))
    with pytest.raises(HfHubHTTPError, match="403"):
        stranger.duplicate_repo("slipway/demo", "slipway/theirs")
    assert stranger.duplicate_repo("slipway/demo").repo_id == "stranger/demo"
    original.update_repo_settings("slipway/demo", gated="manual")
    with pytest.raises(HfHubHTTPError, match="403"):
        stranger.duplicate_repo("slipway/demo", "stranger/gated")
    assert original.duplicate_repo("slipway/demo", "slipway/gated")
    assert original.model_info("slipway/gated").gated == "manual"
    original.update_repo_settings("slipway/demo", gated=False, private=True)
    with pytest.raises(RepositoryNotFoundError):
        stranger.duplicate_repo("slipway/demo", "stranger/private")


def test_a_space_is_copied_with_its_variables_and_without_its_secrets(api: HfApi) -> None:
    api.create_repo("slipway/app", repo_type="space", space_sdk="gradio")
    api.add_space_variable("slipway/app", "SHOWN", "1")
    api.add_space_secret("slipway/app", "HIDDEN", "2")
    api.duplicate_repo("slipway/app", "slipway/again", repo_type="space", space_secrets=[{"key": "OWN", "value": "3"}])
    assert list(api.get_space_variables("slipway/again")) == ["SHOWN"]
    assert list(api.get_space_secrets("slipway/again")) == ["OWN"]
    assert api.space_info("slipway/again").sdk == "gradio"


def test_repositories_are_listed_with_what_they_take_to_those_whose_they_are(
    original: HfApi, hub: Any, token: str, client: Callable[..., HfApi], tmp_path: Path
) -> None:
    hub.store.create_organisation("harbour", ("slipway",))
    original.create_repo("harbour/rows", repo_type="dataset", private=True)
    (one,) = original.list_user_repos()
    assert (one.id, one.type, one.visibility, one.storage_percent) == ("slipway/demo", "model", "public", 100)
    assert one.storage > 300_000
    (rows,) = original.list_user_repos("harbour")
    assert (rows.id, rows.type, rows.visibility) == ("harbour/rows", "dataset", "private")
    stranger = client(hub.store.create_user("stranger"))
    assert list(stranger.list_user_repos()) == []
    with pytest.raises(HfHubHTTPError, match="403"):
        list(stranger.list_user_repos("harbour"))
    with pytest.raises(HfHubHTTPError, match="401"):
        list(client(False).list_user_repos())
    environment = {"PATH": "", "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HOME": str(tmp_path)}
    command = [str(Path(sys.executable).parent / "hf"), "repos", "ls"]
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "slipway/demo" in listed
