"""A pull request is merged once, whoever asks and whatever is killed; what was closed is not merged."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from release.local_hub import discussions
from release.local_hub.refusals import Refusal
from release.local_hub.repository import MAIN, Repository
from release.local_hub.store import Store
from release.local_hub.tree import Put, regular


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with pull request 1, which adds a.txt."""
    store = Store(tmp_path / "hub")
    store.create_user("slipway")
    made = store.create_repository("model", "slipway/demo", author="slipway")
    changes = [Put("a.txt", regular(made.blobs, b"a"))]
    assert discussions.open_pull_request(made, MAIN, changes, author="alice", title="Add a")[0] == 1
    return made


def titles(repository: Repository) -> list[str]:
    return [commit.title for commit in repository.history(repository.refs()[MAIN])]


def at_once(*calls: Any) -> list[Refusal]:
    """Runs all of them, each in a thread of its own; what was refused."""
    refused: list[Refusal] = []

    def run(call: Any) -> None:
        try:
            call()
        except Refusal as error:
            refused.append(error)

    threads = [threading.Thread(target=run, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return refused


def test_of_many_merges_one_is_made(repository: Repository) -> None:
    refused = at_once(*[lambda: discussions.merge(repository, 1, "slipway")] * 6)
    assert len(refused) == 5
    assert titles(repository)[:2] == ["Add a (#1)", "initial commit"]


def test_a_pull_request_is_closed_or_merged_and_not_both(repository: Repository) -> None:
    refused = at_once(
        lambda: discussions.merge(repository, 1, "slipway"),
        lambda: discussions.change_status(repository, 1, "alice", "closed"),
    )
    changes = [
        event["data"]["status"]
        for event in discussions.read(repository, 1)["events"]
        if event["type"] == "status-change"
    ]
    assert (len(refused), len(changes)) == (1, 1)
    assert ("Add a (#1)" in titles(repository)) == (changes == ["merged"])


def test_a_merge_killed_before_it_was_noted_is_noted_the_next_time_and_makes_no_second_commit(
    repository: Repository,
) -> None:
    file = repository.folder / "discussions" / "1.json"
    before = file.read_bytes()
    merged = discussions.merge(repository, 1, "slipway")
    file.write_bytes(before)
    assert discussions.merge(repository, 1, "slipway").oid == merged.oid
    assert titles(repository)[:2] == ["Add a (#1)", "initial commit"]
    assert discussions.read(repository, 1)["merged"] == merged.oid
