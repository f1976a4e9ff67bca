"""Pull requests of people who may not write to a repository: they push to their own ones, and to nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

REPO = "slipway/open"
WEIGHTS = b"\0weights"


def add(path: str, content: bytes = WEIGHTS) -> list[CommitOperationAdd]:
    return [CommitOperationAdd(path, io.BytesIO(content))]  # a file object travels over LFS


@pytest.fixture
def alice(hub: Any, api: Any, client: Callable[..., Any]) -> Any:
    """The client of a user who may not write to the repository that is made here."""
    api.create_repo(REPO)
    return client(hub.store.create_user("alice"))


def test_a_large_file_is_proposed_over_lfs_by_whoever_may_read(alice: Any, api: Any) -> None:
    made = alice.create_commit(REPO, add("w.bin"), commit_message="Weights", create_pr=True)
    assert api.get_discussion_details(REPO, made.pr_num).status == "open"
    api.merge_pull_request(REPO, made.pr_num)
    assert api.file_exists(REPO, "w.bin")


def test_a_pull_request_is_a_draft_until_it_is_published_and_only_then_merged(alice: Any, api: Any) -> None:
    made = alice.create_pull_request(REPO, "A better card")
    assert made.status == "draft"
    alice.create_commit(REPO, add("w.bin"), commit_message="Weights", revision=made.git_reference)
    alice.upload_file(path_or_fileobj=b"1", path_in_repo="a.txt", repo_id=REPO, revision=made.git_reference)
    with pytest.raises(HfHubHTTPError, match="draft"):
        api.merge_pull_request(REPO, made.num)
    alice.change_discussion_status(REPO, made.num, "open")
    with pytest.raises(HfHubHTTPError, match="403"):
        alice.merge_pull_request(REPO, made.num)
    api.merge_pull_request(REPO, made.num)
    assert {"w.bin", "a.txt"} <= set(api.list_repo_files(REPO))


def test_who_opened_a_pull_request_pushes_to_it_and_to_nothing_else(
    hub: Any, alice: Any, api: Any, client: Callable[..., Any]
) -> None:
    mine, theirs = alice.create_pull_request(REPO, "Mine"), api.create_pull_request(REPO, "Theirs")
    reader = client(hub.store.create_token("alice", "read"))
    other = client(hub.store.create_user("bob"))
    pushes = [(alice, "main"), (alice, theirs.git_reference), (reader, mine.git_reference), (other, mine.git_reference)]
    for who, revision in pushes:
        for content in (b"1", WEIGHTS):
            with pytest.raises(HfHubHTTPError, match="403"):
                who.create_commit(REPO, add("x", content), commit_message="x", revision=revision)
    api.create_commit(
        REPO, add("y"), commit_message="y", revision=mine.git_reference
    )  # the repository's own people may
    alice.change_discussion_status(REPO, mine.num, "closed")
    with pytest.raises(HfHubHTTPError, match="403"):
        alice.create_commit(REPO, add("z"), commit_message="z", revision=mine.git_reference)
    assert api.list_repo_files(REPO) == [".gitattributes"]


def test_nobody_proposes_to_what_they_cannot_read(alice: Any, api: Any) -> None:
    made = alice.create_pull_request(REPO, "Mine")
    api.update_repo_settings(REPO, private=True)
    for target in ({"create_pr": True}, {"revision": made.git_reference}):
        with pytest.raises(HfHubHTTPError, match="404"):
            alice.create_commit(REPO, add("w.bin"), commit_message="1", **target)
