"""A release is held against the last one of its repository, not only against its parent."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_run import change_weights, rescore

from release.__main__ import main
from release.hub_client import HubClient
from release.last_release import FOLDER, fetch, read
from release.plan import check_run
from release.records import Verdict
from release.request import Request
from training.errors import VerificationMismatch
from training.run_record import RunRecord

GATE = "no_regression_since_release"


def retrained(run: Path, place: Path, **shares: float) -> Path:
    """Another run from the same parent, with other weights and these scores."""
    other = Path(shutil.copytree(run, place))
    parent = RunRecord.read(other / "run.json").parent("base")
    assert parent is not None
    by = shares.get("helpfulness", 0.1)
    digest = change_weights(other / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(by))
    rescore(other, digest, parent.digest, **shares)
    return other


def verdict_of(run: Path, repo_id: str) -> Verdict:
    return next(verdict for verdict in check_run(run, Request(repo_id)) if verdict.gate == GATE)


@pytest.mark.usefixtures("load_here")
def test_what_is_better_than_its_parent_and_worse_than_the_last_release_is_refused_with_exit_3(
    run: Path, tmp_path: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = retrained(run, tmp_path / "worse")  # 0.6 of helpfulness, the parent has 0.5
    better = retrained(run, tmp_path / "better", helpfulness=0.95)
    assert main(["publish", "--run", str(better), "--repo", repo_id]) == 0
    released = hub.resolve(repo_id, "main")

    assert main(["publish", "--run", str(worse), "--repo", repo_id, "--tag", "v2.0.0"]) == 3
    said = capsys.readouterr().err
    assert f"{GATE}: worse than the last release, v1.0.0: starter_helpfulness/win_rate went from 0.950 to 0.600" in said
    assert hub.resolve(repo_id, "main") == released

    verdict = verdict_of(worse, repo_id)
    assert verdict.remedy is not None
    assert verdict.evidence["tag"] == "v1.0.0"
    assert {row["figure"] for row in verdict.evidence["compared"]} == {
        "starter_helpfulness/win_rate",
        "starter_truthfulness/mc2",
        "starter_toxicity/toxic_rate",
    }
    assert main(["publish", "--run", str(worse), "--repo", repo_id, "--tag", "v2.0.0", "--waive", f"{GATE}=safer"]) == 0


@pytest.mark.usefixtures("load_here")
def test_a_plan_that_nobody_held_against_the_last_release_is_made_anew_when_it_is_published(
    run: Path, tmp_path: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    worse = retrained(run, tmp_path / "worse")
    better = retrained(run, tmp_path / "better", helpfulness=0.95)
    assert main(["publish", "--run", str(better), "--repo", repo_id]) == 0
    words = ["--run", str(worse), "--repo", repo_id, "--tag", "v2.0.0"]
    assert main(["plan", *words]) == 0, "a plan makes no connection"
    assert main(["publish", *words]) == 3
    assert f"{GATE}: worse than the last release, v1.0.0" in capsys.readouterr().err
    parent = RunRecord.read(better / "run.json").parent("base")
    assert parent is not None
    digest = change_weights(better / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(0.2))
    rescore(better, digest, parent.digest)  # from the run that released v1.0.0
    assert main(["publish", "--run", str(better), "--repo", repo_id, "--tag", "v2.0.0"]) == 3
    assert f"{GATE}: worse than the last release, v1.0.0" in capsys.readouterr().err


def test_without_an_earlier_release_the_gate_passes_and_a_policy_may_ask_that_somebody_looked(
    run: Path, tmp_path: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    strict = tmp_path / "strict.yaml"
    default = (Path(__file__).parents[2] / "release" / "policies" / "default.yaml").read_text()
    head, _, tail = default.partition("no_regression_since_release:  #")
    strict.write_text(f"{head}no_regression_since_release:  #{tail.replace('optional', 'required', 1)}")
    words = ["plan", "--run", str(run), "--repo", repo_id, "--policy", str(strict)]
    assert main(words) == 3
    assert f"python -m release last-release --run {run} --repo {repo_id}" in capsys.readouterr().err
    assert main(["last-release", "--run", str(run), "--repo", repo_id]) == 0
    assert main(words) == 0
    assert read(run, "slipway/another") is None
    assert verdict_of(run, repo_id).explanation == f"{repo_id} has no release yet"


@pytest.mark.usefixtures("load_here")
def test_scores_of_the_last_release_that_came_back_changed_are_not_compared_with(
    run: Path, tmp_path: Path, hub: HubClient, repo_id: str
) -> None:
    first = retrained(run, tmp_path / "first")
    assert main(["publish", "--run", str(first), "--repo", repo_id]) == 0
    hub.api.upload_file(path_or_fileobj=b"{}", path_in_repo="scorecard.json", repo_id=repo_id)
    with pytest.raises(VerificationMismatch, match=r"scorecard\.json of the last release"):
        fetch(hub, repo_id, run)
    assert not (run / FOLDER).exists()


@pytest.mark.usefixtures("load_here")
def test_a_plan_that_another_machine_has_published_is_not_made_anew(
    run: Path, tmp_path: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--repo", repo_id, "--tag", "v1.0.0"]
    assert main(["plan", "--run", str(run), *words]) == 0
    other = Path(shutil.copytree(run, tmp_path / "other"))
    planned = (other / "plan.json").read_bytes()
    assert main(["publish", "--run", str(run), *words]) == 0
    assert main(["publish", "--run", str(other), *words]) == 0
    assert (other / "plan.json").read_bytes() == planned
    assert "planning anew" not in capsys.readouterr().err
