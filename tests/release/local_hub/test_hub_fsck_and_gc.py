"""A Hub's folder is checked to the byte, and tidied up without harm to anybody who works with it."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError

from release.__main__ import main
from release.hub_client import HubClient
from release.local_hub.collect import collect
from release.local_hub.fsck import check
from release.local_hub.refusals import Refusal
from release.local_hub.repository import MAIN
from release.local_hub.store import Store
from release.local_hub.tree import Delete, Put, large, regular
from training.errors import HubError, VerificationMismatch

HOUR = 3600.0
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A Hub with one model of a regular and a large file."""
    store = Store(tmp_path / "hub")
    store.create_user("slipway")
    repository = store.create_repository("model", "slipway/demo", "slipway")
    weights = store.blobs.add(b"weights" * 1000)
    changes = [Put("a.txt", regular(store.blobs, b"text")), Put("w.bin", large(weights.sha256, weights.size))]
    repository.commit(MAIN, changes, author="slipway", title="Add")
    return store


def demo(store: Store) -> Any:
    return store.find("model", "slipway/demo")


def blob_of(store: Store, path: str) -> Path:
    return store.blobs.path(demo(store).resolve("main").tree[path].sha256)


def grow_old(store: Store) -> None:
    """Everything was written two days ago."""
    then = time.time() - 48 * HOUR
    for path in store.root.rglob("*"):
        os.utime(path, (then, then))


def test_a_whole_hub_is_found_whole(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(store.root) == []
    assert main(["hub", "fsck", "--root", str(store.root)]) == 0
    assert "is whole" in capsys.readouterr().out


@pytest.mark.parametrize("path", ["a.txt", "w.bin"])
def test_one_flipped_byte_is_found_and_named_with_the_files_it_damages(
    path: str, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    blob = blob_of(store, path)
    content = bytearray(blob.read_bytes())
    content[len(content) // 2] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    assert main(["hub", "fsck", "--root", str(store.root), "--json"]) == 4
    found = json.loads(capsys.readouterr().out)
    assert [damage["where"] for damage in found["damages"]] == [blob.relative_to(store.root).as_posix()]
    assert "SHA-256" in found["damages"][0]["what"]
    assert found["damages"][0]["affects"][0].startswith("model slipway/demo@")
    assert found["damages"][0]["affects"][0].endswith(f": {path}")


def test_a_missing_blob_is_found(store: Store) -> None:
    blob = blob_of(store, "w.bin")
    blob.unlink()
    (damage,) = check(store.root)
    assert (damage.where, damage.what) == (blob.relative_to(store.root).as_posix(), "it is missing")


@pytest.mark.parametrize(
    "content", [b'{"refs": {"refs/he', b"", b'{"refs": {"refs/heads/main": "' + b"0" * 40 + b'"}}']
)
def test_a_torn_or_wrong_ref_is_found_and_gc_then_removes_nothing(content: bytes, store: Store) -> None:
    refs = demo(store).folder / "refs.json"
    refs.write_bytes(content)
    assert refs.relative_to(store.root).as_posix() in {damage.where for damage in check(store.root)}
    grow_old(store)
    before = sorted(store.root.rglob("*"))
    with pytest.raises(VerificationMismatch, match="is damaged"):
        collect(store, grace=HOUR)
    assert sorted(store.root.rglob("*")) == before


def test_a_changed_or_missing_commit_is_found(store: Store) -> None:
    newest = demo(store).resolve("main")
    file = demo(store).folder / "commits" / f"{newest.oid}.json"
    content = file.read_bytes()
    file.write_bytes(content.replace(b"slipway", b"somebody", 1))
    assert "is not what its name promises" in check(store.root)[0].what
    file.unlink()
    assert [damage.what for damage in check(store.root)] == [
        f"refs/heads/main leads to commit {newest.oid}, which is not there"
    ]


def test_a_name_without_its_repository_and_broken_accounts_are_found(store: Store) -> None:
    demo(store).folder.rename(store.root / "elsewhere")
    (store.root / "accounts.json").write_text("{")
    assert [damage.where for damage in check(store.root)] == ["accounts.json", "names/models/slipway/demo.json"]


def test_a_folder_that_is_no_hub_is_refused_and_left_alone(tmp_path: Path) -> None:
    for action in ("fsck", "gc"):
        assert main(["hub", action, "--root", str(tmp_path / "typo")]) == 2
    assert list(tmp_path.iterdir()) == []


def test_damaged_content_that_was_set_aside_can_be_sent_again(hub: Any, api: Any, tmp_path: Path) -> None:
    file = tmp_path / "w.bin"
    file.write_bytes(os.urandom(200_000))
    api.create_repo("slipway/demo")
    upload = {"path_or_fileobj": str(file), "path_in_repo": "w.bin", "repo_id": "slipway/demo"}
    api.upload_file(**upload)
    blob = blob_of(hub.store, "w.bin")
    blob.chmod(0o644)
    blob.write_bytes(bytes(200_000))
    assert main(["hub", "fsck", "--root", str(hub.store.root), "--set-aside"]) == 4
    assert not blob.exists()
    from huggingface_hub.utils import _xet

    _xet.XET_CONNECTION_INFO_CACHE.clear()  # as in a new process
    api.create_commit("slipway/demo", [CommitOperationAdd("again.bin", str(file))], commit_message="Again")
    assert blob.read_bytes() == file.read_bytes()
    assert check(hub.store.root) == []


@pytest.fixture
def damaged(hub: Any, api: Any) -> tuple[Any, dict[str, bytes]]:
    """A model with a flipped byte in a small file, in a large one and in one that only its history has; set aside."""
    contents = {"config.json": b"{}", "my weights.bin": os.urandom(50_000), "old.bin": os.urandom(50_000)}
    api.create_repo("slipway/demo")
    added = [CommitOperationAdd(path, content) for path, content in contents.items()]
    api.create_commit("slipway/demo", added, commit_message="All")
    tree = demo(hub.store).resolve("main").tree
    api.delete_file("old.bin", "slipway/demo")
    for path in contents:
        blob = hub.store.blobs.path(tree[path].sha256)
        blob.chmod(0o644)
        blob.write_bytes(b"\0" * tree[path].size)
    return hub, contents


def test_what_was_set_aside_is_mended_by_the_commands_that_fsck_prints(
    damaged: tuple[Any, dict[str, bytes]], api: Any, token: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub, contents = damaged
    before = demo(hub.store).resolve("main").oid
    assert main(["hub", "fsck", "--root", str(hub.store.root), "--set-aside", "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    commands = {damage["affects"][0].rpartition(": ")[2]: damage["send_again"] for damage in told["damages"]}
    assert commands == {
        "config.json": "hf upload slipway/demo FILE config.json",
        "my weights.bin": "hf upload slipway/demo FILE 'my weights.bin'",
        "old.bin": "hf upload slipway/demo FILE old.bin --create-pr",
    }
    assert all(command in told["error"]["next"] for command in commands.values())
    known = {"HF_ENDPOINT": hub.endpoint, "HF_TOKEN": token, "HF_HOME": str(tmp_path / "home")}
    file = tmp_path / "copy"
    file.write_bytes(contents["my weights.bin"])
    words = [str(file) if word == "FILE" else word for word in shlex.split(commands["my weights.bin"])]
    hf = [str(Path(sys.executable).with_name("hf")), *words[1:]]
    subprocess.run(hf, env={**os.environ, **known}, check=True, capture_output=True, timeout=60)
    for path in ("config.json", "old.bin"):  # what the command does, without the seconds of its start
        upload = {"path_or_fileobj": contents[path], "path_in_repo": path, "repo_id": "slipway/demo"}
        api.upload_file(**upload, create_pr="--create-pr" in commands[path])
    assert check(hub.store.root) == []
    assert demo(hub.store).resolve("main").oid == before, "what is sent again makes no commit"


def test_content_that_was_lost_is_told_at_once_and_no_commit_leads_to_it(
    damaged: tuple[Any, dict[str, bytes]], api: Any, ask: Any
) -> None:
    hub, contents = damaged
    main(["hub", "fsck", "--root", str(hub.store.root), "--set-aside"])
    assert api.model_info("slipway/demo").sha, "what is left is told"
    with pytest.raises(HubError, match="has lost a file that it lists") as told:
        HubClient.connect(hub.endpoint, api.token).text("slipway/demo", "main", "config.json")
    assert "config.json of model slipway/demo is not on this Hub any more" in str(told.value.found)
    assert ask("GET", "/slipway/demo/resolve/main/my%20weights.bin").status == 410
    page = ask("GET", "/slipway/demo", headers={"Accept": "text/html"})
    assert page.status == 200
    assert "This Hub has lost" in page.body.decode()
    assert ask("GET", "/slipway/demo/blob/main/config.json", headers={"Accept": "text/html"}).status == 410
    others = {"path_or_fileobj": b"other", "path_in_repo": "other.txt", "repo_id": "slipway/demo"}
    with pytest.raises(HfHubHTTPError, match="is not here any more; send it again"):
        api.upload_file(**others)
    again = [CommitOperationAdd(path, contents[path]) for path in ("config.json", "my weights.bin")]
    api.create_commit("slipway/demo", [*again, CommitOperationAdd("other.txt", b"other")], commit_message="Again")
    assert [damage.affects[0].rpartition(": ")[2] for damage in check(hub.store.root)] == ["old.bin"]


def test_gc_removes_exactly_what_no_ref_needs(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    kept = {blob_of(store, path) for path in ("a.txt", "w.bin", ".gitattributes")}
    main_commit = demo(store).resolve("main").oid
    demo(store).create_ref("refs/heads/draft", main_commit)
    demo(store).commit("refs/heads/draft", [Put("d.txt", regular(store.blobs, b"draft"))], author="a", title="Draft")
    draft = demo(store).resolve("draft").oid
    demo(store).delete_ref("refs/heads/draft")
    store.blobs.add(b"uploaded, and never committed")
    (store.blobs.incoming / "half").write_bytes(b"hal")
    grow_old(store)
    assert main(["hub", "gc", "--root", str(store.root), "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert main(["hub", "gc", "--root", str(store.root), "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert {name: done[name] for name in ("blobs", "commits", "leftovers")} == {
        "blobs": 2,
        "commits": 1,
        "leftovers": 1,
    }
    assert {**planned, "dry_run": False, "summary": ""} == {**done, "summary": ""}
    assert set(store.blobs.folder.glob("*/*")) == kept
    assert not (demo(store).folder / "commits" / f"{draft}.json").exists()
    assert check(store.root) == []


def test_what_a_deleted_file_held_stays_while_history_leads_to_it(store: Store) -> None:
    blob = blob_of(store, "w.bin")
    demo(store).commit(MAIN, [Delete("w.bin")], author="a", title="Delete")
    grow_old(store)
    assert collect(store, grace=HOUR).blobs == 0
    demo(store).squash(MAIN, "a", "Squash")
    grow_old(store)
    assert collect(store, grace=HOUR).blobs == 1
    assert not blob.exists()


def test_an_upload_that_is_not_committed_yet_is_safe_for_the_grace_period(store: Store) -> None:
    blob = store.blobs.add(b"on its way")
    (store.blobs.incoming / "open").write_bytes(b"half")
    assert collect(store, grace=HOUR) == collect(store, grace=HOUR, dry_run=True)
    assert store.blobs.has(blob.sha256)
    assert (store.blobs.incoming / "open").exists()


def test_content_that_a_client_was_just_told_is_here_is_not_removed(store: Store) -> None:
    blob = store.blobs.add(b"old")
    grow_old(store)
    assert store.blobs.keep(blob.sha256)
    assert collect(store, grace=HOUR).blobs == 0


def test_a_commit_never_names_content_that_was_collected_before_it(store: Store) -> None:
    entry = regular(store.blobs, b"collected in between")
    grow_old(store)
    assert collect(store, grace=HOUR).blobs == 1
    with pytest.raises(Refusal, match="send it again") as refused:
        demo(store).commit(MAIN, [Put("x.txt", entry)], author="a", title="Too late")
    assert refused.value.status == 422
    assert check(store.root) == []


@pytest.mark.parametrize("after", range(4))
def test_an_interrupted_gc_leaves_a_whole_hub_and_the_next_one_finishes(
    after: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        demo(store).create_ref(f"refs/heads/{number}", demo(store).resolve("main").oid)
        changes = [Put("n.txt", regular(store.blobs, f"{number}".encode()))]
        demo(store).commit(f"refs/heads/{number}", changes, author="a", title="Number")
        demo(store).delete_ref(f"refs/heads/{number}")
    grow_old(store)
    unlink: Callable[..., None] = Path.unlink
    left = [after]

    def die(path: Path, missing_ok: bool = False) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            collect(store, grace=HOUR)
    assert check(store.root) == []
    collect(store, grace=HOUR)
    assert check(store.root) == []
    assert len(list((demo(store).folder / "commits").iterdir())) == 2
    assert len(list(store.blobs.folder.glob("*/*"))) == 3


def test_a_client_whose_chunks_are_gone_sends_them_again(hub: Any, api: Any, tmp_path: Path) -> None:
    """The store was restored from a copy of earlier times, or its chunks were collected."""
    file = tmp_path / "w.bin"
    file.write_bytes(os.urandom(200_000))
    api.create_repo("slipway/demo")
    api.upload_file(path_or_fileobj=str(file), path_in_repo="w.bin", repo_id="slipway/demo")
    api.super_squash_history("slipway/demo")
    api.delete_repo("slipway/demo")
    grow_old(hub.store)
    assert collect(hub.store, grace=HOUR).blobs >= 1
    from huggingface_hub.utils import _xet

    _xet.XET_CONNECTION_INFO_CACHE.clear()  # as in a new process
    api.create_repo("slipway/demo")
    api.upload_file(path_or_fileobj=str(file), path_in_repo="w.bin", repo_id="slipway/demo")
    assert blob_of(hub.store, "w.bin").read_bytes() == file.read_bytes()


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["fsck", "--grace", "5"], "--grace"),
        (["fsck", "--read-only"], "--read-only"),
        (["fsck", "--run-spaces"], "--run-spaces"),
        (["gc", "--set-aside"], "--set-aside"),
        (["user", "jane", "--from", "http://host"], "--from"),
    ],
)
def test_an_option_of_another_action_is_a_usage_error(
    words: list[str], option: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub", *words, "--root", str(tmp_path / "hub")]) == 2
    assert f"{option} is an option of `hub" in capsys.readouterr().err
    assert not (tmp_path / "hub").exists()
