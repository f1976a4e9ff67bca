"""Many writers at once: nothing that was answered with success is lost, and nobody is answered 500."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from release.local_hub.fsck import check
from release.local_hub.routes_xet import GENERATIONS, Xorbs
from release.local_hub.space_status import secret_values
from release.local_hub.storage import Blobs, read_json

WRITERS = 16


def test_what_parallel_writers_were_told_is_kept_is_kept(hub: Any, api: Any, ask: Any, token: str) -> None:
    api.create_repo("slipway/page", repo_type="space", space_sdk="static")
    slug = api.create_collection("All", namespace="slipway").slug
    for number in range(WRITERS):
        hub.store.create_repository("model", f"slipway/m{number}", "slipway")
    space = "/api/spaces/slipway/page"
    writes: list[tuple[str, str, dict[str, Any]]] = []
    for number in range(WRITERS):
        key = {"key": f"K{number}", "value": f"v{number}"}
        writes += [("POST", f"{space}/secrets", key), ("POST", f"{space}/variables", key)]
        writes += [("POST", f"{space}/discussions", {"title": f"t{number}", "description": "d"})]
        writes += [("POST", f"{space}/branch/b{number}", {})]
        writes += [("POST", f"/api/collections/{slug}/items", {"item": {"type": "model", "id": f"slipway/m{number}"}})]
        watched = [{"type": "user", "name": "slipway"}]
        writes += [("POST", "/api/settings/webhooks", {"url": f"http://127.0.0.1:9/{number}", "watched": watched})]
    with ThreadPoolExecutor(WRITERS) as pool:
        answers = list(pool.map(lambda write: ask(write[0], write[1], token, write[2]), writes))
    assert {answer.status for answer in answers} == {200}, [a.body for a in answers if a.status != 200][:3]
    keys = {f"K{number}" for number in range(WRITERS)}
    found = hub.store.find("space", "slipway/page")
    assert secret_values(found) == {f"K{number}": f"v{number}" for number in range(WRITERS)}
    assert (
        ask("GET", f"{space}/secrets", token).json().keys()
        == ask("GET", f"{space}/variables", token).json().keys()
        == keys
    )
    assert len(ask("GET", f"{space}/discussions", token).json()["discussions"]) == WRITERS
    assert len(api.list_repo_refs("slipway/page", repo_type="space").branches) == WRITERS + 1
    assert len(api.get_collection(slug).items) == WRITERS
    assert len(api.list_webhooks()) == WRITERS
    secrets = found.folder / "runtime" / "secrets.json"
    assert oct(secrets.stat().st_mode & 0o777) == "0o600"
    assert check(hub.store.root) == []


def test_xorbs_that_are_forgotten_at_once_all_get_a_new_address(tmp_path: Path) -> None:
    xorbs = Xorbs(tmp_path, Blobs(tmp_path))
    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(xorbs.forget, [[] for _ in range(WRITERS)]))
    assert len(set(read_json(tmp_path / GENERATIONS))) == WRITERS
