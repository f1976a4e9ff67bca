"""A static Space from the scorecards in a Hub's repositories: the page of `evals leaderboard`, pinned, and made once."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_run import OWNER

from evals.leaderboard import write
from evals.saved import SavedRun
from release.__main__ import main
from release.hub_client import HubClient
from release.hub_files import LocalFile
from release.local_hub.server import RunningHub


def push_scores(hub: HubClient, repo_id: str, run: Path) -> str:
    """A model repository with nothing but the run's scorecard and samples; its commit."""
    hub.create_repository(repo_id, private=False)
    files = {"scorecard.json": run / "scorecard.json"}
    files |= {f"samples/{file.name}": file for file in (run / "samples").glob("*.jsonl")}
    head = hub.head(repo_id, "main")
    return hub.commit(
        repo_id,
        "main",
        parent=head,
        additions={path: LocalFile.of(file.read_bytes()) for path, file in files.items()},
        deletions=[],
        title="scores",
        message="",
        landed=lambda _commit: False,
    )


@pytest.fixture
def models(hub: HubClient, repo_id: str, run: Path) -> list[str]:
    names = [f"{repo_id}-a", f"{repo_id}-b"]
    push_scores(hub, names[0], run)
    push_scores(hub, names[1], run / "baseline")
    return names


def test_the_page_is_that_of_evals_leaderboard_and_every_model_is_pinned(
    hub: HubClient, repo_id: str, models: list[str], run: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assert main(["leaderboard-space", "--repo", f"{repo_id}-board", "--models", *models, "--out", str(out)]) == 0
    board = Path(hub.api.snapshot_download(f"{repo_id}-board", repo_type="space"))
    written = {file.relative_to(out).as_posix() for file in out.rglob("*") if file.is_file()}
    assert written == set(hub.api.list_repo_files(f"{repo_id}-board", repo_type="space")) - {".gitattributes"}
    write([run, run / "baseline"], tmp_path / "ours", models)
    for name in ("index.html", "leaderboard.json", "leaderboard.csv"):
        assert (board / name).read_bytes() == (tmp_path / "ours" / name).read_bytes()
    rows = json.loads((board / "leaderboard.json").read_text())["boards"][0]["rows"]
    assert sorted(row["name"] for row in rows) == models, "by their Hub ids"
    sources = json.loads((board / "sources.json").read_text())
    assert [source["commit"] for source in sources] == [hub.head(name, "main") for name in models]
    assert sources[0]["digest"] == SavedRun.open(run).scorecard.model.digest
    info = hub.api.space_info(f"{repo_id}-board")
    assert (info.sdk, info.private) == ("static", False)


def test_a_second_run_commits_only_where_a_score_has_changed(
    hub: HubClient, repo_id: str, models: list[str], run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["leaderboard-space", "--repo", f"{repo_id}-board", "--json", "--models"]
    assert main([*words, *models]) == 0
    assert main([*words, *models]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert (first["changed"], second["changed"]) == (True, False)
    assert second["commit"] == first["commit"]
    assert main([*words, models[0]]) == 0
    assert len(hub.history(f"{repo_id}-board", kind="space")) == 3  # the Hub's first, and two of ours


def test_a_model_without_a_scorecard_is_an_error_where_it_was_named_and_left_out_where_it_was_found(
    hub: HubClient, repo_id: str, models: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.create_repository(f"{repo_id}-bare", private=False)
    assert main(["leaderboard-space", "--repo", f"{repo_id}-board", "--models", f"{repo_id}-bare"]) == 2
    assert "has no scorecard" in capsys.readouterr().err
    found = [*models, f"{repo_id}-bare"]
    monkeypatch.setattr(HubClient, "models_of", lambda _hub, author, **_: found if author == OWNER else [])
    assert main(["leaderboard-space", "--repo", f"{repo_id}-board", "--author", OWNER, "--dry-run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [source["repo_id"] for source in answer["sources"]] == models
    assert hub.repository(f"{repo_id}-board", "space") is None


def test_a_scorecard_that_cannot_be_shown_does_not_take_the_others_of_its_owner_down(
    hub: HubClient,
    repo_id: str,
    models: list[str],
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    broken = tmp_path / "broken"
    (broken / "samples").mkdir(parents=True)
    (broken / "scorecard.json").write_text('{"schema_version": 1}')
    push_scores(hub, f"{repo_id}-broken", broken)
    typed_in = Path(shutil.copytree(run, tmp_path / "typed-in"))
    card = json.loads((run / "scorecard.json").read_text())
    card["scores"][0]["value"] += 0.01
    (typed_in / "scorecard.json").write_text(json.dumps(card))
    push_scores(hub, f"{repo_id}-typed-in", typed_in)
    found = [f"{repo_id}-broken", *models, f"{repo_id}-typed-in"]
    monkeypatch.setattr(HubClient, "models_of", lambda *_, **__: found)
    assert main(["leaderboard-space", "--repo", f"{repo_id}-board", "--author", OWNER, "--dry-run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [source["repo_id"] for source in answer["sources"]] == models
    assert set(answer["left_out"]) == {f"{repo_id}-broken", f"{repo_id}-typed-in"}
    assert main(["leaderboard-space", "--repo", f"{repo_id}-board", "--models", f"{repo_id}-broken"]) == 2
    assert f"{hub.endpoint}/{repo_id}-broken at" in capsys.readouterr().err


def test_the_models_of_an_owner_are_those_that_anyone_may_see(hub: HubClient, repo_id: str, models: list[str]) -> None:
    """A release is private until it is complete, and its scores are not told of before."""
    hub.set_private(models[1], True)
    assert set(models) <= set(hub.models_of(OWNER))
    assert set(models) & set(hub.models_of(OWNER, private=False)) == {models[0]}


def test_samples_that_are_not_those_that_were_scored_are_not_shown(
    hub: HubClient, repo_id: str, run: Path, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(run, tmp_path / "changed"))
    sample = next((changed / "samples").glob("*.jsonl"))
    sample.write_bytes(sample.read_bytes().replace(b"1", b"0", 1))
    push_scores(hub, f"{repo_id}-changed", changed)
    assert main(["leaderboard-space", "--repo", f"{repo_id}-board", "--models", f"{repo_id}-changed"]) == 2


def test_a_webhook_of_a_model_that_is_shown_makes_the_space_again_and_others_do_not(
    hub: HubClient, repo_id: str, models: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    from starlette.testclient import TestClient

    from release.leaderboard_webhook import Refresher, listening_app

    done = threading.Event()

    def refresh() -> str:
        assert main(["leaderboard-space", "--repo", f"{repo_id}-board", "--models", *models]) == 0
        done.set()
        return "refreshed"

    with TestClient(listening_app(Refresher(refresh), models, None, "secret")) as client:
        body = payload(models[0])
        assert client.post("/webhook", json=body).status_code == 401
        assert client.post("/webhook", json=body, headers={"X-Webhook-Secret": "guess"}).status_code == 403
        known = {"X-Webhook-Secret": "secret"}
        assert client.post("/webhook", json={"event": 1}, headers=known).status_code == 422
        assert client.post("/webhook", content=b" " * 1_000_001, headers=known).status_code == 413
        for other in (
            payload(f"{repo_id}-c"),
            payload(models[0], kind="dataset"),
            payload(models[0], scope="discussion"),
        ):
            assert client.post("/webhook", json=other, headers=known).json() == {"refresh": "not needed"}
        assert hub.repository(f"{repo_id}-board", "space") is None
        assert client.post("/webhook", json=body, headers=known).status_code == 202
        assert done.wait(60)
    assert hub.repository(f"{repo_id}-board", "space") is not None


def test_a_refresh_that_fails_is_told_by_health_and_the_next_one_is_made_all_the_same() -> None:
    from starlette.testclient import TestClient

    from release.leaderboard_webhook import Refresher, listening_app

    outcomes: list[str | Exception] = [ValueError("not foreseen"), "refreshed"]

    def refresh() -> str:
        outcome = outcomes.pop(0)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    refresher = Refresher(refresh)
    with TestClient(listening_app(refresher, ["org/a"], None, "secret")) as client:
        for status, last in ((503, "failed: ValueError"), (200, "refreshed")):
            refresher.ask()
            until = time.monotonic() + 30
            while client.get("/health").json()["last"] != last and time.monotonic() < until:
                time.sleep(0.01)
            answer = client.get("/health")
            assert (answer.status_code, answer.json()["last"]) == (status, last)


def test_a_commit_to_the_hub_makes_the_space_again_by_way_of_a_webhook(
    hub: HubClient, repo_id: str, models: list[str], run: Path
) -> None:
    """The Hub, its webhook and the command that waits for it, each as it is."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ["leaderboard-space", "--repo", f"{repo_id}-board", "--models", *models, "--listen", str(port)]
    environment = {**os.environ, "WEBHOOK_SECRET": "quiet", "PYTHONPATH": str(Path(__file__).parents[2])}
    with subprocess.Popen([sys.executable, "-m", "release", *words], env=environment) as receiver:
        try:
            wait_until(lambda: hub.repository(f"{repo_id}-board", "space") is not None)
            before = wait_until(lambda: len(sources := board_sources(hub, f"{repo_id}-board")) == 2 and sources)
            hook = hub.api.create_webhook(
                url=f"http://127.0.0.1:{port}/webhook",
                watched=[{"type": "model", "name": models[1]}],
                domains=["repo"],
                secret="quiet",
            )
            head = push_scores(hub, models[1], run)
            after = wait_until(lambda: (found := board_sources(hub, f"{repo_id}-board")) != before and found)
            hub.api.delete_webhook(hook.id)
        finally:
            receiver.terminate()
    assert [source["commit"] for source in after] == [before[0]["commit"], head]


def board_sources(hub: HubClient, space: str) -> list[dict[str, str]]:
    if "sources.json" not in hub.tree(space, "main", "space"):
        return []
    sources: list[dict[str, str]] = json.loads(hub.text(space, "main", "sources.json", "space"))
    return sources


def wait_until(said: Callable[[], Any]) -> Any:
    for _ in range(1200):
        if found := said():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")


def test_nobody_listens_without_a_secret(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEBHOOK_SECRET", raising=False)
    assert main(["leaderboard-space", "--repo", "org/board", "--author", "org", "--listen", "7870"]) == 2
    assert "WEBHOOK_SECRET" in capsys.readouterr().err


def payload(name: str, *, kind: str = "model", scope: str = "repo.content") -> dict[str, object]:
    """What the Hub sends, version 3."""
    return {
        "event": {"action": "update", "scope": scope},
        "repo": {
            "type": kind,
            "name": name,
            "id": "1",
            "private": False,
            "headSha": "0" * 40,
            "url": {"web": "http://hub/x", "api": "http://hub/api/x"},
            "owner": {"id": "2"},
        },
        "webhook": {"id": "3", "version": 3},
    }


def test_a_gated_model_is_left_out_and_the_others_are_shown(
    hub_with_owner: tuple[RunningHub, str],
    hub: HubClient,
    repo_id: str,
    models: list[str],
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    running, _ = hub_with_owner
    other = HubClient.connect(running.endpoint, running.store.create_user("gatekeeper"))
    push_scores(other, "gatekeeper/shut", run)
    other.api.update_repo_settings("gatekeeper/shut", gated="manual")
    monkeypatch.setattr(HubClient, "models_of", lambda *_, **__: ["gatekeeper/shut", *models])
    words = ["leaderboard-space", "--repo", f"{repo_id}-board", "--dry-run", "--json"]
    assert main([*words, "--author", OWNER]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [source["repo_id"] for source in answer["sources"]] == models
    assert "let in whom they choose" in answer["left_out"]["gatekeeper/shut"]
    assert main([*words, "--models", "gatekeeper/shut"]) == 5, "where it is asked for, it is an error"


def test_a_board_whose_last_model_became_private_shows_it_no_more(
    hub: HubClient, repo_id: str, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, board = f"{repo_id}-only", f"{repo_id}-board"
    push_scores(hub, name, run)
    shown = [name]
    monkeypatch.setattr(HubClient, "models_of", lambda *_, **__: shown)
    words = ["leaderboard-space", "--repo", board, "--author", OWNER]
    assert main(words) == 0
    assert name in Path(hub.api.hf_hub_download(board, "index.html", repo_type="space")).read_text()
    shown.clear()
    assert main(words) == 0
    folder = Path(hub.api.snapshot_download(board, repo_type="space"))
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert files - {".gitattributes"} == {"README.md", "index.html", "sources.json"}
    assert not any(name in (folder / file).read_text() for file in files)
    assert main(["leaderboard-space", "--repo", f"{board}-new", "--author", OWNER]) == 2, "no board is begun empty"


def test_a_space_of_something_else_is_not_replaced(
    hub: HubClient, repo_id: str, models: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["leaderboard-space", "--models", *models, "--repo", f"{repo_id}-mine"]
    hub.api.create_repo(f"{repo_id}-mine", repo_type="space", space_sdk="static")
    hub.api.upload_file(
        repo_id=f"{repo_id}-mine", repo_type="space", path_in_repo="index.html", path_or_fileobj=b"my page"
    )
    assert main(words) == 2
    assert "this Space holds something else" in capsys.readouterr().err
    assert hub.text(f"{repo_id}-mine", "main", "index.html", "space") == "my page"
    hub.api.create_repo(f"{repo_id}-empty", repo_type="space", space_sdk="static")
    assert main([*words[:-1], f"{repo_id}-empty"]) == 0
    assert main([*words[:-2], models[0], *words[-2:-1], f"{repo_id}-empty"]) == 0
