"""Records on the disk: every flipped bit is found, is an error of what it belongs to alone, and old stores open as they did."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from release.local_hub import discussions
from release.local_hub.collect import collect
from release.local_hub.collections import Collections
from release.local_hub.fsck import check
from release.local_hub.records import problem, read_record, write_record
from release.local_hub.refusals import Damaged
from release.local_hub.space_status import set_secret_value
from release.local_hub.store import Store
from training.errors import VerificationMismatch


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Of everything that is a record one."""
    store = Store(tmp_path / "hub")
    store.create_user("slipway")
    repository = store.create_repository("model", "slipway/demo", "slipway")
    repository.create_ref("refs/tags/v1", repository.resolve("main").oid, "release one")
    discussions.open_discussion(repository, "slipway", "title", "text", pull_request=True)
    set_secret_value(store.create_repository("space", "slipway/page", "slipway", sdk="static"), "KEY", "value")
    store.move_repository(store.create_repository("dataset", "slipway/old", "slipway"), "slipway/new")
    Collections(store.root).create("slipway", "Mine", None, private=False)
    return store


def records(root: Path) -> list[Path]:
    found = [file for file in root.rglob("*.json") if "commits" not in file.parts]
    assert {"accounts.json", "refs.json", "repo.json", "1.json", "demo.json", "name.json", "secrets.json"} <= {
        file.name for file in found
    }
    return found


def test_every_flipped_bit_of_every_record_is_found_with_its_file(store: Store) -> None:
    assert check(store.root) == []
    pick = random.Random(1)
    for file in records(store.root):
        whole = file.read_bytes()
        for place in range(len(whole)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << pick.randrange(8)
            assert problem(bytes(flipped)), (file.name, place, bytes(flipped))
        flipped = bytearray(whole)
        flipped[len(whole) // 3] ^= 1
        file.write_bytes(flipped)
        where = file.relative_to(store.root).as_posix()
        assert where in {damage.where for damage in check(store.root)}
        if file.name in ("refs.json", "name.json") or "names" in file.parts:  # else it would be taken for nobody's
            with pytest.raises(VerificationMismatch, match="is damaged"):
                collect(store, grace=0)
        file.write_bytes(whole)
    assert check(store.root) == []


def test_a_record_without_a_checksum_is_read_and_gets_one_with_its_next_change(store: Store) -> None:
    for file in records(store.root):
        bare = read_record(file)
        file.write_text(json.dumps(bare, ensure_ascii=False, sort_keys=True))  # as versions before wrote it
        assert read_record(file) == bare
    assert check(store.root) == []
    old = Store(store.root)
    repository = old.find("model", "slipway/demo")
    assert repository is not None
    assert repository.refs()["refs/tags/v1"] == repository.resolve("main").oid
    assert b'"check"' not in (repository.folder / "refs.json").read_bytes()
    repository.create_ref("refs/heads/dev", repository.resolve("main").oid)
    assert b'"check"' in (repository.folder / "refs.json").read_bytes()
    assert "check" not in read_record(repository.folder / "refs.json")
    assert check(store.root) == []


@pytest.mark.parametrize("value", [{}, {"check": "x"}, {"zz": 1}, {"check": "0" * 64}, {"a": {"check": "\u00e9"}}])
def test_a_record_is_read_as_it_was_written_whatever_its_keys(value: Any, tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", value)
    assert read_record(tmp_path / "a.json") == value
    assert oct((tmp_path / "a.json").stat().st_mode & 0o777) in ("0o644", "0o600")


@pytest.mark.parametrize("name", ["refs.json", "repo.json"])
def test_a_damaged_repository_is_an_error_of_its_own_and_not_of_the_lists(
    name: str, hub: Any, api: Any, client: Callable[[str | bool], HfApi], ask: Any
) -> None:
    for repo_id in ("slipway/good", "slipway/bad"):
        api.create_repo(repo_id)
    api.create_collection("Both", namespace="slipway")
    file = hub.store.find("model", "slipway/bad").folder / name
    file.write_bytes(file.read_bytes().replace(b"a", b"e", 1))
    with pytest.raises(HfHubHTTPError, match=f"damaged.*{name}"):
        api.model_info("slipway/bad")
    assert [model.id for model in api.list_models()] == ["slipway/good"]
    stranger = client(False)
    assert [model.id for model in stranger.list_models()] == ["slipway/good"]
    for address in ("/", "/models", "/slipway", "/leaderboard", "/collections", "/api/users/slipway/overview"):
        assert ask("GET", address).status == 200, address
    assert ask("GET", "/slipway/bad").status == (410 if name == "refs.json" else 401)
    api.upload_file(path_or_fileobj=b"1", path_in_repo="a", repo_id="slipway/good")


def test_a_damaged_name_or_collection_is_left_out_and_the_rest_is_told(hub: Any, api: Any, ask: Any) -> None:
    for repo_id in ("slipway/good", "slipway/bad"):
        api.create_repo(repo_id)
    made = [api.create_collection(title, namespace="slipway") for title in ("One", "Two")]
    for file in (
        hub.store.root / "names" / "models" / "slipway" / "bad.json",
        hub.store.root / "collections" / f"{made[0].slug[-24:]}.json",
    ):
        file.write_bytes(file.read_bytes().replace(b"slipway", b"slypway", 1))
        with pytest.raises(Damaged):
            read_record(file)
    assert [model.id for model in api.list_models()] == ["slipway/good"]
    assert [one.title for one in api.list_collections(owner="slipway")] == ["Two"]
    assert ask("GET", "/").status == ask("GET", "/collections").status == 200
    with pytest.raises(HfHubHTTPError, match="damaged"):
        api.model_info("slipway/bad")
