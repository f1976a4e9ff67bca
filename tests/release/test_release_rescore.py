"""`release verify --rescore` computes figures again from nothing but the id; a doctored scorecard is exit 4."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from unittest.mock import patch

import pytest
from tiny_model import save_model

from evals.run import Request as Evaluation
from evals.run import evaluate
from evals.scorecard import Scorecard
from evals.statistics import estimate
from release.__main__ import main
from release.hub_client import HubClient
from release.plan import make_plan
from release.publish import publish
from release.request import Request

POLICY = """
description: Nothing but finite weights, so that a doctored scorecard comes through.
gates: [weights_finite]
run_record: optional
scorecard: {required: false}
no_regression: {baseline: optional, groups: []}
"""
SUITE = """
description: One task of the starter suite.
tasks:
  - task: starter_truthfulness
    group: truthfulness
    headline: [mc1, mc2]
    stratum: category
"""


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a tiny model that was really scored. Copy it before changing it."""
    run = tmp_path_factory.mktemp("scored") / "run"
    save_model(run / "checkpoint", context=2048)
    evaluate(
        Evaluation(source=str(run / "checkpoint"), suite="starter", out=run, limit=4, dtype="float32", device="cpu")
    )
    return run


def release(run: Path, hub: HubClient, repo_id: str) -> str:
    policy = run.parent / "policy.yaml"
    policy.write_text(POLICY)
    # As a publisher does whose Slipway lets such a policy through: ours refuses it.
    with patch("release.plan.require_never_waived"), patch("release.asked_again.require_never_waived"):
        make_plan(run, Request(repo_id, policy=str(policy)))
        publish(run, hub)
    return f"{repo_id}@v1.0.0"


def test_an_honest_scorecard_holds_and_each_figure_says_how(
    scored: Path, tmp_path: Path, hub: HubClient, repo_id: str, load_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    target = release(Path(shutil.copytree(scored, tmp_path / "run")), hub, repo_id)
    assert main(["verify", target, "--rescore", "2", "--seed", "5"]) == 0
    out = capsys.readouterr()
    assert "starter_truthfulness/mc1" in out.out
    assert "starter_truthfulness: 2 of 4 items, 2 of 2 figures re-scored" in out.out
    assert "holds (2 items): log-likelihoods within 0.01 nats" in out.out
    assert "drawn by --seed 5" in out.err


def test_more_items_than_there_are_is_all_of_them_and_is_said_so(
    scored: Path, tmp_path: Path, hub: HubClient, repo_id: str, load_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    target = release(Path(shutil.copytree(scored, tmp_path / "run")), hub, repo_id)
    assert main(["verify", target, "--rescore", "900"]) == 0
    assert "starter_truthfulness: 4 of 4 items, 2 of 2 figures re-scored" in capsys.readouterr().out


def test_figures_of_a_suite_of_ones_own_are_computed_again_with_its_file_and_with_no_other(
    scored: Path, tmp_path: Path, hub: HubClient, repo_id: str, load_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run, suite = tmp_path / "run", tmp_path / "mine.yaml"
    shutil.copytree(scored / "checkpoint", run / "checkpoint")
    suite.write_text(SUITE)
    evaluate(Evaluation(source=str(run / "checkpoint"), suite=str(suite), out=run, limit=4, dtype="float32"))
    target = release(run, hub, repo_id)
    assert main(["verify", target, "--rescore", "2"]) == 2, "nothing was computed"
    said = capsys.readouterr().err
    assert "not one of 2 figures could be re-scored here; all else is as released" in said
    assert (
        "starter_truthfulness/mc1: its suite mine is none of those installed here; --suite FILE takes another" in said
    )
    assert "next:     give --suite FILE" in said
    assert main(["verify", target, "--rescore", "2", "--suite", str(suite)]) == 0
    assert "holds (2 items): log-likelihoods within 0.01 nats" in capsys.readouterr().out
    assert main(["verify", target, "--suite", str(suite)]) == 2
    assert "--suite is what --rescore reads" in capsys.readouterr().err
    suite.write_text(SUITE + "# changed\n")
    assert main(["verify", target, "--rescore", "2", "--suite", str(suite)]) == 2
    assert "this is not the suite of the scorecard" in capsys.readouterr().err


def test_a_doctored_scorecard_is_exit_4_with_the_task_and_its_items(
    scored: Path, tmp_path: Path, hub: HubClient, repo_id: str, load_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(scored, tmp_path / "run"))
    import hashlib

    card, file = json.loads((run / "scorecard.json").read_text()), run / "samples" / "starter_truthfulness.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["values"] = {"mc1": 1.0, "mc2": 1.0}
        line["detail"]["log_likelihoods"] = [-1.0] + [-90.0] * (len(line["detail"]["log_likelihoods"]) - 1)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    card["samples"]["starter_truthfulness"] = hashlib.sha256(file.read_bytes()).hexdigest()
    for score in card["scores"]:
        if score["task"] == "starter_truthfulness":
            made = estimate([1.0] * len(lines), seed=0)
            score |= {"value": 1.0, "stderr": 0.0, "interval": made.interval.model_dump()}
    (run / "scorecard.json").write_bytes(Scorecard.model_validate(card).to_json())
    target = release(run, hub, repo_id)
    assert main(["verify", target]) == 0, "its figures are those of its samples, which were made up"
    assert main(["verify", target, "--rescore", "2", "--json"]) == 4
    said = json.loads(capsys.readouterr().out.splitlines()[-1])["error"]["what"]
    assert "rescore starter_truthfulness/mc1: expected 1, as the scorecard says, found does not hold (2 items)" in said
    assert any(f"item {line['item']}: log-likelihood of choice" in said for line in lines)


def test_a_release_without_scores_cannot_be_re_scored_and_says_so(
    scored: Path, tmp_path: Path, hub: HubClient, repo_id: str, load_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(scored / "checkpoint", run / "checkpoint")
    assert main(["verify", release(run, hub, repo_id), "--rescore", "2"]) == 2
    assert "no scorecard.json" in capsys.readouterr().err
    assert main(["verify", f"{repo_id}@v1.0.0", "--rescore", "0"]) == 2
