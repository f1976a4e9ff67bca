"""A repository that was moved: its old name leads to the new one by 307, and the unchanged clients follow, with uploads too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commit_operations import add
from huggingface_hub import HfApi, HfFileSystem
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from release.hub_client import HubClient
from release.hub_files import LocalFile

WEIGHTS = bytes(range(256)) * 40_000


@pytest.fixture
def moved(api: HfApi) -> HfApi:
    """slipway/old is slipway/new now; the client."""
    api.create_repo("slipway/old")
    api.create_commit("slipway/old", [add("a b/c.txt", b"first"), add("w.bin", WEIGHTS)], commit_message="Files")
    api.move_repo("slipway/old", "slipway/new")
    return api


@pytest.mark.parametrize(
    ("method", "path", "location"),
    [
        ("GET", "/slipway/old/resolve/main/a%20b/c.txt?download=1", "/slipway/new/resolve/main/a%20b/c.txt?download=1"),
        ("HEAD", "/slipway/old/resolve/main/w.bin", "/slipway/new/resolve/main/w.bin"),
        ("GET", "/api/models/slipway/old", "/api/models/slipway/new"),
        ("GET", "/api/models/Slipway/OLD/tree/refs%2Fheads%2Fmain", "/api/models/slipway/new/tree/refs%2Fheads%2Fmain"),
        ("GET", "/slipway/old", "/slipway/new"),
        ("GET", "/slipway/old/blob/main/w.bin", "/slipway/new/blob/main/w.bin"),
        (
            "GET",
            "/slipway/old.git/info/refs?service=git-upload-pack",
            "/slipway/new.git/info/refs?service=git-upload-pack",
        ),
    ],
)
def test_the_old_name_leads_to_the_same_address_under_the_new_one(
    method: str, path: str, location: str, moved: HfApi, ask: Callable[..., Any]
) -> None:
    answer = ask(method, path)
    assert (answer.status, answer.headers["location"]) == (307, location)
    assert "x-error-message" not in answer.headers
    assert ask(method, location).status == 200


def test_whoever_may_not_see_it_does_not_learn_its_new_name(
    moved: HfApi, ask: Callable[..., Any], client: Callable[..., HfApi]
) -> None:
    moved.update_repo_settings("slipway/new", private=True)
    for path in ("/slipway/old/resolve/main/w.bin", "/api/models/slipway/old", "/slipway/old"):
        answer = ask("GET", path)
        assert answer.status == 401
        assert b"slipway/new" not in answer.body
        assert "location" not in answer.headers
    with pytest.raises(RepositoryNotFoundError):
        client(False).model_info("slipway/old")


def test_the_unchanged_client_reads_and_writes_under_the_old_name(moved: HfApi, tmp_path: Path) -> None:
    assert moved.model_info("slipway/old").id == "slipway/new"
    there = Path(moved.snapshot_download("slipway/old", cache_dir=tmp_path / "cache"))
    assert (there / "w.bin").read_bytes() == WEIGHTS
    moved.create_commit(
        "slipway/old", [add("d.txt", b"d" * 3_000_000), add("v.bin", WEIGHTS + b"v")], commit_message="More"
    )
    moved.create_tag("slipway/old", tag="v1")
    moved.create_branch("slipway/old", branch="dev")
    discussion = moved.create_discussion("slipway/old", title="Hello")
    assert moved.get_discussion_details("slipway/old", discussion.num).title == "Hello"
    assert {ref.name for ref in moved.list_repo_refs("slipway/new").branches} == {"main", "dev"}
    assert "v.bin" in moved.list_repo_files("slipway/new")
    files = HfFileSystem(endpoint=moved.endpoint, token=moved.token)
    assert files.cat("slipway/old/d.txt") == b"d" * 3_000_000
    moved.update_repo_settings("slipway/old", private=True)
    assert moved.model_info("slipway/new").private


def test_what_cannot_be_taken_back_is_not_done_by_a_name_that_it_bore_once(moved: HfApi) -> None:
    for attempt in (
        lambda: moved.delete_repo("slipway/old"),
        lambda: moved.move_repo("slipway/old", "slipway/other"),
    ):
        with pytest.raises(RepositoryNotFoundError):
            attempt()
    moved.delete_repo("slipway/old", missing_ok=True)
    assert moved.model_info("slipway/new").id == "slipway/new"
    moved.move_repo("slipway/new", "SLIPWAY/Newer")
    assert moved.model_info("slipway/new").id == "slipway/Newer"
    moved.delete_repo("slipway/Newer")
    with pytest.raises(RepositoryNotFoundError):
        moved.model_info("slipway/new")


def test_an_old_name_deletes_and_moves_nothing(moved: HfApi) -> None:
    for kind, name in (("model", "old"), ("dataset", "rows")):
        if kind == "dataset":
            moved.create_repo("slipway/rows", repo_type=kind)
            moved.move_repo("slipway/rows", "slipway/new", repo_type=kind)
        moved.delete_repo(f"slipway/{name}", repo_type=kind, missing_ok=True)
        with pytest.raises(RepositoryNotFoundError, match="was moved and is slipway/new now"):
            moved.delete_repo(f"slipway/{name}", repo_type=kind)
        with pytest.raises(HfHubHTTPError, match="was moved and is slipway/new now"):
            moved.move_repo(f"slipway/{name}", "slipway/third", repo_type=kind)
        assert moved.repo_exists("slipway/new", repo_type=kind)
    moved.delete_repo("Slipway/NEW")
    assert not moved.repo_exists("slipway/new")


def test_a_repository_moves_to_a_namespace_as_its_owner_spells_it(moved: HfApi) -> None:
    moved.move_repo("slipway/new", "SlipWay/Newer")
    info = moved.model_info("slipway/newer")
    assert (info.id, info.author) == ("slipway/Newer", "slipway")


def test_slipways_own_client_whose_requests_carry_digests_is_led_on_too(moved: HfApi, token: str) -> None:
    client = HubClient.connect(moved.endpoint, token)
    files = {"e.txt": LocalFile.of(b"e"), "x.bin": LocalFile.of(WEIGHTS + b"x")}
    details = {"additions": files, "deletions": [], "title": "More", "message": ""}
    client.commit("slipway/old", "main", parent=client.head("slipway/old", "main"), landed=lambda _: False, **details)
    assert {"e.txt", "x.bin"} <= client.tree("slipway/new", "main").keys()


def test_a_commit_of_many_megabytes_to_the_old_name_is_read_to_its_end_and_sent_again(
    moved: HfApi, ask: Callable[..., Any], token: str
) -> None:
    line = json.dumps({"key": "file", "value": {"path": "big.txt", "content": "x" * 9_000_000}}).encode()
    body = b'{"key":"header","value":{"summary":"x"}}\n' + line
    answer = ask("POST", "/api/models/slipway/old/commit/main", token, body)
    assert (answer.status, answer.headers["location"]) == (307, "/api/models/slipway/new/commit/main")


def test_git_and_the_hf_command_follow(moved: HfApi, hub: Any, token: str, tmp_path: Path) -> None:
    quiet = {**os.environ, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "GIT_LFS_SKIP_SMUDGE": "1"}
    subprocess.run(["git", "clone", "-q", f"{hub.endpoint}/slipway/old", "clone"], cwd=tmp_path, env=quiet, check=True)
    assert (tmp_path / "clone" / "a b" / "c.txt").read_text() == "first"
    known = {**quiet, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HOME": str(tmp_path / "hf")}
    (tmp_path / "up.txt").write_text("up")
    for words in (
        ["upload", "slipway/old", "up.txt", "up.txt"],
        ["download", "slipway/old", "up.txt", "--local-dir", "down"],
    ):
        subprocess.run(
            [str(Path(sys.executable).parent / "hf"), *words],
            cwd=tmp_path,
            env=known,
            check=True,
            capture_output=True,
            timeout=60,
        )
    assert (tmp_path / "down" / "up.txt").read_text() == "up"


def test_a_space_and_a_dataset_lead_on_under_their_own_addresses(api: HfApi, ask: Callable[..., Any]) -> None:
    api.create_repo("slipway/page", repo_type="space", space_sdk="static")
    api.create_repo("slipway/rows", repo_type="dataset")
    for kind, name in (("space", "page"), ("dataset", "rows")):
        api.move_repo(f"slipway/{name}", f"slipway/new-{name}", repo_type=kind)
        path = f"/{kind}s/slipway/{name}/resolve/main/.gitattributes"
        assert ask("GET", path).headers["location"] == f"/{kind}s/slipway/new-{name}/resolve/main/.gitattributes"
    assert api.get_space_runtime("slipway/page").stage
    assert ask("GET", "/api/spaces/slipway/page/runtime").status == 307
