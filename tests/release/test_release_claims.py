"""The words of a release are held against its records: before it is sent, by the gates once more, and afterwards by anyone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from gate_verdicts import parent_of
from tiny_run import rescore

from model_cards.facts import read_facts
from model_cards.score_table import BEGIN
from release.bundle import PLAN
from release.claims import check_claims
from release.hub_client import HubClient
from release.hub_files import LocalFile
from release.plan import make_plan, plan_for
from release.publish import publish
from release.records import Finding, Receipt, ReleasePlan
from release.request import Request
from release.verify import verify
from training.checkpoint import Checkpoint, FileEntry
from training.errors import GateRefused, UsageError
from training.records import sha256_of_file
from training.run_record import RunRecord


def edit_bundle(run: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """A file of the bundle changed after the plan was made, and plan.json made to say so."""
    file = run / "bundle" / name
    content = change(file.read_bytes())
    file.unlink()  # a file of the run may be the same one
    file.write_bytes(content)
    plan = ReleasePlan.read(run / PLAN)
    entry = FileEntry(path=name, size=len(content), sha256=sha256_of_file(file))
    files = [entry if one.path == name else one for one in plan.files]
    write_plan(run, plan.model_copy(update={"files": files}))


def write_plan(run: Path, plan: ReleasePlan) -> None:
    plan.write(run / "bundle" / PLAN)
    plan.write(run / PLAN)


def better(card: bytes) -> bytes:
    head, begin, table = card.decode().partition(BEGIN)
    return (head + begin + table.replace("60.0%", "99.0%", 1)).encode()


@pytest.fixture
def planned(run: Path, hub: HubClient, repo_id: str) -> Path:
    make_plan(run, Request(repo_id))
    return run


def send_bundle(run: Path, hub: HubClient, repo_id: str) -> str:
    """The bundle on a repository's main, by none of our gates; the commit."""
    hub.create_repository(repo_id, private=False)
    files = {
        file.relative_to(run / "bundle").as_posix(): file for file in (run / "bundle").rglob("*") if file.is_file()
    }
    return hub.commit(
        repo_id,
        "main",
        parent=hub.head(repo_id, "main"),
        additions={name: LocalFile.of(file.read_bytes()) for name, file in files.items()},
        deletions=[],
        title="Ours",
        message="",
        landed=lambda _: False,
    )


def wrong(hub: HubClient, repo_id: str, revision: str = "main") -> list[Finding]:
    return verify(hub, repo_id, revision, None).mismatches


@pytest.mark.parametrize("name", ["README.md", "figures/scores.png"])
def test_what_was_edited_after_the_plan_is_not_published_although_the_plan_was_edited_too(
    planned: Path, hub: HubClient, repo_id: str, name: str
) -> None:
    edit_bundle(planned, name, better if name == "README.md" else lambda _: b"no picture")
    with pytest.raises(GateRefused, match="the plan is not what this run gives") as refused:
        publish(planned, hub)
    assert name in str(refused.value.expected)
    assert hub.repository(repo_id) is None


def test_a_verdict_that_was_edited_is_not_published(run: Path, hub: HubClient, repo_id: str) -> None:
    rescore(run, Checkpoint.open(run / "checkpoint").digest, parent_of(run), truthfulness=0.1)
    plan = make_plan(run, Request(repo_id))
    assert [verdict.gate for verdict in plan.refused] == ["no_regression"]
    verdicts = [verdict.model_copy(update={"outcome": "passed"}) for verdict in plan.verdicts]
    write_plan(run, plan.model_copy(update={"verdicts": verdicts}))
    with pytest.raises(GateRefused, match="the plan is not what this run gives") as refused:
        publish(run, hub)
    assert "no_regression: worse than the parent" in str(refused.value.found)
    write_plan(run, plan.model_copy(update={"verdicts": [one for one in plan.verdicts if one.outcome != "refused"]}))
    with pytest.raises(GateRefused, match="verdicts are not those of its policy's gates"):
        publish(run, hub)
    assert hub.repository(repo_id) is None


@pytest.mark.parametrize(
    ("was", "edited", "said"),
    [
        ("win_rate: 60.0%", "win_rate: 99.0%", "the words of the picture say 99.0"),
        ("value: 0.6\n", "value: 0.99\n", "win_rate is 0.99 in the metadata"),
    ],
)
def test_figures_beside_the_tables_are_held_against_the_records_too(
    run: Path, was: str, edited: str, said: str
) -> None:
    plan = make_plan(run, Request("owner/name"))
    assert [one for one in check_claims(run / "bundle", plan) if not one.ok] == []
    card = run / "bundle" / "README.md"
    text = card.read_text()
    assert was in text
    card.write_text(text.replace(was, edited))
    assert any(said in str(one.found) for one in check_claims(run / "bundle", plan) if not one.ok)


def test_an_edited_card_that_is_on_a_hub_is_found_by_its_figure(
    planned: Path, hub: HubClient, repo_id: str, load_here: None
) -> None:
    edit_bundle(planned, "README.md", better)
    send_bundle(planned, hub, repo_id)
    found = wrong(hub, repo_id)
    assert {finding.check for finding in found} == {"card"}
    assert any("the scorecards say" in str(finding.found) and "99.0%" in str(finding.found) for finding in found)


def test_a_typed_in_figure_that_is_on_a_hub_is_found(
    planned: Path, hub: HubClient, repo_id: str, load_here: None
) -> None:
    def typed(content: bytes) -> bytes:
        card = json.loads(content)
        card["scores"][0]["value"] = 0.7
        return json.dumps(card).encode()

    edit_bundle(planned, "scorecard.json", typed)
    send_bundle(planned, hub, repo_id)
    found = {(finding.check, finding.subject): finding.found for finding in wrong(hub, repo_id)}
    assert "the value is 0.7, the samples give 0.6" in str(
        found["figures", "scorecard.json, starter_helpfulness/win_rate"]
    )


def test_another_release_under_a_tag_and_a_copy_in_another_repository_are_found(
    planned: Path, hub: HubClient, repo_id: str, load_here: None
) -> None:
    receipt = publish(planned, hub)[0]
    hub.create_tag(repo_id, "v2.0.0", receipt.commit, "")
    assert [finding.subject for finding in wrong(hub, repo_id, "v1.0.0")] == []
    assert [(one.check, one.expected, one.found) for one in wrong(hub, repo_id, "v2.0.0")] == [
        ("tag", "the release v2.0.0", "the release v1.0.0, by its plan.json")
    ]
    copy = f"{repo_id}-copy"
    send_bundle(planned, hub, copy)
    assert [(one.check, one.found) for one in wrong(hub, copy)] == [
        ("repository", f"one of {repo_id}, by its plan.json, of which these files are a copy")
    ]
    renamed = f"{repo_id}-renamed"
    hub.api.move_repo(repo_id, renamed)
    for name in (renamed, repo_id):
        assert wrong(hub, name, "v1.0.0") == []
    assert wrong(hub, renamed, Receipt.read(planned / "receipt.json").commit) == []


def test_the_course_of_training_is_pinned_by_the_record_and_goes_out_with_the_release(
    run: Path, hub: HubClient, repo_id: str, load_here: None
) -> None:
    course = "".join(json.dumps({"step": step, "reward_mean": step / 10}) + "\n" for step in range(10))
    (run / "metrics.jsonl").write_text(course)
    pinned = sha256_of_file(run / "metrics.jsonl")
    record = RunRecord.read(run / "run.json").model_copy(update={"metrics_sha256": pinned})
    record.write(run / "run.json")
    make_plan(run, Request(repo_id))
    publish(run, hub)
    assert {"metrics.jsonl", "figures/training.png"} <= set(hub.tree(repo_id, "v1.0.0"))
    assert wrong(hub, repo_id, "v1.0.0") == []
    (run / "metrics.jsonl").write_text(course.replace("0.9", "1900"))
    with pytest.raises(UsageError, match="not the course of training"):
        read_facts(run)
    plan = make_plan(run, Request(f"{repo_id}-other"))
    assert "card_complete" in {verdict.gate for verdict in plan.refused}


def test_a_healthy_release_says_what_its_card_figures_and_gates_are(
    planned: Path, hub: HubClient, repo_id: str, load_here: None
) -> None:
    assert plan_for(planned, Request(repo_id)) == ReleasePlan.read(planned / PLAN)
    publish(planned, hub)
    found = {finding.check: finding for finding in verify(hub, repo_id, "v1.0.0", None).findings}
    assert found["figures"].found == "3 made again from their samples"
    assert found["card"].ok
    assert found["gates"].subject.startswith("policy default (sha256:")
