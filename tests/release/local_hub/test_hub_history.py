"""Histories as the unchanged client asks for them: what they say, and that their pages do not read every file of every commit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from commit_operations import add
from huggingface_hub import CommitOperationDelete, HfApi

from release.local_hub import repository as stored
from release.local_hub import routes_tree
from release.local_hub.recently_used import RecentlyUsed
from release.local_hub.repository import MAIN
from release.local_hub.tree import Put, Tree, regular

REPO = "slipway/demo"


@pytest.fixture
def trees_read(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The commits whose files were read from disk."""
    read, found = stored._read_tree, list[Path]()

    def counted(path: Path) -> Tree:
        found.append(path)
        return read(path)

    monkeypatch.setattr(stored, "_read_tree", counted)
    monkeypatch.setattr(
        stored, "_trees", RecentlyUsed[Path, Tree](limit=100)
    )  # a page of commits is not kept by chance
    return found


@pytest.fixture
def long(hub: object, api: HfApi) -> HfApi:
    """120 commits of one file each, on 30 files."""
    api.create_repo(REPO)
    there = hub.store.find("model", REPO)  # type: ignore[attr-defined]
    entries = [regular(there.blobs, f"{number}".encode()) for number in range(121)]
    there.commit(MAIN, [Put(f"d{n % 3}/f{n}.txt", entries[120]) for n in range(30)], author="slipway", title="files")
    for n in range(119):
        there.commit(MAIN, [Put(f"d{n % 3}/f{n % 30}.txt", entries[n])], author="slipway", title=f"commit {n}")
    return api


def test_pages_of_commits_are_made_without_reading_anybodys_files(long: HfApi, trees_read: list[Path]) -> None:
    titles = [commit.title for commit in long.list_repo_commits(REPO)]
    assert titles == [f"commit {n}" for n in reversed(range(119))] + ["files", "initial commit"]
    assert trees_read == []


def test_last_commits_are_found_once_and_then_only_what_is_new_is_looked_at(
    long: HfApi, trees_read: list[Path]
) -> None:
    first = list(long.list_repo_tree(REPO, recursive=True, expand=True))
    assert {entry.path: entry.last_commit.title for entry in first if entry.path.startswith("d0")} == {
        "d0": "commit 117", **{f"d0/f{n}.txt": f"commit {n + (90 if n < 29 else 60)}" for n in range(0, 30, 3)}
    }  # fmt: skip
    before = len(trees_read)
    assert before > 30
    assert list(long.list_repo_tree(REPO, recursive=True, expand=True)) == first
    assert len(trees_read) <= before + 1
    long.create_commit(REPO, [add("d1/f1.txt", b"new")], commit_message="New")
    reads = len(trees_read)
    after = {entry.path: entry.last_commit.title for entry in long.list_repo_tree(REPO, recursive=True, expand=True)}
    assert (after["d1"], after["d1/f1.txt"], after["d0"]) == ("New", "New", "commit 117")
    assert len(trees_read) <= reads + 2


def test_a_folders_last_commit_is_also_one_that_removed_from_it_whatever_was_asked_before(
    api: HfApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said() -> dict[str, str]:
        found = api.list_repo_tree(REPO, recursive=True, expand=True)
        return {entry.path: entry.last_commit.title for entry in found if entry.path != ".gitattributes"}

    api.create_repo(REPO)
    steps: list[tuple[str, list[object]]] = [
        ("one", [add("a/b/x.txt", b"x"), add("a/y.txt", b"y")]),
        ("two", [add("a/b/z.txt", b"z")]),
        ("three", [CommitOperationDelete("a/b/z.txt")]),
        ("four", [add("c.txt", b"c")]),
        ("five", [CommitOperationDelete("c.txt"), add("c.txt/d", b"d")]),
    ]
    for title, operations in steps[:2]:
        api.create_commit(REPO, operations, commit_message=title)
    assert said() == {"a": "two", "a/b": "two", "a/b/x.txt": "one", "a/b/z.txt": "two", "a/y.txt": "one"}
    for title, operations in steps[2:]:
        api.create_commit(REPO, operations, commit_message=title)
    wanted = {"a": "three", "a/b": "three", "a/b/x.txt": "one", "a/y.txt": "one", "c.txt": "five", "c.txt/d": "five"}
    assert said() == wanted
    monkeypatch.setattr(routes_tree, "_last_commits", RecentlyUsed(limit=1))  # as another process, not asked before
    assert said() == wanted


@pytest.mark.parametrize("message", ['"} , "tree": {"README.md": 1', "m" * 20_000, '\\", "tree": {', "\u00e9" * 3000])
def test_a_commit_says_what_it_was_given_whatever_that_looks_like(message: str, api: HfApi) -> None:
    api.create_repo(REPO)
    api.create_commit(REPO, [add("a.txt", b"a")], commit_message='x, "tree": {', commit_description=message)
    newest = api.list_repo_commits(REPO)[0]
    assert (newest.title, newest.message) == ('x, "tree": {', message)
    assert "a.txt" in api.list_repo_files(REPO)


def test_what_is_kept_is_bounded_by_its_weight_and_the_last_used_stays() -> None:
    kept = RecentlyUsed[str, str](limit=10)
    for value in ("aaa", "bbb"):
        kept.get(value, partial(str, value), len)
    assert kept.find("aaa") == "aaa"
    kept.get("cc", partial(str, "cc"), len)
    assert [kept.find(value) for value in ("aaa", "bbb", "cc")] == ["aaa", None, "cc"]
    assert kept.get("d" * 10, partial(str, "d" * 10), len) == "d" * 10
    assert kept.find("d" * 10) is None
    assert len(kept) == 7
