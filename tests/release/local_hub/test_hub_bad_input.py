"""What is not as it should be in a request is refused in the Hub's own shape; it is no fault of the server's, and stays nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from release.local_hub.space_status import secret_values

ODD = [None, True, -1, 1.5, "\ud800", "a\0b", "../..", ["x"], {"a": 1}, [{"key": 1}], 10**30]
RAW = [b"1e400", b"NaN"]

# Method, address, and a body that is right. M and S are a model's and a Space's address.
CHANGES: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/api/repos/create", {"name": "page", "type": "space", "organization": "slipway", "sdk": "gradio",
        "hardware": "cpu-basic", "visibility": "public", "private": False, "sleepTimeSeconds": 60,
        "variables": [{"key": "A", "value": "b"}], "secrets": [{"key": "A", "value": "b"}]}),
    ("POST", "/api/repos/move", {"fromRepo": "slipway/none", "toRepo": "slipway/other", "type": "model"}),
    ("DELETE", "/api/repos/delete", {"name": "none", "organization": "slipway", "type": "model"}),
    ("PUT", "M/settings", {"visibility": "public", "private": False, "gated": False}),
    ("POST", "M/branch/b", {"startingPoint": "main"}),
    ("POST", "M/tag/main", {"tag": "v1", "message": "words"}),
    ("POST", "M/super-squash/main", {"message": "words"}),
    ("POST", "M/preupload/main", {"files": [{"path": "a", "size": 1, "sample": "YQ=="}], "gitIgnore": "*.x"}),
    ("POST", "M/paths-info/main", {"paths": ["a"], "expand": True}),
    ("POST", "M/lfs-files/duplicate", {"target": {"type": "model", "name": "slipway/demo"}, "files": [{"sha256": "0"}]}),
    ("POST", "M/discussions", {"title": "words", "description": "words", "pullRequest": True}),
    ("POST", "M/discussions/1/comment", {"comment": "words"}),
    ("POST", "M/discussions/1/title", {"title": "words"}),
    ("POST", "M/discussions/1/status", {"status": "closed", "comment": "words"}),
    ("POST", "M/discussions/1/merge", {"comment": "words"}),
    ("POST", "M/user-access-request/handle", {"user": "slipway", "status": "accepted", "rejectionReason": "words"}),
    ("POST", "M/user-access-request/grant", {"user": "slipway"}),
    ("POST", "/slipway/demo.git/info/lfs/objects/batch",
        {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": "0" * 64, "size": 1}]}),
    ("POST", "/lfs/verify", {"oid": "0" * 64, "size": 1}),
    ("POST", "S/variables", {"key": "A", "value": "b", "description": "words"}),
    ("POST", "S/secrets", {"key": "A", "value": "b", "description": "words"}),
    ("DELETE", "S/variables", {"key": "A"}),
    ("DELETE", "S/secrets", {"key": "A"}),
    ("POST", "S/hardware", {"flavor": "cpu-basic", "sleepTimeSeconds": 60}),
    ("POST", "S/sleeptime", {"seconds": 60}),
    ("POST", "/api/collections", {"title": "words", "description": "words", "namespace": "slipway", "private": True,
        "item": {"type": "model", "id": "slipway/demo"}}),
    ("POST", "/api/settings/webhooks", {"url": "http://127.0.0.1:9/x", "domains": ["repo"], "secret": "x",
        "watched": [{"type": "user", "name": "slipway"}]}),
    ("POST", "/api/validate-yaml", {"content": "---\nlicense: mit\n---\n", "repoType": "model"}),
]  # fmt: skip
FRONT = [b"license: [[x]]", b"license: {a: b}", b"tags: {a: [b]}", b"language: [{a: b}]", b"colorFrom: [x]",
    b"sdk: {a: b}", b"sdk: [x]", b"pipeline_tag: [x]", b"base_model: {a: b}", b"emoji: [x]", b"app_port: .inf"]  # fmt: skip


def wrong(body: dict[str, Any]) -> list[bytes]:
    """The body with each field, and each field within these, as it should not be."""
    found = [json.dumps(body | {key: odd}).encode() for key in body for odd in ODD]
    found += [json.dumps(body | {key: "@"}).encode().replace(b'"@"', raw) for key in body for raw in RAW]
    for key, value in body.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            for inner in wrong(value[0]):
                found.append(json.dumps(body | {key: ["@"]}).encode().replace(b'"@"', inner))
    return found


@pytest.fixture
def places(api: Any) -> dict[str, str]:
    api.create_repo("slipway/demo")
    api.create_repo("slipway/page", repo_type="space", space_sdk="static")
    api.create_discussion("slipway/demo", "a question")
    return {"M": "/api/models/slipway/demo", "S": "/api/spaces/slipway/page"}


def test_no_field_of_no_body_makes_the_server_fail_or_stays_where_it_makes_it_fail_later(
    places: dict[str, str], token: str, ask: Any
) -> None:
    for method, address, body in CHANGES:
        path = places.get(address[0], address[0]) + address[1:]
        for sent in wrong(body):
            answer = ask(method, path, token, sent)
            assert answer.status < 500, (method, path, sent, answer.body)
    reads = ["M", "M/tree/main", "M/refs", "M/commits/main", "M/discussions", "M/discussions/1", "S", "S/runtime"]
    reads += ["S/variables", "S/secrets", "/api/models", "/api/spaces", "/api/collections", "/api/settings/webhooks"]
    for address in reads:
        answer = ask("GET", places.get(address[0], address[0]) + address[1:], token)
        assert (address, answer.status) == (address, 200)
    for page in ("/", "/slipway", "/slipway/demo", "/slipway/demo/discussions", "/spaces/slipway/page"):
        assert ask("GET", page, token, headers={"Accept": "text/html"}).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/api/models?limit=%C2%B2",
        "/api/models?cursor=%C2%B2",
        "/api/models?limit=-1",
        "M/commits/main?p=%C2%B2",
        "M/commits/main?p=" + "9" * 5000,
        "M/discussions?p=%C2%B2",
        "M/discussions/%C2%B2",
        "/slipway/demo/discussions/%C2%B2",
    ],
)
def test_a_number_that_is_none_is_a_bad_request(path: str, places: dict[str, str], ask: Any) -> None:
    assert ask("GET", path.replace("M", places["M"], 1)).status in {400, 404}


def test_lines_of_a_commit_that_cannot_be_kept_are_refused(places: dict[str, str], token: str, ask: Any) -> None:
    header, file = {"summary": "words"}, {"path": "a", "content": "YQ==", "encoding": "base64"}
    lines = [("header", header | {key: odd}) for key in ("summary", "description", "parentCommit") for odd in ODD]
    lines += [("file", file | {key: odd}) for key in ("path", "content", "encoding") for odd in ODD]
    lines += [("lfsFile", {"path": "a", "oid": odd, "size": odd}) for odd in ODD]
    lines += [(kind, {"path": odd}) for kind in ("deletedFile", "deletedFolder") for odd in ODD]
    lines += [(odd, {"path": "a"}) for odd in ODD]
    for key, value in lines:
        other = {"key": "header", "value": header} if key != "header" else {"key": "file", "value": file}
        body = "\n".join(json.dumps(line) for line in (other, {"key": key, "value": value}))
        answer = ask("POST", f"{places['M']}/commit/main", token, body.encode())
        assert answer.status < 500, (key, value, answer.body)
    assert ask("GET", f"{places['M']}/commits/main").status == 200


def test_a_card_whose_fields_have_other_types_is_judged(token: str, ask: Any) -> None:
    for kind in ("model", "dataset", "space"):
        for front in FRONT:
            asked = {"content": f"---\n{front.decode()}\n---\n", "repoType": kind}
            assert ask("POST", "/api/validate-yaml", token, asked).status < 500, (kind, front)


@pytest.mark.parametrize("private", ["false", "true", 0, 1, [], {}])
def test_what_is_not_true_or_false_makes_no_repository_private_or_public(
    private: Any, places: dict[str, str], token: str, ask: Any
) -> None:
    assert ask("POST", "/api/repos/create", token, {"name": "other", "private": private}).status == 400
    assert ask("GET", "/api/models/slipway/other", token).status == 404
    assert ask("PUT", f"{places['M']}/settings", token, {"private": private}).status == 400


def test_secrets_and_variables_of_a_new_space_are_kept_with_their_values(hub: Any, api: Any) -> None:
    api.create_repo(
        "slipway/page",
        repo_type="space",
        space_sdk="gradio",
        space_secrets=[{"key": "PASSWORD", "value": "open sesame", "description": "for the door"}],
        space_variables=[{"key": "COLOUR", "value": "blue"}],
    )
    assert secret_values(hub.store.find("space", "slipway/page")) == {"PASSWORD": "open sesame"}
    assert {key: kept.value for key, kept in api.get_space_variables("slipway/page").items()} == {"COLOUR": "blue"}
    secret = api.get_space_secrets("slipway/page")["PASSWORD"]
    assert secret.description == "for the door"
    assert secret.updated_at is not None
    assert "sesame" not in str(secret)


@pytest.mark.parametrize("key", ["", "1A", "A=B", "A B", "A\0", "\u00c4", "A" * 300])
def test_a_variable_that_no_process_can_be_given_is_refused(
    key: str, places: dict[str, str], token: str, ask: Any
) -> None:
    for group in ("variables", "secrets"):
        assert ask("POST", f"{places['S']}/{group}", token, {"key": key, "value": "x"}).status == 400
        new = {"name": "new", "type": "space", "sdk": "static", group: [{"key": key, "value": "x"}]}
        assert ask("POST", "/api/repos/create", token, new).status == 400
