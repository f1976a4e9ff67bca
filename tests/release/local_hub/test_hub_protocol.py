"""The Hub's protocol, as the unchanged huggingface_hub client speaks it."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import (
    HfHubHTTPError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from release.local_hub.server import running_hub

# The client itself passes file objects to httpx in a way that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CARD = b"---\nlicense: mit\ntags: [rlhf]\nbase_model: org/base\n---\n# Demo\n"


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)


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


def test_one_commit_adds_copies_and_deletes_together(api):
    api.create_repo("slipway/demo")
    first = [add("a.txt", b"a"), add("b/one.txt", b"1"), add("b/two.txt", b"2")]
    first.append(CommitOperationAdd("big.bin", io.BytesIO(b"\0" * 10)))
    api.create_commit("slipway/demo", first, commit_message="one")
    second = [
        CommitOperationDelete("b/", is_folder=True),
        CommitOperationDelete("a.txt"),
        CommitOperationCopy("big.bin", "copy.bin"),
        add("c.txt", b"c"),
    ]
    api.create_commit("slipway/demo", second, commit_message="two", commit_description="why")
    assert api.list_repo_files("slipway/demo") == [".gitattributes", "big.bin", "c.txt", "copy.bin"]
    assert api.list_repo_commits("slipway/demo")[0].message == "why"


def test_a_stale_parent_is_refused_and_changes_nothing(api):
    api.create_repo("slipway/demo")
    old = api.model_info("slipway/demo").sha
    new = api.create_commit("slipway/demo", [add("a", b"1")], commit_message="1", parent_commit=old).oid
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit("slipway/demo", [add("a", b"2")], commit_message="2", parent_commit=old)
    assert api.model_info("slipway/demo").sha == new
    api.create_commit("slipway/demo", [add("a", b"2")], commit_message="2", parent_commit=new[:7])


def test_a_name_that_shows_as_another_or_as_nothing_is_refused(ask, token, api):
    api.create_repo("slipway/demo")

    def commit(*paths):
        files = [{"key": "file", "value": {"path": path, "content": "x"}} for path in paths]
        body = "\n".join(json.dumps(line) for line in [{"key": "header", "value": {"summary": "1"}}, *files]).encode()
        return ask("POST", "/api/models/slipway/demo/commit/main", token, body)

    for path in ("\u202egnp.txt", " ", "a/ ", "\u00a0", "a\u200bb", "\u2066x", "x\u2028y", "\x85", "\ufeffx"):
        assert commit(path).status == 422, repr(path)
    assert commit("config.json", "data/a.txt", "caf\u00e9", "a b", "\u0645\u06cc\u200c\u062e").status == 200
    for path in (
        "CONFIG.JSON",
        "config.json.",
        "config.json::$DATA",
        "Data/A.txt",
        "cafe\u0301",
        "DATA",
        "Config.json/x",
    ):
        answer = commit(path)
        assert (answer.status, "differs from" in answer.json()["error"]) == (422, True), repr(path)
    assert commit("x", "X").status == 422
    assert commit("Data/b.txt", "config.json").status == 200, "a folder may be spelt otherwise, a file replaced"


@pytest.mark.parametrize("path", ["a/../b", "/etc/passwd", "a//b", "./x", "a\\b", ".git/config", "x" * 300, "a\nb"])
def test_a_path_that_could_leave_its_folder_is_refused(ask, token, api, path):
    api.create_repo("slipway/demo")
    lines = [b'{"key":"header","value":{"summary":"x"}}']
    lines.append(b'{"key":"file","value":{"path":%s,"content":"eA==","encoding":"base64"}}' % _json(path))
    answer = ask("POST", "/api/models/slipway/demo/commit/main", token, b"\n".join(lines))
    assert answer.status == 422
    assert api.list_repo_files("slipway/demo") == [".gitattributes"]


def _json(text: str) -> bytes:
    return json.dumps(text).encode()


def test_a_large_file_that_was_not_uploaded_is_refused(ask, token, api):
    api.create_repo("slipway/demo")
    operation = b'{"key":"lfsFile","value":{"path":"w.bin","algo":"sha256","oid":"%s","size":5}}' % (b"0" * 64)
    body = b'{"key":"header","value":{"summary":"x"}}\n' + operation
    answer = ask("POST", "/api/models/slipway/demo/commit/main", token, body)
    assert answer.status == 422
    assert "has not been uploaded" in answer.json()["error"]


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
    assert "x-xet-hash" not in head.headers


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


def test_history_can_be_squashed(api):
    api.create_repo("slipway/demo")
    api.create_commit("slipway/demo", [add("a.txt", b"1")], commit_message="1")
    api.super_squash_history("slipway/demo", commit_message="all in one")
    assert [commit.title for commit in api.list_repo_commits("slipway/demo")] == ["all in one"]
    assert "a.txt" in api.list_repo_files("slipway/demo")


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


def test_an_invalid_card_is_refused_before_and_during_the_commit(api, ask, token):
    api.create_repo("slipway/demo")
    bad = b"---\nbase_model: /home/me/runs/sft\n---\n"
    with pytest.raises(ValueError, match="base_model"):
        api.create_commit("slipway/demo", [add("README.md", bad)], commit_message="1")
    body = b'{"key":"header","value":{"summary":"x"}}\n{"key":"file","value":{"path":"README.md","content":%s}}'
    answer = ask("POST", "/api/models/slipway/demo/commit/main", token, body % _json(bad.decode()))
    assert answer.status == 400
    assert "base_model" in answer.json()["error"]


def test_a_file_that_gitignore_names_is_skipped(api):
    api.create_repo("slipway/demo")
    operations = [
        add(".gitignore", b"*.log\ncache/\n"),
        add("x.log", b"1"),
        add("cache/y.txt", b"2"),
        add("z.txt", b"3"),
    ]
    api.create_commit("slipway/demo", operations, commit_message="1")
    assert api.list_repo_files("slipway/demo") == [".gitattributes", ".gitignore", "z.txt"]


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


def test_an_unknown_operation_is_a_bad_request(ask, token, api):
    api.create_repo("slipway/demo")
    body = b'{"key":"header","value":{"summary":"x"}}\n{"key":"explode","value":{"path":"a"}}'
    assert ask("POST", "/api/models/slipway/demo/commit/main", token, body).status == 400


def test_a_test_can_make_answers_fail_by_wrapping_the_hub(tmp_path):
    """The commit is made and its answer lost: what a publisher must survive can be staged here."""
    calls = []

    def losing(app):
        async def wrapped(scope, receive, send):
            if scope["type"] == "http" and "/commit/" in scope["path"] and not calls:
                calls.append(scope["path"])

                async def lost(message):
                    if message["type"] == "http.response.start":
                        await send({"type": "http.response.start", "status": 504, "headers": []})
                        await send({"type": "http.response.body", "body": b""})

                await app(scope, receive, lost)
            else:
                await app(scope, receive, send)

        return wrapped

    with running_hub(tmp_path / "hub", wrap=losing) as hub:
        client = HfApi(endpoint=hub.endpoint, token=hub.store.create_user("slipway"))
        client.create_repo("slipway/demo")
        with pytest.raises(HfHubHTTPError, match="504"):
            client.create_commit("slipway/demo", [add("a", b"1")], commit_message="1")
        assert "a" in client.list_repo_files("slipway/demo")
