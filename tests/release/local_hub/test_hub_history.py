"""Histories: what a list of commits costs, what is kept of commits in memory, and that it is never another's."""

from __future__ import annotations

from typing import Any

import pytest
from commit_operations import add

from release.local_hub import commits
from release.local_hub.bounded_cache import BoundedCache
from release.local_hub.commits import head_of
from release.local_hub.routes_tree import last_commits

REPO = "slipway/demo"


def test_what_is_kept_is_bounded_by_its_weight_and_what_was_asked_for_last_stays() -> None:
    cache, made = BoundedCache[str](limit=10, weigh=len), list[str]()

    def get(word: str) -> str:
        return cache.get(word, lambda: made.append(word) or word)  # type: ignore[func-returns-value]

    for word in ("aaaa", "bbbb", "aaaa", "cccc", "aaaa", "bbbb"):  # c pushes b out, which is made again
        assert get(word) == word
    assert made == ["aaaa", "bbbb", "cccc", "bbbb"]
    get("a very long one that is heavier than all")
    get("a very long one that is heavier than all")
    assert made[-1] != made[-2]
    with pytest.raises(ZeroDivisionError):
        cache.get("broken", lambda: str(1 / 0))
    assert cache.get("broken", lambda: "mended") == "mended"


def test_a_list_of_commits_reads_each_commit_once_and_keeps_no_files(
    hub: Any, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commits, "_COMMITS", BoundedCache(limit=0, weigh=lambda _: 1))
    read: list[str] = []
    parse = commits._parsed_commit
    monkeypatch.setattr(commits, "_parsed_commit", lambda path: (read.append(path.stem), parse(path))[1])
    api.create_repo(REPO)
    for number in range(5):
        api.create_commit(REPO, [add("a.txt", str(number).encode())], commit_message=f"c{number}")
    titles = ["c4", "c3", "c2", "c1", "c0", "initial commit"]
    assert [commit.title for commit in api.list_repo_commits(REPO)] == titles
    read.clear()
    assert [commit.title for commit in api.list_repo_commits(REPO)] == titles
    assert len(set(read)) == 1  # the newest, whose name was asked for
    found = hub.store.find("model", REPO)
    newest = found.resolve("main")
    assert list(found.heads(newest.oid)) == [head_of(commit) for commit in found.history(newest.oid)]
    assert not any(hasattr(head, "tree") for head in found.heads(newest.oid))


def test_who_last_changed_a_file_is_said_anew_after_each_commit(hub: Any, api: Any) -> None:
    api.create_repo(REPO)
    for number, path in enumerate(("a.txt", "d/b.txt", "a.txt")):
        api.create_commit(REPO, [add(path, str(number).encode())], commit_message=f"c{number}")
        found = hub.store.find("model", REPO)
        last = {path: head.title for path, head in last_commits(found, found.resolve("main")).items()}
        assert last[path] == f"c{number}"
    assert last == {".gitattributes": "initial commit", "a.txt": "c2", "d/b.txt": "c1", "d": "c1"}
    tree = {entry.path: entry.last_commit.title for entry in api.list_repo_tree(REPO, recursive=True, expand=True)}
    assert tree == last
