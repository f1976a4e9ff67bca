"""`git clone` of the Hub's repositories with git itself."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from release.local_hub.commits import checksum
from release.local_hub.fsck import check
from release.local_hub.storage import write_json

WEIGHTS = bytes(range(256)) * 20_000


@pytest.fixture
def git(tmp_path: Path) -> Any:
    """Run git without anybody's configuration; what it printed."""
    environment = {**os.environ, "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1", "GIT_TERMINAL_PROMPT": "0"}

    def run(*words: str, at: Path = tmp_path, fails: bool = False) -> str:
        done = subprocess.run(["git", *words], cwd=at, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode != 0) == fails, done.stderr
        return (done.stdout + done.stderr if fails else done.stdout).strip()

    return run


@pytest.fixture
def made(api: Any) -> Any:
    """slipway/demo with folders, a large file, a tag, a branch, a pull request; the client."""
    api.create_repo("slipway/demo")
    files = {"a/b/c.txt": b"first", "a/x.py": b"print(1)\n", "a.txt": b"", "ünï.txt": b"u", "w.bin": WEIGHTS}
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit("slipway/demo", operations, commit_message="Files", commit_description="more\nlines")
    api.create_tag("slipway/demo", tag="v1")
    api.create_branch("slipway/demo", branch="dev")
    second = [CommitOperationAdd("a/b/c.txt", b"second"), CommitOperationDelete("a/x.py")]
    api.create_commit("slipway/demo", second, commit_message="Second")
    api.create_commit("slipway/demo", [CommitOperationAdd("d.txt", b"d")], commit_message="Dev", revision="dev")
    return api


def test_a_clone_has_the_hubs_files_history_and_commit_ids(made: Any, hub: Any, git: Any, tmp_path: Path) -> None:
    git("clone", f"{hub.endpoint}/slipway/demo", "clone")
    clone = tmp_path / "clone"
    git("fsck", "--full", "--strict", at=clone)
    listed = made.list_repo_commits("slipway/demo")
    assert git("log", "--format=%H %s", at=clone).splitlines() == [f"{one.commit_id} {one.title}" for one in listed]
    assert git("show", "-s", "--format=%an %aI %b", "v1", at=clone).startswith("slipway ")
    assert git("rev-parse", "origin/dev", at=clone) == made.model_info("slipway/demo", revision="dev").sha
    assert git("show", "v1:a/b/c.txt", at=clone) == "first"
    assert git("ls-tree", "HEAD", "a/b", at=clone).split()[2] == made.get_paths_info("slipway/demo", "a/b")[0].tree_id
    assert (clone / "a/b/c.txt").read_bytes() == b"second"
    assert not (clone / "a/x.py").exists()
    pointer = (clone / "w.bin").read_text()
    assert pointer.startswith("version https://git-lfs.github.com/spec/v1\noid sha256:")
    assert f"size {len(WEIGHTS)}\n" in pointer


def test_a_clone_takes_later_commits_and_pull_requests_and_cannot_push(
    made: Any, hub: Any, git: Any, tmp_path: Path
) -> None:
    git("clone", "--depth", "1", "--filter=blob:none", f"{hub.endpoint}/slipway/demo.git", "clone")
    clone = tmp_path / "clone"
    assert len(git("log", "--format=%H", at=clone).splitlines()) == 1
    made.create_commit("slipway/demo", [CommitOperationAdd("e.txt", b"e")], commit_message="Third")
    opened = made.create_commit("slipway/demo", [CommitOperationAdd("f", b"f")], commit_message="PR", create_pr=True)
    git("pull", "--unshallow", at=clone)
    assert len(git("log", "--format=%H", at=clone).splitlines()) == 4
    git("fetch", "origin", "refs/pr/1", at=clone)
    assert git("rev-parse", "FETCH_HEAD", at=clone) == opened.oid
    assert "403" in git("push", "origin", "main", at=clone, fails=True)


def test_datasets_and_spaces_clone_and_private_ones_only_with_their_owners_token(
    api: Any, hub: Any, token: str, git: Any, tmp_path: Path
) -> None:
    api.create_repo("slipway/data", repo_type="dataset", private=True)
    api.create_repo("slipway/page", repo_type="space", space_sdk="static")
    stranger = hub.store.create_user("stranger")
    address = f"{hub.endpoint}/datasets/slipway/data"
    assert "could not read Username" in git("clone", address, "nobody", fails=True)
    assert "not found" in git("clone", address.replace("//", f"//x:{stranger}@"), "stranger", fails=True)
    git("clone", address.replace("//", f"//slipway:{token}@"), "mine")
    git("clone", f"{hub.endpoint}/spaces/slipway/page", "page")
    assert (tmp_path / "mine" / "README.md").exists() or (tmp_path / "mine" / ".gitattributes").exists()
    assert "sdk: static" in (tmp_path / "page" / "README.md").read_text()


def test_git_lfs_downloads_what_a_commit_of_the_repository_holds(made: Any, hub: Any, token: str, ask: Any) -> None:
    lfs = made.get_paths_info("slipway/demo", "w.bin")[0].lfs
    made.create_commit("slipway/demo", [CommitOperationDelete("w.bin")], commit_message="Without")
    made.create_repo("slipway/other")
    made.update_repo_settings("slipway/demo", private=True)
    body = {"operation": "download", "objects": [{"oid": lfs.sha256, "size": lfs.size}]}
    path = "/slipway/demo.git/info/lfs/objects/batch"
    assert ask("POST", path, body=body).headers["www-authenticate"].startswith("Basic")
    href = ask("POST", path, token, body).json()["objects"][0]["actions"]["download"]["href"]
    assert ask("GET", href.removeprefix(hub.endpoint), headers={"Range": "bytes=0-3"}).body == WEIGHTS[:4]
    assert ask("GET", href.removeprefix(hub.endpoint)[:-1] + "x").status == 403
    refused = ask("POST", "/slipway/other.git/info/lfs/objects/batch", token, body).json()["objects"][0]
    assert refused["error"]["code"] == 404


def test_what_is_no_request_of_git_is_refused(made: Any, ask: Any) -> None:
    path = "/slipway/demo/git-upload-pack"
    unknown = b"0060want " + b"1" * 40 + b" side-band-64k thin-pack ofs-delta agent=git/2" + b"\n"
    want = unknown.replace(b"1" * 40, made.model_info("slipway/demo").sha.encode())
    broken = (want + b"0004\xff\xfe", want + b"000edeepen xyz0000", want + b"0000" + b"0032have " + b"z" * 40 + b"\n")
    for body in (*broken, b"", b"nonsense", b"0032want " + b"1" * 40 + b"\n", unknown):
        assert ask("POST", path, body=body).status == 400, body
    bomb = gzip.compress(b"0" * (64 << 20))
    assert ask("POST", path, body=bomb, headers={"Content-Encoding": "gzip"}).status == 413
    assert ask("POST", path, body=b"zip", headers={"Content-Encoding": "gzip"}).status == 400
    assert ask("GET", "/slipway/demo/info/refs").status == 403


def test_commits_from_before_their_ids_were_gits_are_cloned_and_continued(
    made: Any, hub: Any, git: Any, tmp_path: Path
) -> None:
    """Such a store is made by writing a commit as it was written then."""
    repository = hub.store.find("model", "slipway/demo")
    head = repository.resolve("main")
    body = {key: value for key, value in asdict(head).items() if key not in {"oid", "git"}}
    old = checksum(body)
    write_json(repository.folder / "commits" / f"{old}.json", json.loads(json.dumps(body)))
    refs = json.loads((repository.folder / "refs.json").read_bytes())
    refs["refs"]["refs/heads/main"] = old
    write_json(repository.folder / "refs.json", refs)
    made.create_commit("slipway/demo", [CommitOperationAdd("e.txt", b"e")], commit_message="Third")
    assert check(hub.store.root) == []
    git("clone", f"{hub.endpoint}/slipway/demo", "clone")
    git("fsck", "--full", "--strict", at=tmp_path / "clone")
    assert git("rev-parse", "HEAD", at=tmp_path / "clone") == made.model_info("slipway/demo").sha
    assert len(git("log", "--format=%H", at=tmp_path / "clone").splitlines()) == 4


def test_a_name_that_git_would_not_check_out_is_refused_and_every_other_is_cloned(
    api: Any, hub: Any, git: Any, tmp_path: Path, ask: Any
) -> None:
    """Each is tried with git itself, which protects NTFS everywhere and HFS+ where it is told to."""
    api.create_repo("slipway/demo")
    names = [".git", ".GIT", ".git.", ".git ...", "git~1", "GIT~1", "git~1.", ".git::$INDEX_ALLOCATION", ".g\u200dit"]
    names += [
        "a/.git/x",
        "a/GIT~1/x",
        "git~2",
        ".gitx",
        ".gitmodules",
        ".gitignore",
        "git",
        "a:b",
        "aux",
        "-x",
        "a\u200db",
    ]
    answers = {}
    for number, name in enumerate(names):
        file = {"key": "file", "value": {"path": f"{number}/{name}", "content": "x"}}
        body = "\n".join(json.dumps(line) for line in ({"key": "header", "value": {"summary": "1"}}, file))
        answers[name] = ask("POST", "/api/models/slipway/demo/commit/main", api.token, body.encode()).status
    assert answers == dict.fromkeys(names[:11], 422) | dict.fromkeys(names[11:], 200)
    git("-c", "core.protectHFS=true", "-c", "core.protectNTFS=true", "clone", f"{hub.endpoint}/slipway/demo", "clone")
    git("fsck", "--full", "--strict", at=tmp_path / "clone")
    cloned = {file.relative_to(tmp_path / "clone").as_posix() for file in (tmp_path / "clone").glob("[0-9]*/**/*")}
    assert {f"{number}/{name}" for number, name in enumerate(names) if answers[name] == 200} <= cloned


def test_a_name_that_was_taken_before_it_was_refused_can_be_deleted(
    api: Any, hub: Any, git: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    api.create_repo("slipway/demo")
    with monkeypatch.context() as patch:
        patch.setattr("release.local_hub.tree.validate_path_element_ntfs", lambda _: True)
        patch.setattr("release.local_hub.tree.validate_path_element_hfs", lambda _: True)
        api.create_commit("slipway/demo", [CommitOperationAdd("git~1/x", b"x")], commit_message="Before")
    assert "git~1/x" in git("clone", f"{hub.endpoint}/slipway/demo", "clone", fails=True)
    api.create_commit("slipway/demo", [CommitOperationDelete("git~1/x")], commit_message="Without")
    git("clone", f"{hub.endpoint}/slipway/demo", "again")
