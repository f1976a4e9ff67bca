"""Commits as the unchanged client makes them, and those that the Hub refuses."""

from __future__ import annotations

import hashlib
import io
import json

import pytest
from commit_operations import add
from huggingface_hub import CommitOperationAdd, CommitOperationCopy, CommitOperationDelete, HfApi
from huggingface_hub.errors import HfHubHTTPError

from release.local_hub.server import running_hub

# The client itself passes file objects to httpx in a way that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def _json(text: str) -> bytes:
    return json.dumps(text).encode()


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


def test_a_large_file_that_was_not_uploaded_is_refused(ask, token, api):
    api.create_repo("slipway/demo")
    operation = b'{"key":"lfsFile","value":{"path":"w.bin","algo":"sha256","oid":"%s","size":5}}' % (b"0" * 64)
    body = b'{"key":"header","value":{"summary":"x"}}\n' + operation
    answer = ask("POST", "/api/models/slipway/demo/commit/main", token, body)
    assert answer.status == 422
    assert "has not been uploaded" in answer.json()["error"]


def test_the_pointer_of_a_large_file_is_that_file_or_is_refused(ask, token, api):
    api.create_repo("slipway/demo")
    content = b"weights" * 1000
    digest = hashlib.sha256(content).hexdigest()

    def commit(oid: str, size: int):
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {size}\n"
        body = b'{"key":"header","value":{"summary":"x"}}\n{"key":"file","value":{"path":"w.safetensors","content":%s}}'
        return ask("POST", "/api/models/slipway/demo/commit/main", token, body % _json(pointer))

    refused = commit(digest, len(content))
    assert refused.status == 422
    assert "has not been uploaded" in refused.json()["error"]
    assert api.list_repo_files("slipway/demo") == [".gitattributes"]
    api.create_commit("slipway/demo", [add("copy.safetensors", content)], commit_message="1")
    assert commit(digest, 1).status == 422
    assert commit(digest, len(content)).status == 200
    (file,) = api.get_paths_info("slipway/demo", "w.safetensors")
    assert (file.size, file.lfs.sha256) == (len(content), digest)
    words = b"version https://git-lfs.github.com/spec/v1 is what a pointer begins with\n"
    api.create_commit("slipway/demo", [add("notes.md", words)], commit_message="2")
    (notes,) = api.get_paths_info("slipway/demo", "notes.md")
    assert notes.lfs is None


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


def test_an_unknown_operation_is_a_bad_request(ask, token, api):
    api.create_repo("slipway/demo")
    body = b'{"key":"header","value":{"summary":"x"}}\n{"key":"explode","value":{"path":"a"}}'
    assert ask("POST", "/api/models/slipway/demo/commit/main", token, body).status == 400


def test_history_can_be_squashed(api):
    api.create_repo("slipway/demo")
    api.create_commit("slipway/demo", [add("a.txt", b"1")], commit_message="1")
    api.super_squash_history("slipway/demo", commit_message="all in one")
    assert [commit.title for commit in api.list_repo_commits("slipway/demo")] == ["all in one"]
    assert "a.txt" in api.list_repo_files("slipway/demo")


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
