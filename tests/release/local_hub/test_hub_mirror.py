"""`hub mirror`: from one Hub to another, by the command, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import GatedRepoError

from release.__main__ import main
from release.local_hub.fsck import check
from release.local_hub.server import running_hub
from release.local_hub.store import Store

NAMES = ["slipway/demo", "datasets/slipway/data", "spaces/slipway/page"]
WEIGHTS = bytes(range(256)) * 20_000


@pytest.fixture
def source(api: Any) -> Any:
    """The client of a Hub with a model of several branches, a gated dataset and a Space."""
    api.create_repo("slipway/demo", private=True)
    operations = [CommitOperationAdd("w[1].bin", WEIGHTS), CommitOperationAdd("a/b.txt", b"first")]
    api.create_commit("slipway/demo", operations, commit_message="Files", commit_description="more")
    api.create_tag("slipway/demo", tag="v1")
    api.create_branch("slipway/demo", branch="dev")
    api.create_commit("slipway/demo", [CommitOperationAdd("d", b"d")], commit_message="Dev", revision="dev")
    second = [CommitOperationAdd("a/b.txt", b"second"), CommitOperationDelete("w[1].bin")]
    api.create_commit("slipway/demo", second, commit_message="Second")
    api.create_repo("slipway/data", repo_type="dataset")
    api.update_repo_settings("slipway/data", gated="auto", repo_type="dataset")
    api.create_repo("slipway/page", repo_type="space", space_sdk="static")
    return api


@pytest.fixture
def mirror(
    hub: Any, token: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., list[dict[str, Any]]]:
    """Run the command; what it says of each repository."""
    monkeypatch.setenv("HF_TOKEN", token)

    def run(*names: str, code: int = 0) -> Any:
        capsys.readouterr()
        root = str(tmp_path / "mirror")
        assert main(["hub", "mirror", *names, "--from", hub.endpoint, "--root", root, "--json"]) == code
        said = json.loads(capsys.readouterr().out)
        return said["mirrored"] if code == 0 else said.get("error")

    return run


@pytest.fixture
def copy(mirror: Any, source: Any, tmp_path: Path) -> Iterator[Any]:
    """The client of a Hub that has mirrored it all."""
    mirror(*NAMES)
    with running_hub(tmp_path / "mirror") as running:
        running.store.accounts.create_user("reader")
        running.store.accounts.add_member("slipway", "reader")
        yield HfApi(endpoint=running.endpoint, token=running.store.create_token("reader"))


def test_all_types_branches_tags_and_commits_arrive_under_the_same_ids(source: Any, copy: Any, tmp_path: Path) -> None:
    for name, kind in (("slipway/demo", "model"), ("slipway/data", "dataset"), ("slipway/page", "space")):
        refs = source.list_repo_refs(name, repo_type=kind)
        assert copy.list_repo_refs(name, repo_type=kind) == refs
        for ref in [*refs.branches, *refs.tags]:
            history = source.list_repo_commits(name, repo_type=kind, revision=ref.name)
            assert copy.list_repo_commits(name, repo_type=kind, revision=ref.name) == history
            for commit in history:
                trees = [
                    list(one.list_repo_tree(name, repo_type=kind, revision=commit.commit_id, recursive=True))
                    for one in (source, copy)
                ]
                assert trees[0] == trees[1]
    assert copy.model_info("slipway/demo").private
    assert copy.dataset_info("slipway/data").gated == "auto"
    copy.auth_check("slipway/data", repo_type="dataset")
    with pytest.raises(GatedRepoError):
        HfApi(endpoint=copy.endpoint, token=False).auth_check("slipway/data", repo_type="dataset")
    assert copy.space_info("slipway/page").sdk == "static"
    file = copy.hf_hub_download("slipway/demo", "w[1].bin", revision="v1", cache_dir=tmp_path / "cache")
    assert Path(file).read_bytes() == WEIGHTS
    assert check(tmp_path / "mirror") == []


def test_a_second_run_copies_nothing_and_a_later_one_what_is_new(mirror: Any, source: Any) -> None:
    first = mirror("slipway/demo")[0]
    assert (first["refs"], first["commits"], first["files"]) == (3, 4, 5)
    assert mirror("slipway/demo")[0] == {**first, "commits": 0, "files": 0, "size": 0}
    source.create_commit("slipway/demo", [CommitOperationAdd("w2.bin", WEIGHTS)], commit_message="The same bytes again")
    source.delete_branch("slipway/demo", branch="dev")
    assert mirror("slipway/demo")[0] == {**first, "refs": 2, "commits": 1, "files": 0, "size": 0}


def test_what_was_broken_off_continues_and_shows_nothing_until_then(
    mirror: Any, source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from release.local_hub.repository import Repository

    with monkeypatch.context() as broken:
        take_in, count = Repository.take_in, iter(range(9))

        def stop_at_third(self: Any, *words: Any) -> None:
            if next(count) == 2:
                raise KeyboardInterrupt
            take_in(self, *words)

        broken.setattr(Repository, "take_in", stop_at_third)
        mirror("slipway/demo", code=130)
    found = Store(tmp_path / "mirror").find("model", "slipway/demo")
    assert found is not None
    assert found.refs() == {}
    first, second = sorted((found.folder / "commits").glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
    first.unlink()  # as `hub gc` may, a day later
    blob = next(entry for entry in found.commit_of(second.stem).tree.values() if entry.lfs)
    found.blobs.path(blob.sha256).unlink()
    mirror("slipway/demo")
    assert len(found.refs()) == 3
    assert check(tmp_path / "mirror") == []


def test_bytes_that_are_not_those_that_the_source_lists_are_not_taken(
    hub: Any, mirror: Any, source: Any, tmp_path: Path
) -> None:
    entry = hub.store.find("model", "slipway/demo").resolve("v1").tree["w[1].bin"]
    blob = hub.store.blobs.path(entry.sha256)
    blob.chmod(0o644)
    blob.write_bytes(WEIGHTS[:-1] + b"x")
    assert entry.sha256 in mirror("slipway/demo", code=4)["expected"]
    blob.write_bytes(WEIGHTS)
    assert mirror("slipway/demo")[0]["refs"] == 3
    assert check(tmp_path / "mirror") == []


def test_a_repository_of_this_hubs_own_and_a_missing_one_are_refused(mirror: Any, source: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "mirror")
    store.create_user("slipway")
    store.create_repository("model", "slipway/demo", "slipway")
    assert "no mirror" in mirror("slipway/demo", code=2)["what"]
    assert "there is no model" in mirror("slipway/none", code=2)["what"]
    assert "not the id" in mirror("demo", code=2)["what"]
