"""The Hub's protocol, as the unchanged huggingface_hub client speaks it: repositories, their information, lists and files."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
from commit_operations import CARD, add
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

# The client itself passes file objects to httpx in a way that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_the_token_says_who_one_is(api):
    me = api.whoami()
    assert me["name"] == "slipway"
    assert me["auth"]["accessToken"]["role"] == "write"


def test_a_repository_is_created_once_and_again_only_if_that_is_allowed(api, hub):
    assert str(api.create_repo("slipway/demo")) == f"{hub.endpoint}/slipway/demo"
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("slipway/demo")
    assert api.create_repo("Slipway/Demo", exist_ok=True).repo_id == "slipway/demo"
    assert [commit.title for commit in api.list_repo_commits("slipway/demo")] == ["initial commit"]


def test_a_commit_carries_the_cards_metadata_into_the_information(api):
    api.create_repo("slipway/demo")
    api.create_commit("slipway/demo", [add("README.md", CARD)], commit_message="Add a card")
    info = api.model_info("slipway/demo", files_metadata=True)
    assert info.card_data.license == "mit"
    assert {"rlhf", "license:mit", "base_model:org/base"} <= set(info.tags)
    card = next(file for file in info.siblings if file.rfilename == "README.md")
    assert (card.size, card.blob_id) == (len(CARD), hashlib.sha1(b"blob %d\0" % len(CARD) + CARD).hexdigest())


def test_a_download_goes_to_the_cache_under_its_commit(api, tmp_path):
    api.create_repo("slipway/demo")
    oid = api.create_commit("slipway/demo", [add("sub dir/ü.txt", "größe".encode())], commit_message="1").oid
    path = Path(api.hf_hub_download("slipway/demo", "sub dir/ü.txt", cache_dir=tmp_path))
    assert path.read_text() == "größe"
    assert oid in path.parts


def test_absences_are_the_exceptions_that_clients_wait_for(api, tmp_path):
    api.create_repo("slipway/demo")
    with pytest.raises(RemoteEntryNotFoundError):
        api.hf_hub_download("slipway/demo", "nothing.txt", cache_dir=tmp_path)
    assert list(tmp_path.rglob(".no_exist/*/nothing.txt")), "the client caches the absence for the commit"
    with pytest.raises(RevisionNotFoundError):
        api.model_info("slipway/demo", revision="v9")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("slipway/other")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("gpt2")


def test_a_range_a_head_and_an_etag_answer_as_downloads_need(ask, token, api):
    api.create_repo("slipway/demo")
    commit = api.create_commit(
        "slipway/demo", [CommitOperationAdd("w.bin", io.BytesIO(b"\0123456789"))], commit_message="1"
    ).oid
    content, path = b"\0123456789", "/slipway/demo/resolve/main/w.bin"
    digest = hashlib.sha256(content).hexdigest()
    head = ask("HEAD", path)
    assert (head.status, head.body) == (200, b"")
    assert head.headers["x-repo-commit"] == commit
    assert head.headers["x-linked-etag"] == head.headers["etag"] == f'"{digest}"'
    assert head.headers["x-linked-size"] == head.headers["content-length"] == str(len(content))
    part = ask("GET", path, headers={"Range": "bytes=2-4"})
    assert (part.status, part.body) == (206, content[2:5])
    assert part.headers["content-range"] == f"bytes 2-4/{len(content)}"
    assert ask("GET", path, headers={"Range": "bytes=-3"}).body == content[-3:]
    assert ask("GET", path, headers={"Range": "bytes=4-"}).body == content[4:]
    assert ask("GET", path, headers={"Range": "bytes=99-"}).status == 416
    for known in (f'"{digest}"', f'W/"{digest}"', f'"x", W/"{digest}"', "*"):
        assert ask("GET", path, headers={"If-None-Match": known}).status == 304
    assert ask("GET", path, headers={"If-None-Match": 'W/"x"'}).status == 200
    for wanted, status in (
        (f'"{digest}"', 200),
        (f'"x", "{digest}"', 200),
        ("*", 200),
        ('"x"', 412),
        (f'W/"{digest}"', 412),
    ):
        assert ask("GET", path, headers={"If-Match": wanted}).status == status
    both = {"If-Match": f'"{digest}"', "If-None-Match": f'"{digest}"'}
    assert ask("HEAD", path, headers=both).status == 304
    assert "x-xet-hash" not in head.headers


def test_a_moved_repository_is_found_under_both_names(api):
    api.create_repo("slipway/old")
    sha = api.model_info("slipway/old").sha
    api.move_repo("slipway/old", "slipway/new")
    assert api.model_info("slipway/new").sha == sha
    assert api.model_info("slipway/old").id == "slipway/new"
    assert [model.id for model in api.list_models(author="slipway")] == ["slipway/new"]
    api.create_repo("slipway/old")  # the old name can be taken again
    assert api.model_info("slipway/old").id == "slipway/old"


def test_a_deleted_repository_created_again_has_nothing_of_the_first(api):
    api.create_repo("slipway/demo")
    api.create_commit("slipway/demo", [add("secret.txt", b"x")], commit_message="1")
    old = api.model_info("slipway/demo").sha
    api.delete_repo("slipway/demo")
    api.delete_repo("slipway/demo", missing_ok=True)
    api.create_repo("slipway/demo")
    assert api.list_repo_files("slipway/demo") == [".gitattributes"]
    with pytest.raises(RevisionNotFoundError):
        api.model_info("slipway/demo", revision=old)


def test_lists_are_narrowed_and_paged(api):
    for name in ("one", "two", "three"):
        api.create_repo(f"slipway/{name}")
    api.create_commit("slipway/two", [add("README.md", CARD)], commit_message="card")
    assert {model.id for model in api.list_models(author="slipway")} == {
        f"slipway/{n}" for n in ("one", "two", "three")
    }
    assert [model.id for model in api.list_models(filter="license:mit")] == ["slipway/two"]
    assert [model.id for model in api.list_models(search="thr")] == ["slipway/three"]
    assert len(list(api.list_models(limit=2))) == 2
    assert list(api.list_datasets()) == []


def test_a_long_tree_comes_in_pages(hub, api, monkeypatch):
    monkeypatch.setattr("release.local_hub.routes_tree.TREE_PAGE", 7)
    api.create_repo("slipway/demo")
    files = [add(f"d{number % 3}/f{number:02}.txt", b"%d" % number) for number in range(20)]
    api.create_commit("slipway/demo", files, commit_message="many")
    paths = [item.path for item in api.list_repo_tree("slipway/demo", recursive=True)]
    assert len(paths) == len(set(paths)) == 20 + 3 + 1
    assert [item.path for item in api.list_repo_tree("slipway/demo", "d1")] == [
        f"d1/f{n:02}.txt" for n in range(1, 20, 3)
    ]
    known = api.get_paths_info("slipway/demo", ["d1", "d0/f00.txt", "nothing"], expand=True)
    assert [item.path for item in known] == ["d1", "d0/f00.txt"]
    assert known[1].last_commit.title == "many"


def test_a_spaces_state_is_kept_and_its_secrets_are_for_the_owner_of_the_root_alone(api, hub):
    api.create_repo("slipway/chat", repo_type="space", space_sdk="gradio")
    assert api.space_info("slipway/chat").sdk == "gradio"
    api.add_space_variable("slipway/chat", "MODEL", "slipway/demo")
    api.add_space_secret("slipway/chat", "KEY", "hunter2")
    assert api.get_space_variables("slipway/chat")["MODEL"].value == "slipway/demo"
    assert list(api.get_space_secrets("slipway/chat")) == ["KEY"]
    assert api.get_space_runtime("slipway/chat").stage == "NO_APP_FILE"
    api.create_commit("slipway/chat", [add("app.py", b"print()")], commit_message="app", repo_type="space")
    assert api.get_space_runtime("slipway/chat").stage == api.space_info("slipway/chat").runtime.stage == "STOPPED"
    api.pause_space("slipway/chat")
    assert api.get_space_runtime("slipway/chat").stage == "PAUSED"
    assert api.restart_space("slipway/chat").stage == "RUNNING"
    assert api.get_space_runtime("slipway/chat").stage == "RUNNING"
    api.delete_space_variable("slipway/chat", "MODEL")
    assert api.get_space_variables("slipway/chat") == {}
    holding = [f for f in hub.store.root.rglob("*") if f.is_file() and b"hunter2" in f.read_bytes()]
    assert [file.name for file in holding] == ["secrets.json"]
    assert holding[0].stat().st_mode & 0o777 == 0o600
    api.delete_space_secret("slipway/chat", "KEY")
    assert b"hunter2" not in holding[0].read_bytes()


def test_checksums_of_a_download_can_be_verified(api, tmp_path):
    api.create_repo("slipway/demo")
    operations = [add("a.txt", b"1"), CommitOperationAdd("w.bin", io.BytesIO(b"\0" * 100))]
    api.create_commit("slipway/demo", operations, commit_message="1")
    api.snapshot_download("slipway/demo", local_dir=tmp_path / "copy")
    assert not api.verify_repo_checksums("slipway/demo", local_dir=tmp_path / "copy").mismatches
    (tmp_path / "copy" / "w.bin").write_bytes(b"\0" * 99 + b"\1")
    assert api.verify_repo_checksums("slipway/demo", local_dir=tmp_path / "copy").mismatches


def test_unknown_addresses_and_malformed_bodies_are_refused_with_a_reason(ask, token, api):
    assert ask("GET", "/api/agent-harnesses").status == 404
    assert ask("POST", "/api/repos/create", token, b"not json").status == 400
    assert ask("POST", "/api/repos/create", token, b"[1]").status == 400
    assert ask("POST", "/api/repos/create", token, {"name": "../../x"}).status == 400
    huge = ask("POST", "/api/repos/create", token, b" " * (3 << 20))
    assert huge.status == 413
    api.create_repo("slipway/demo")
    odd = ask("GET", "/api/models/slipway/demo/likers", token)
    assert (odd.status, "x-error-code" in odd.headers, "x-request-id" in odd.headers) == (404, False, True)


def test_tens_of_thousands_of_paths_are_looked_up_in_one_request_and_more_are_refused(api, ask):
    api.create_repo("slipway/demo")
    found = api.get_paths_info("slipway/demo", [".gitattributes", *(f"no/{number}" for number in range(30_000))])
    assert [entry.path for entry in found] == [".gitattributes"]
    path = "/api/models/slipway/demo/paths-info/main"
    sent = {"Content-Type": "application/x-www-form-urlencoded"}
    assert ask("POST", path, body=b"paths=a&" * 100_020, headers=sent).status == 413
    body = json.dumps({"paths": ["a"] * 100_020}).encode()
    assert ask("POST", path, body=body, headers={"Content-Type": "application/json"}).status == 413


def test_addresses_in_an_ids_place_that_this_hub_does_not_offer_are_no_missing_spaces(api, client):
    for asking in (
        lambda one: list(one.search_spaces("chat")),
        lambda one: one.list_spaces_hardware(),
        lambda one: one.list_space_templates(),
    ):
        for one in (api, client(False)):
            with pytest.raises(HfHubHTTPError, match="This Hub does not offer this address") as refused:
                asking(one)
            assert (type(refused.value), refused.value.response.status_code) == (HfHubHTTPError, 404)
