"""What strangers can see and do on a Hub: nothing that is not public. Each test is one promise."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from huggingface_hub import CommitOperationAdd
from starlette.routing import Route

from release.__main__ import main
from release.local_hub.app import create_app
from release.local_hub.store import Store
from training.errors import UsageError

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

# A value for every part of an address. A new route with another part fails here, and has to be thought about.
PARTS = {
    "log": "run",
    "org": "slipway", "name": "hidden", "revision": "main", "path": "w.bin", "branch": "extra", "number": "1",
    "rest": "slipway/hidden/and/more", "status": "pending", "comment": "0",
}  # fmt: skip
# Addresses that are of no single repository; the tests named beside them say what they give to whom.
OTHERS = {
    "/": "test_lists_and_pages_of_strangers_leave_private_repositories_out",
    "/{kind:kinds}": "the same",
    "/{namespace}": "the same",
    "/api/{kind:kinds}": "the same",
    "/api/users/{account}/overview": "the same",
    "/api/organizations/{account}/overview": "the same",
    "/api/repos/create": "test_changes_that_name_their_repository_in_the_body_are_refused_to_strangers",
    "/api/repos/delete": "the same",
    "/api/repos/move": "the same",
    "/api/whoami-v2": "test_hub_access.py",
    "/lfs/verify": "test_hub_large_files.py",
    "/lfs/{oid}": "test_hub_large_files.py, signed addresses",
    "/lfs/{oid}/parts/{number}": "the same",
    "/lfs/{oid}/complete": "the same",
    "/xet/{cas}/v1/xorbs/{prefix}/{hash}": "test_hub_large_files.py, a content store of each user's own",
    "/xet/{cas}/v1/shards": "the same",
    "/xet/{rest:path}": "nothing is there",
    "/api/collections": "test_hub_collections.py, what strangers see and may change",
    "/api/collections/{org}/{slug}": "the same",
    "/api/collections/{org}/{slug}/items": "the same",
    "/api/collections/{org}/{slug}/items/{item}": "the same",
    "/collections": "the same",
    "/collections/{org}/{slug}": "the same",
    "/api/settings/repositories": "test_hub_duplicates.py, of each user their own",
    "/api/organizations/{account}/settings/repositories": "test_hub_duplicates.py, to members",
    "/api/settings/webhooks": "test_hub_webhooks.py, of each user their own",
    "/api/settings/webhooks/{webhook}": "the same",
    "/api/settings/webhooks/{webhook}/enable": "the same",
    "/api/settings/webhooks/{webhook}/disable": "the same",
    "/api/settings/webhooks/{webhook}/logs": "the same",
    "/api/settings/webhooks/{webhook}/replay/{delivery}": "the same",
    "/api/validate-yaml": "it knows no repository",
    "/leaderboard": "test_hub_leaderboard.py, whose scorecards are shown to whom",
    "/login": "test_hub_pages.py",
    "/icon.svg": "a picture",
    "/api/{rest:path}": "nothing is there",
    "/{rest:path}": "nothing is there",
}


def routes(store: Store) -> list[Route]:
    return [route for route in create_app(store).routes if isinstance(route, Route)]


def addresses(store: Store, name: str) -> Iterator[tuple[str, str]]:
    """(method, address) of every route of a repository, for each of its kinds."""
    for route in routes(store):
        if route.path in OTHERS:
            continue
        for kind in ("models", "datasets", "spaces") if "{kind:kinds}" in route.path else (None,):
            path = route.path.replace("{kind:kinds}", kind or "")
            filled = re.sub(r"{(\w+)(?::\w+)?}", lambda part: PARTS[part.group(1)], path).replace("hidden", name)
            yield from ((method, filled) for method in sorted(route.methods or ()))


@pytest.fixture
def hidden(hub: Any, api: Any) -> str:
    """A private model, dataset and Space of one name; the token of a stranger."""
    for kind in ("model", "dataset", "space"):
        api.create_repo("slipway/hidden", repo_type=kind, private=True, space_sdk="gradio" if kind == "space" else None)
        api.create_commit(
            "slipway/hidden", [CommitOperationAdd("w.bin", b"\0secret")], commit_message="1", repo_type=kind
        )
    return str(hub.store.create_user("stranger"))


def test_every_route_is_of_a_repository_or_is_accounted_for(tmp_path: Path) -> None:
    for route in routes(Store(tmp_path)):
        assert route.path in OTHERS or "{org}/{name}" in route.path or route.path == "/api/{kind:kinds}/{rest:path}"
    assert OTHERS.keys() <= {route.path for route in routes(Store(tmp_path))}


def test_private_is_missing_to_strangers_on_every_route_and_method_of_the_app(hub: Any, hidden: str, ask: Any) -> None:
    asked = list(zip(addresses(hub.store, "hidden"), addresses(hub.store, "absent"), strict=True))
    assert len(asked) > 150
    for (method, path), (_, absent) in asked:
        for token, status in ((None, 401), (hidden, 404)):
            body = None if method in {"GET", "HEAD"} else {}
            answer, missing = ask(method, path, token, body), ask(method, absent, token, body)
            assert (method, path, answer.status) == (method, path, status)
            assert missing.status == status
            assert answer.body.replace(b"hidden", b"absent") == missing.body.replace(b"hidden", b"absent"), (
                "private and missing look the same"
            )
            assert answer.headers.keys() == missing.headers.keys()
            assert b"secret" not in answer.body


# What a gated repository answers to those who were not let in: that it is there, its files' names and hashes, its card and
# its talks. A new route that answers them fails the test below, and has to be thought about.
OPEN_THOUGH_GATED = re.compile(
    r"(/api/(models|datasets|spaces)/slipway/hidden"
    r"(/revision/main|/tree/main|/refs|/commits/main|/paths-info/main|/preupload/main|/discussions(/1)?|/runtime)?"
    r"|(/(datasets|spaces|models))?/slipway/hidden(/tree/main|/commits/main|/discussions(/1)?|/ask-access)?)"
)


def test_gated_content_is_refused_to_strangers_on_every_route_and_method_of_the_app(
    hub: Any, hidden: str, api: Any, ask: Any
) -> None:
    for kind in ("model", "dataset", "space"):
        api.update_repo_settings("slipway/hidden", private=False, gated="manual", repo_type=kind)
        api.create_discussion("slipway/hidden", "a question", repo_type=kind)
    gated = 0
    for method, path in addresses(hub.store, "hidden"):
        for token, status in ((None, 401), (hidden, 403)):
            answer = ask(method, path, token, None if method in {"GET", "HEAD"} else {})
            assert b"secret" not in answer.body, (method, path)
            if answer.status < 400:
                assert OPEN_THOUGH_GATED.fullmatch(path), (method, path, "answers those who were not let in")
            if answer.headers.get("x-error-code") == "GatedRepo":
                assert (method, path, answer.status) == (method, path, status)
                gated += 1
    assert gated > 100
    assert b"secret" in ask("GET", "/slipway/hidden/resolve/main/w.bin", api.token).body


def test_no_range_condition_or_cache_opens_a_private_file(hub: Any, hidden: str, token: str, ask: Any) -> None:
    files = [path for method, path in addresses(hub.store, "hidden") if method == "GET" and "/w.bin" in path]
    served = 0
    for path in files:
        mine = ask("GET", path, token)
        etag = mine.headers.get("etag", '"x"')
        served += mine.body == b"\0secret"
        for headers in ({"Range": "bytes=0-2"}, {"If-None-Match": etag}, {"Range": "bytes=1-", "If-Range": etag}):
            for method in ("GET", "HEAD"):
                for stranger, status in ((None, 401), (hidden, 404)):
                    answer = ask(method, path, stranger, headers=headers)
                    assert (path, answer.status) == (path, status)
                    assert not {"etag", "content-range", "x-repo-commit", "x-linked-etag"} & answer.headers.keys()
        assert mine.headers.get("cache-control") in {"private, no-store", "no-cache"}, path
    assert served == 8, "resolve and raw, with and without their kind"


def test_lists_and_pages_of_strangers_leave_private_repositories_out(
    hub: Any, hidden: str, token: str, ask: Any
) -> None:
    lists = ["/", "/slipway", "/models", "/datasets", "/spaces", "/api/models", "/api/datasets", "/api/spaces"]
    lists += ["/api/models?search=hidden", "/api/models?author=slipway&full=true", "/?search=hidden"]
    for path in lists:
        assert b"hidden" in ask("GET", path, token).body.replace(b"search=hidden", b"")
        for stranger in (None, hidden):
            assert b"slipway/hidden" not in ask("GET", path, stranger).body, path
    for stranger, count in ((None, 0), (hidden, 0), (token, 1)):
        assert ask("GET", "/api/users/slipway/overview", stranger).json()["numModels"] == count


def test_changes_that_name_their_repository_in_the_body_are_refused_to_strangers(
    hub: Any, hidden: str, ask: Any
) -> None:
    mine = {"name": "hidden", "organization": "slipway", "type": "model"}
    moved = {"fromRepo": "slipway/hidden", "toRepo": "stranger/hidden", "type": "model"}
    for token, codes in ((None, {401}), (hidden, {403, 404})):
        assert ask("POST", "/api/repos/create", token, mine).status in codes
        assert ask("DELETE", "/api/repos/delete", token, mine).status in codes
        assert ask("POST", "/api/repos/move", token, moved).status in codes
    assert hub.store.find("model", "slipway/hidden") is not None


def test_a_name_in_other_letters_is_the_same_repository_and_not_another_one(
    hub: Any, api: Any, token: str, ask: Any
) -> None:
    api.create_repo("slipway/Demo", private=True)
    for name in ("demo", "DEMO", "dEmO"):
        assert ask("POST", "/api/repos/create", token, {"name": name}).status == 409
        assert ask("GET", f"/api/models/Slipway/{name}").status == 401
        assert ask("GET", f"/api/models/SLIPWAY/{name}", token).json()["id"] == "slipway/Demo"


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "x/../y",
        ".",
        "..",
        "x.git",
        "X.GIT",
        "d\u00e9mo",
        "de\u200bmo",
        "d\u0435mo",
        "-x",
        "x\0",
        "x y",
        "a" * 97,
    ],
)
def test_a_name_that_is_no_name_or_only_looks_like_one_is_refused(name: str, ask: Any, token: str, hub: Any) -> None:
    assert ask("POST", "/api/repos/create", token, {"name": name}).status == 400
    assert ask("GET", f"/api/models/slipway/{quote(name, safe='')}", token).status == 404
    assert list(hub.store.repositories("model")) == []


@pytest.mark.parametrize("where", ["file", "folder", "repository"])
def test_an_import_refuses_links_that_lead_out_of_its_folder(where: str, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "id_rsa").write_text("secret")
    source = tmp_path / "mirror" / "models" / "org" / "name"
    source.mkdir(parents=True)
    (source / "config.json").write_text("{}")
    link, target = {
        "file": (source / "weights.bin", tmp_path / "private" / "id_rsa"),
        "folder": (source / "more", tmp_path / "private"),
        "repository": (source.parent / "other", tmp_path / "private"),
    }[where]
    link.symlink_to(target)
    store = Store(tmp_path / "hub")
    with pytest.raises(UsageError, match="leads out of the folder"):
        store.import_folder(tmp_path / "mirror")
    assert list(store.repositories("model")) == []


def test_an_import_follows_links_within_its_folder(tmp_path: Path) -> None:
    source = tmp_path / "mirror" / "models" / "org" / "name"
    source.mkdir(parents=True)
    (source / "a.txt").write_text("content")
    (source / "b.txt").symlink_to("a.txt")
    store = Store(tmp_path / "hub")
    store.import_folder(tmp_path / "mirror")
    tree = store.find("model", "org/name").resolve("main").tree  # type: ignore[union-attr]
    assert tree["b.txt"] == tree["a.txt"]


def test_the_hub_listens_on_this_machine_alone_unless_told_otherwise(hub: Any, tmp_path: Path) -> None:
    assert urlsplit(hub.endpoint).hostname == "127.0.0.1"
    told = subprocess.run(
        [sys.executable, "-m", "release", "hub", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert "127.0.0.1, this machine only" in " ".join(told.split())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "hub.example.org", ""])
def test_without_a_token_it_refuses_to_listen_to_others(
    host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["hub", "--root", str(tmp_path / "hub"), "--host", host, "--port", "0"]) == 2
    assert "must have a user" in capsys.readouterr().err


def test_another_sites_page_can_show_public_files_and_nothing_else(api, ask, token):
    login = {"Authorization": "Basic " + base64.b64encode(f"slipway:{token}".encode()).decode()}
    for name in ("open", "closed", "gated"):
        api.create_repo(f"slipway/{name}", private=name == "closed")
        api.upload_file(repo_id=f"slipway/{name}", path_in_repo="logo.png", path_or_fileobj=b"png")
    api.update_repo_settings("slipway/gated", gated="manual")
    policy = "cross-origin-resource-policy"
    assert ask("GET", "/slipway/open/resolve/main/logo.png", headers=login).headers[policy] == "cross-origin"
    assert ask("GET", "/slipway/open/resolve/main/logo.png").headers[policy] == "cross-origin"
    for path in (
        "/slipway/closed/resolve/main/logo.png",
        "/slipway/gated/resolve/main/logo.png",
        "/slipway/open/resolve/main/none.png",
        "/slipway/none/resolve/main/logo.png",
        "/api/models/slipway/closed",
        "/api/models/slipway/none",
        "/slipway/closed",
        "/",
    ):
        assert ask("GET", path, headers=login).headers[policy] == "same-origin", path
