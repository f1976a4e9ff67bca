"""Who may read a release: a gate is not lost unsaid, and nobody loses what they read before all is checked."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from releases import is_visible, release
from tiny_run import change_weights, rescore

from release.__main__ import main
from release.carried import Carried
from release.hub_client import HubClient
from release.plan import make_plan
from release.planned_release import PlannedRelease
from release.publish import publish
from release.readers import require_choice, warning
from release.request import Request
from training.errors import HubError, UsageError
from training.run_record import RunRecord


def answers(hub: HubClient, repo_id: str) -> bool:
    """Whether a reader without a token gets a file's bytes."""
    try:
        with urllib.request.urlopen(f"{hub.endpoint}/{repo_id}/resolve/main/config.json"):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return False


@pytest.mark.usefixtures("load_here")
def test_a_private_release_takes_nothing_from_readers_before_it_is_checked_and_rollback_gives_it_back(
    run: Path, hub: HubClient, repo_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    release(run, hub, repo_id, "v1", space=False)
    parent = RunRecord.read(run / "run.json").parents[0].digest
    rescore(run, change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(1)), parent)
    make_plan(run, Request(repo_id, tag="v2", private=True, gated="manual"))
    seen = []

    def broken(planned: PlannedRelease, branch: str, *_: Any) -> str:
        seen.append((branch, answers(hub, repo_id)))
        if branch == "main":
            raise HubError("the Hub was switched off", where=hub.endpoint)
        return whole(planned, branch, *_)

    with monkeypatch.context() as patch:
        whole = PlannedRelease.commit
        patch.setattr(PlannedRelease, "commit", broken)
        with pytest.raises(HubError, match="switched off"):
            publish(run, hub)
    assert seen == [("release-staging-v2", True), ("main", False)]
    assert main(["rollback", "--run", str(run)]) == 0
    assert "main is as it was, and public" in capsys.readouterr().out
    assert answers(hub, repo_id)
    publish(run, hub)
    repository = hub.repository(repo_id)
    assert repository is not None
    assert (repository.private, repository.gated) == (True, "manual")
    assert main(["publish", "--run", str(run), "--repo", repo_id, "--tag", "v2", "--gated", "manual"]) == 2
    assert f"hf repos settings {repo_id} --public" in capsys.readouterr().err


@pytest.mark.usefixtures("load_here")
def test_what_was_released_as_private_is_shown_by_no_rollback_and_no_later_release(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    release(run, hub, repo_id, "v1", space=False)
    parent = RunRecord.read(run / "run.json").parents[0].digest
    rescore(run, change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(1)), parent)
    make_plan(run, Request(repo_id, tag="v2", private=True))
    publish(run, hub)
    for words in (["--run", str(run)], ["--repo", repo_id, "--to", "v1"]):
        assert main(["rollback", *words]) == 0
        assert "it stays private, for v2 was released so" in capsys.readouterr().out
        assert not answers(hub, repo_id)
    assert main(["publish", "--run", str(run), "--repo", repo_id, "--tag", "v3"]) == 2
    assert "v2, released as private" in capsys.readouterr().err
    assert not answers(hub, repo_id)


@pytest.mark.usefixtures("load_here")
def test_a_copy_of_a_gated_repository_says_who_may_read_it(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = repo_id[:40].rstrip("-") + "-source"
    hub.api.create_repo(source)
    hub.set_gated(source, "manual")
    record = RunRecord.read(run / "run.json")
    copied = record.parents[0].model_copy(update={"hub_id": source, "digest": record.checkpoint_digest})
    record.model_copy(update={"method": "base", "parents": [copied]}).write(run / "run.json")
    words = ["publish", "--run", str(run), "--repo", repo_id, "--policy", "external"]
    assert main(words) == 2
    assert f"{source} is gated: its authors choose who may read" in capsys.readouterr().err
    assert hub.repository(repo_id) is None
    Carried(files={}, left_out={}, gated="auto").write(run / "carried.json")
    with pytest.raises(UsageError, match="is gated"):  # without a network, by what was noted when it was copied
        require_choice(run, Request(repo_id), None)
    (run / "baseline" / "scorecard.json").unlink()
    assert main([*words, "--gated", "auto"]) == 0
    assert is_visible(hub, f"models/{repo_id}")
    assert not answers(hub, repo_id)


def test_a_card_with_words_for_a_gate_that_is_not_asked_for_is_warned_of(run: Path, tmp_path: Path) -> None:
    plan, card = make_plan(run, Request("me/mine")), tmp_path / "README.md"
    card.write_text("---\nextra_gated_prompt: Agree to the licence\n---\n")
    assert "anyone can read this release" in str(warning(plan, card))
    assert warning(plan.model_copy(update={"gated": "no"}), card) is None
    assert b"gated" not in plan.to_json(), "plans from before keep their digests"
