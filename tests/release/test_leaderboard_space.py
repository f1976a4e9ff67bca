"""A static Space from the scorecards in a Hub's repositories: the page of `evals leaderboard`, pinned, and made once."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_run import OWNER

from evals.leaderboard import write
from evals.saved import SavedRun
from release.__main__ import main
from release.hub_client import HubClient
from release.hub_files import LocalFile


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
    assert main(["leaderboard-space", "--repo", f"{repo_id}-board", "--models", *models]) == 0
    board = Path(hub.api.snapshot_download(f"{repo_id}-board", repo_type="space"))
    write([run, run / "baseline"], tmp_path / "ours")
    for name in ("index.html", "leaderboard.json", "leaderboard.csv"):
        assert (board / name).read_bytes() == (tmp_path / "ours" / name).read_bytes()
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
    monkeypatch.setattr(HubClient, "models_of", lambda _hub, author: found if author == OWNER else [])
    assert main(["leaderboard-space", "--repo", f"{repo_id}-board", "--author", OWNER, "--dry-run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [source["repo_id"] for source in answer["sources"]] == models
    assert hub.repository(f"{repo_id}-board", "space") is None


def test_the_models_of_an_owner_are_those_that_the_hub_lists(hub: HubClient, repo_id: str, models: list[str]) -> None:
    assert set(models) <= set(hub.models_of(OWNER))


def test_samples_that_are_not_those_that_were_scored_are_not_shown(
    hub: HubClient, repo_id: str, run: Path, tmp_path: Path
) -> None:
    changed = Path(shutil.copytree(run, tmp_path / "changed"))
    sample = next((changed / "samples").glob("*.jsonl"))
    sample.write_bytes(sample.read_bytes().replace(b"1", b"0", 1))
    push_scores(hub, f"{repo_id}-changed", changed)
    assert main(["leaderboard-space", "--repo", f"{repo_id}-board", "--models", f"{repo_id}-changed"]) == 2
