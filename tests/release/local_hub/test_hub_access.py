"""Who may see and change what: tokens, scopes, namespaces, private repositories, and bytes that others sent."""

from __future__ import annotations

import base64
import hashlib
import io
import json

import pytest
from huggingface_hub import CommitOperationAdd
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError

from training.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

CONTENT = b"\0private weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()

# Every address at which a repository can be read.
READ_PATHS = [
    "/api/models/slipway/hidden",
    "/api/models/slipway/hidden/revision/main",
    "/api/models/slipway/hidden/tree/main",
    "/api/models/slipway/hidden/tree/main?recursive=true&expand=true",
    "/api/models/slipway/hidden/refs",
    "/api/models/slipway/hidden/commits/main",
    "/api/models/slipway/hidden/discussions",
    "/api/models/slipway/hidden/discussions/1",
    "/api/models/slipway/hidden/auth-check",
    "/api/models/slipway/hidden/xet-read-token/main",
    "/api/models/slipway/hidden/likers",
    "/slipway/hidden/resolve/main/w.bin",
    "/slipway/hidden/raw/main/w.bin",
    "/SLIPWAY/Hidden/resolve/main/w.bin",
    "/slipway/hidden/resolve/main/nothing",
    "/slipway/hidden/resolve/refs%2Fpr%2F1/w.bin",
]


@pytest.fixture
def hidden(api):
    api.create_repo("slipway/hidden", private=True)
    operations = [CommitOperationAdd("w.bin", io.BytesIO(CONTENT)), CommitOperationAdd("README.md", b"# hidden\n")]
    with pytest.warns(UserWarning, match="empty or missing yaml"):
        api.create_commit("slipway/hidden", operations, commit_message="1")
    api.create_commit("slipway/hidden", [CommitOperationAdd("x", b"1")], commit_message="2", create_pr=True)


@pytest.fixture
def stranger(hub):
    return hub.store.create_user("stranger")


def test_a_private_repository_does_not_exist_for_others_on_any_address(ask, hidden, stranger, token):
    for path in READ_PATHS:
        for method in ("GET", "HEAD"):
            nobody = ask(method, path)
            missing = ask(method, path.replace("idden", "issing"))
            assert (path, nobody.status, nobody.headers["x-error-code"]) == (path, 401, "RepoNotFound")
            assert (nobody.status, nobody.body) == (missing.status, missing.body), "private and missing look the same"
            assert (path, ask(method, path, stranger).status) == (path, 404)
            assert ask(method, path, stranger, headers={"Range": "bytes=0-3"}).status == 404
        expected = 404 if path.endswith(("nothing", "likers")) else 200
        assert (path, ask("GET", path, token).status) == (path, expected)


def test_a_private_repository_is_in_nobody_elses_list(client, api, hidden, stranger):
    assert [model.id for model in api.list_models()] == ["slipway/hidden"]
    assert list(client(stranger).list_models()) == []
    assert list(client(False).list_models(author="slipway")) == []


def test_private_repositories_refuse_paths_info_to_others(client, hidden, stranger):
    with pytest.raises(RepositoryNotFoundError):
        client(stranger).get_paths_info("slipway/hidden", ["w.bin"])


def test_a_repository_becomes_public_by_its_settings(api, client, hidden):
    api.update_repo_settings("slipway/hidden", visibility="public")
    assert client(False).model_info("slipway/hidden").private is False
    api.update_repo_settings("slipway/hidden", private=True)
    with pytest.raises(RepositoryNotFoundError):
        client(False).model_info("slipway/hidden")


def test_only_a_namespaces_people_write_to_it(client, api, stranger):
    api.create_repo("slipway/open")
    other = client(stranger)
    attempts = [
        lambda: other.create_repo("slipway/mine"),
        lambda: other.create_commit("slipway/open", [CommitOperationAdd("x", b"1")], commit_message="1"),
        lambda: other.delete_repo("slipway/open"),
        lambda: other.move_repo("slipway/open", "stranger/open"),
        lambda: other.update_repo_settings("slipway/open", private=True),
        lambda: other.create_tag("slipway/open", tag="v1"),
        lambda: other.create_branch("slipway/open", branch="b"),
        lambda: other.super_squash_history("slipway/open"),
    ]
    for attempt in attempts:
        with pytest.raises(HfHubHTTPError, match="403"):
            attempt()
    assert api.list_repo_files("slipway/open") == [".gitattributes"]
    with pytest.raises(HfHubHTTPError, match="403"):
        api.move_repo("slipway/open", "stranger/open")


def test_members_write_in_their_organisation(hub, client, token, stranger):
    hub.store.create_organisation("Harbour", members=("slipway",))
    client(token).create_repo("harbour/demo")
    assert client(token).whoami()["orgs"][0]["name"] == "Harbour"
    assert client(False).model_info("harbour/demo").id == "Harbour/demo"
    with pytest.raises(HfHubHTTPError, match="403"):
        client(stranger).create_repo("harbour/other")


def test_a_stranger_may_propose_but_not_merge(client, api, stranger):
    api.create_repo("slipway/open")
    other = client(stranger)
    pull = other.create_commit("slipway/open", [CommitOperationAdd("x", b"1")], commit_message="1", create_pr=True)
    with pytest.raises(HfHubHTTPError, match="403"):
        other.merge_pull_request("slipway/open", pull.pr_num)
    api.merge_pull_request("slipway/open", pull.pr_num)
    assert "x" in api.list_repo_files("slipway/open")


def test_a_read_token_reads_private_repositories_and_writes_nothing(hub, client, hidden):
    reader = client(hub.store.create_token("slipway", "read"))
    assert reader.model_info("slipway/hidden").private
    with pytest.raises(HfHubHTTPError, match="403"):
        reader.create_commit("slipway/hidden", [CommitOperationAdd("x", b"1")], commit_message="1")
    with pytest.raises(HfHubHTTPError, match="403"):
        reader.create_repo("slipway/other")


def test_a_bad_or_revoked_token_is_refused_even_for_public_things(hub, client, api, ask):
    api.create_repo("slipway/open")
    revoked = hub.store.create_token("slipway")
    assert client(revoked).whoami()["name"] == "slipway"
    hub.store.revoke_token(revoked)
    for bad in (revoked, "hf_" + "x" * 34):
        answer = ask("GET", "/api/models/slipway/open", bad)
        assert (answer.status, answer.headers["x-error-message"]) == (
            401,
            "Invalid credentials in Authorization header",
        )
    assert ask("GET", "/api/whoami-v2").status == 401


def test_the_hash_of_a_private_file_does_not_open_it(client, api, hidden, stranger, ask):
    """A large file is named by its hash; naming it is not having it."""
    client(stranger).create_repo("stranger/thief")
    batch = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": DIGEST, "size": len(CONTENT)}]}
    answer = ask("POST", "/stranger/thief.git/info/lfs/objects/batch", stranger, batch)
    assert "upload" in answer.json()["objects"][0]["actions"], "it does not say that the content is known"
    lines = [
        {"key": "header", "value": {"summary": "take"}},
        {"key": "lfsFile", "value": {"path": "w.bin", "algo": "sha256", "oid": DIGEST, "size": len(CONTENT)}},
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    assert ask("POST", "/api/models/stranger/thief/commit/main", stranger, body).status == 422
    upload = CommitOperationAdd("w.bin", io.BytesIO(CONTENT))  # who has the bytes may use them
    client(stranger).create_commit("stranger/thief", [upload], commit_message="1")


def test_tokens_are_kept_as_hashes_only(hub, token):
    kept = b"".join(file.read_bytes() for file in hub.store.root.rglob("*") if file.is_file())
    assert token.encode() not in kept
    assert hashlib.sha256(token.encode()).hexdigest().encode() in kept


def test_no_token_and_no_upload_signature_reaches_the_log(api, token, ask, capfd):
    api.create_repo("slipway/open")
    api.create_commit("slipway/open", [CommitOperationAdd("w.bin", io.BytesIO(CONTENT))], commit_message="1")
    ask("GET", f"/api/models/slipway/open?token={token}", token)
    out, error = capfd.readouterr()
    assert token not in out + error
    assert "signature" not in out + error


def test_names_are_unique_whatever_their_case_and_cannot_be_addresses(hub, token):
    for name in ("Slipway", "api", "datasets", "a/b", "..", ".hidden", "x" * 97, ""):
        with pytest.raises(UsageError):
            hub.store.create_user(name)
    with pytest.raises(UsageError):
        hub.store.create_organisation("SLIPWAY")


@pytest.mark.parametrize(
    "path",
    [
        "/slipway/open/resolve/main/../../../secret",
        "/slipway/open/resolve/main/%2e%2e%2f%2e%2e%2f%2e%2e%2faccounts.json",
        "/slipway/open/resolve/..%2F..%2Frepo/x",
        "/slipway/open/resolve/main/%00",
        "/..%2f..%2f/open/resolve/main/x",
        "/api/models/slipway/..%2f..%2f..%2faccounts",
        "/api/models/slipway/open/revision/..%2Frefs",
        "/api/models/slipway/open/tree/main/..%2f..",
        "/api/models/slipway/open/discussions/..%2F..%2Frepo",
        "/lfs/..%2F..%2Fsecret?size=1&user=slipway&signature=1-2",
        "/xet/..%2f..%2f/v1/xorbs/default/..%2f..%2fsecret",
    ],
)
def test_no_address_leads_out_of_the_store(ask, api, token, path):
    api.create_repo("slipway/open")
    for method in ("GET", "PUT", "POST"):
        answer = ask(method, path, token)
        assert 400 <= answer.status < 500
        assert b'"tokens"' not in answer.body


def test_a_browsers_login_may_read_and_never_write(ask, api, hidden, token):
    basic = {"Authorization": "Basic " + base64.b64encode(f"slipway:{token}".encode()).decode()}
    assert ask("GET", "/api/models/slipway/hidden", headers=basic).status == 200
    assert ask("POST", "/api/repos/create", body={"name": "x"}, headers=basic).status == 401
