"""Models beside a release go out with their samples, are asked about by the gates, and are verified with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_run import make_checkpoint, write_scores

from evals.beside import put_beside
from release.__main__ import main
from release.hub_client import HubClient
from release.plan import make_plan
from release.publish import publish
from release.request import Request


@pytest.fixture
def run_beside(run: Path, tmp_path: Path) -> Path:
    """The run, with another model beside it."""
    other = tmp_path / "another"
    digest = make_checkpoint(other / "checkpoint", seed=5).digest
    write_scores(other, digest, {"helpfulness": 0.1, "truthfulness": 0.5, "toxicity": 0.1})
    put_beside(run, [other])
    return run


@pytest.mark.usefixtures("load_here")
def test_a_release_holds_the_scorecards_beside_it_and_a_stranger_checks_them(
    run_beside: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(run_beside, Request(repo_id))
    assert not plan.refused
    beside = [entry.path for entry in plan.files if entry.path.startswith("beside/")]
    assert len(beside) == 4, "a scorecard and three tasks' samples"
    figures = next(verdict for verdict in plan.verdicts if verdict.gate == "figures_from_samples")
    assert figures.evidence["figures"] == 9
    publish(run_beside, hub)
    assert "### Beside other models" in hub.text(repo_id, "v1.0.0", "README.md")
    assert main(["verify", f"{repo_id}@v1.0.0"]) == 0
    capsys.readouterr()


def test_a_figure_beside_that_its_samples_do_not_give_is_refused(run_beside: Path, repo_id: str) -> None:
    (file,) = (run_beside / "beside").glob("*/scorecard.json")
    file.write_text(file.read_text().replace('"value": 0.5', '"value": 0.9', 1))
    plan = make_plan(run_beside, Request(repo_id))
    refused = {verdict.gate: verdict.explanation for verdict in plan.verdicts if verdict.outcome == "refused"}
    assert "beside/" in refused["figures_from_samples"]
