"""A run that has begun or ended a publication is not planned over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.__main__ import main
from release.hub_client import HubClient
from release.plan import make_plan
from release.publish import Publication, publish
from release.request import Request
from training.errors import UsageError


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def _die(*_: object) -> None:
    raise Killed


@pytest.fixture
def begun(run: Path, hub: HubClient, repo_id: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose publication as `repo_id` v1 was killed after it had staged."""
    make_plan(run, Request(repo_id, tag="v1"))
    with monkeypatch.context() as patch:
        patch.setattr(Publication, "_check", _die)
        with pytest.raises(Killed):
            publish(run, hub)
    return run


def test_another_request_does_not_orphan_a_publication_that_was_begun(
    begun: Path, hub: HubClient, repo_id: str, load_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = (begun / "plan.json").read_bytes()
    other = ["--run", str(begun), "--repo", f"{repo_id}-other", "--tag", "v1"]
    for words in (
        ["publish", *other],
        ["plan", *other],
        ["publish", "--run", str(begun), "--repo", repo_id, "--space"],
    ):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert "was begun and has not ended" in said
        assert f"release resume --run {begun}" in said
        assert f"release rollback --run {begun}" in said
    assert (begun / "plan.json").read_bytes() == plan
    assert main(["resume", "--run", str(begun)]) == 0
    assert main(["publish", *other]) == 0
    for released in (repo_id, f"{repo_id}-other"):
        repository = hub.repository(released)
        assert repository is not None
        assert set(repository.branches) == {"main"}
        assert not repository.private


def test_one_that_was_rolled_back_before_its_release_gives_way_to_another(
    begun: Path, hub: HubClient, repo_id: str, load_here: None
) -> None:
    assert main(["rollback", "--run", str(begun)]) == 0
    assert main(["publish", "--run", str(begun), "--repo", f"{repo_id}-other", "--tag", "v1"]) == 0
    assert main(["publish", "--run", str(begun), "--repo", repo_id, "--tag", "v1"]) == 0, "and may be published later"
    repository = hub.repository(repo_id)
    assert repository is not None
    assert set(repository.branches) == {"main"}


def test_changed_files_may_be_planned_again_for_the_same_place(begun: Path, hub: HubClient, repo_id: str) -> None:
    (begun / "checkpoint" / "notes.txt").write_text("what the first plan did not have\n")
    again = make_plan(begun, Request(repo_id, tag="v1"))
    assert "notes.txt" in {entry.path for entry in again.files}
    with pytest.raises(UsageError, match="was begun and has not ended"):
        make_plan(begun, Request(f"{repo_id}-other", tag="v1"))


def test_an_earlier_release_of_the_run_is_neither_planned_over_nor_its_bundle_changed(
    run: Path, hub: HubClient, repo_id: str, load_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    for tag in ("v1.0.0", "v1.0.1"):
        assert main(["publish", "--run", str(run), "--repo", repo_id, "--tag", tag]) == 0
    kept = (run / "bundle" / "plan.json").read_bytes()
    capsys.readouterr()
    for words in (["--tag", "v1.0.0"], ["--tag", "v1.0.1", "--space"]):
        assert main(["publish", "--run", str(run), "--repo", repo_id, *words]) == 2
        said = capsys.readouterr().err
        assert f"{repo_id} {words[1]} was released from this run already" in said
        assert "choose a new --tag" in said
    assert (run / "bundle" / "plan.json").read_bytes() == (run / "plan.json").read_bytes() == kept
    assert main(["publish", "--run", str(run), "--repo", repo_id, "--tag", "v1.0.1"]) == 0
    assert "already released" in capsys.readouterr().out
