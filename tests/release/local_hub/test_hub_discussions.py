"""Discussions and pull requests, with their merge and their comments."""

from __future__ import annotations

import pytest
from commit_operations import add
from huggingface_hub.errors import HfHubHTTPError

# The client itself passes file objects to httpx in a way that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def test_a_pull_request_is_a_ref_that_can_be_merged_unless_main_changed_the_same_file(api):
    api.create_repo("slipway/demo")
    api.create_commit("slipway/demo", [add("a.txt", b"1\n")], commit_message="1")
    pull = api.create_commit("slipway/demo", [add("b.txt", b"2\n")], commit_message="Add b", create_pr=True)
    rival = api.create_commit("slipway/demo", [add("a.txt", b"3\n")], commit_message="Change a", create_pr=True)
    assert (pull.pr_revision, rival.pr_num) == ("refs/pr/1", 2)
    assert "b.txt" in api.list_repo_files("slipway/demo", revision="refs/pr/1")
    api.create_commit("slipway/demo", [add("a.txt", b"4\n")], commit_message="main moves")
    assert api.get_discussion_details("slipway/demo", 1).conflicting_files == []
    api.merge_pull_request("slipway/demo", 1)
    assert "b.txt" in api.list_repo_files("slipway/demo")
    details = api.get_discussion_details("slipway/demo", 1)
    assert (details.status, details.merge_commit_oid) == ("merged", api.model_info("slipway/demo").sha)
    assert api.get_discussion_details("slipway/demo", 2).conflicting_files == ["a.txt"]
    with pytest.raises(HfHubHTTPError, match="409"):
        api.merge_pull_request("slipway/demo", 2)
    api.comment_discussion("slipway/demo", 2, "Please rebase.")
    api.change_discussion_status("slipway/demo", 2, "closed")
    statuses = {item.num: item.status for item in api.get_repo_discussions("slipway/demo")}
    assert statuses == {1: "merged", 2: "closed"}


def test_a_comment_is_edited_by_its_author_and_hidden_for_good_by_those_who_may_write(api, client, hub, ask):
    api.create_repo("slipway/demo")
    number = api.create_discussion("slipway/demo", "a question").num
    other = client(hub.store.create_user("other"))
    said = other.comment_discussion("slipway/demo", number, "my pasword is hunter2")
    with pytest.raises(HfHubHTTPError, match="Only its author"):
        api.edit_discussion_comment("slipway/demo", number, said.id, "something else")
    edited = other.edit_discussion_comment("slipway/demo", number, said.id, "my password is hunter2")
    assert (edited.content, edited.edited, edited.number_of_edits) == ("my password is hunter2", True, 1)
    own = api.comment_discussion("slipway/demo", number, "an answer")
    with pytest.warns(UserWarning, match="irreversible"), pytest.raises(HfHubHTTPError, match="403"):
        other.hide_discussion_comment("slipway/demo", number, own.id)
    with pytest.warns(UserWarning, match="irreversible"):
        assert api.hide_discussion_comment("slipway/demo", number, said.id).hidden
    shown = api.get_discussion_details("slipway/demo", number).events
    assert [event.hidden for event in shown] == [False, True, False]
    assert b"hunter2" not in ask("GET", f"/api/models/slipway/demo/discussions/{number}").body
    assert b"hunter2" not in ask("GET", f"/slipway/demo/discussions/{number}").body
    with pytest.raises(HfHubHTTPError, match="hidden comment"):
        other.edit_discussion_comment("slipway/demo", number, said.id, "again")
    with pytest.raises(HfHubHTTPError, match="404"):
        other.edit_discussion_comment("slipway/demo", number, "0" * 24, "nothing")
