"""Branches and tags, and what they may be called."""

from __future__ import annotations

import pytest
from commit_operations import add
from huggingface_hub.errors import HfHubHTTPError

# The client itself passes file objects to httpx in a way that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_tags_and_branches_name_commits(api):
    api.create_repo("slipway/demo")
    first = api.create_commit("slipway/demo", [add("a.txt", b"1")], commit_message="1").oid
    api.create_tag("slipway/demo", tag="v1.0", tag_message="the first")
    api.create_branch("slipway/demo", branch="try/this")
    api.create_commit("slipway/demo", [add("a.txt", b"2")], commit_message="2", revision="try/this")
    assert api.model_info("slipway/demo", revision="v1.0").sha == first
    refs = api.list_repo_refs("slipway/demo")
    assert [branch.name for branch in refs.branches] == ["main", "try/this"]
    assert refs.tags[0].target_commit == first
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag("slipway/demo", tag="v1.0")
    api.delete_tag("slipway/demo", tag="v1.0")
    api.delete_branch("slipway/demo", branch="try/this")
    assert api.list_repo_refs("slipway/demo").tags == []
    with pytest.raises(HfHubHTTPError, match="403"):
        api.delete_branch("slipway/demo", branch="main")


@pytest.mark.parametrize("name", ["a..b", "a b", "-x", "x.lock", "refs/heads/x", "a" * 40])
def test_a_reference_that_git_would_not_take_is_refused(api, name):
    api.create_repo("slipway/demo")
    with pytest.raises(HfHubHTTPError, match="422"):
        api.create_branch("slipway/demo", branch=name)


def test_no_branch_takes_the_place_of_a_tag_and_no_tag_that_of_a_branch(api, hub):
    api.create_repo("slipway/demo")
    released = api.repo_info("slipway/demo").sha
    api.create_tag("slipway/demo", tag="v1.0.0")
    api.create_branch("slipway/demo", branch="work")
    for create in (
        lambda: api.create_branch("slipway/demo", branch="v1.0.0", exist_ok=True),
        lambda: api.create_tag("slipway/demo", tag="work", exist_ok=True),
        lambda: api.create_tag("slipway/demo", tag="main", exist_ok=True),
    ):
        with pytest.raises(HfHubHTTPError, match="already") as refused:
            create()
        assert refused.value.response.status_code == 422
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        api.upload_file(path_or_fileobj=b"# new", path_in_repo="README.md", repo_id="slipway/demo")
    # A root from before, or a mirror, may have both: the tag is meant, but for the default branch.
    repository = hub.store.find("model", "slipway/demo")
    head = repository.refs()["refs/heads/main"]
    repository.replace_refs({**repository.refs(), "refs/heads/v1.0.0": head, "refs/tags/main": released})
    assert api.repo_info("slipway/demo", revision="v1.0.0").sha == released
    assert api.repo_info("slipway/demo", revision="refs/heads/v1.0.0").sha == head
    assert api.repo_info("slipway/demo").sha == head
