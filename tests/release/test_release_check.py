"""Waivers of a gate's refusal, and `release check` on a run, on anyone's checkpoint, on a release."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from release.__main__ import main
from release.hub_client import HubClient
from release.plan import make_plan, plan_for
from release.policy import POLICIES
from release.publish import publish
from release.records import ReleasePlan
from release.request import Request
from training.errors import UsageError


def waive(run: Path, **reasons: str) -> ReleasePlan:
    return make_plan(run, Request("owner/name", waive=reasons))


def test_a_waiver_accepts_a_refusal_and_its_reason_stands_in_the_plan_and_on_the_card(run: Path) -> None:
    (run / "checkpoint" / "notes.txt").write_text("write to jane.doe@hospital.org\n")
    assert [verdict.gate for verdict in waive(run).refused] == ["no_personal_data"]
    reason = "Jane's public address, as she wishes"
    plan = waive(run, no_personal_data=reason)
    assert plan.refused == []
    verdict = next(verdict for verdict in plan.verdicts if verdict.gate == "no_personal_data")
    assert verdict.outcome == "waived"
    assert "as she wishes (it said: 1 piece of personal data" in verdict.explanation
    assert plan.waivers == {"no_personal_data": reason}
    assert f"- `no_personal_data`: {reason}" in (run / "bundle" / "README.md").read_text()
    assert plan_for(run, Request("owner/name", waive={"no_personal_data": reason})) == plan
    assert plan_for(run, Request("owner/name")).refused, "the next one is not waived by the one before"


def test_a_waiver_in_the_policy_counts_as_one_on_the_command_line(run: Path, tmp_path: Path) -> None:
    (run / "checkpoint" / "notes.txt").write_text("write to jane.doe@hospital.org\n")
    own = tmp_path / "own.yaml"
    default = (POLICIES / "default.yaml").read_text()
    own.write_text(default.replace("waive: {}", "waive: {no_personal_data: a public address}"))
    assert make_plan(run, Request("owner/name", policy=str(own))).refused == []
    assert "a public address" in (run / "bundle" / "README.md").read_text()


@pytest.mark.parametrize(
    ("gate", "reason", "said"),
    [
        ("no_secrets", "", "has no reason"),
        ("scorecard_pinned", "in a hurry", "is never waived"),
        ("no_such_gate", "why not", "is not asked"),
        ("no_secrets", "there is one", "does not refuse"),
    ],
)
def test_a_waiver_that_says_nothing_or_too_much_is_a_usage_error(run: Path, gate: str, reason: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        waive(run, **{gate: reason})


def test_a_waiver_on_the_command_line_needs_a_reason(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--run", str(run), "--waive", "no_secrets"]) == 2
    assert "--waive GATE=REASON" in capsys.readouterr().err


def test_anyones_checkpoint_is_checked_as_it_lies_with_its_own_card(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run / "checkpoint"
    (checkpoint / "README.md").write_text("---\nlicense: mit\npipeline_tag: text-generation\n---\n# Somebody's model\n")
    (checkpoint / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    before = sorted(checkpoint.rglob("*"))
    assert main(["check", str(checkpoint), "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert "sent to the Hub" not in result["error"]["what"]
    said = {verdict["gate"]: verdict for verdict in result["verdicts"]}
    assert said["weights_safetensors_only"]["evidence"]["pickled"] == ["pytorch_model.bin"]
    assert said["loads_clean"]["outcome"] == "passed"
    assert said["license_present"]["explanation"] == "license: mit"
    assert said["run_record_pinned"]["outcome"] == said["no_regression"]["outcome"] == "skipped"
    assert said["card_complete"]["outcome"] == "passed", "others write no section on how to verify, or on scores"
    assert "noted: no section such as" in said["card_complete"]["explanation"]
    assert {problem["check"] for problem in said["card_complete"]["evidence"]["noted"]} == {"sections", "digest"}
    assert sorted(checkpoint.rglob("*")) == before
    (checkpoint / "README.md").write_text("---\nlicense: mit\n---\n# Trained in /home/jane/models/one\n")
    assert main(["check", str(checkpoint), "--json"]) == 3
    said = {verdict["gate"]: verdict for verdict in json.loads(capsys.readouterr().out)["verdicts"]}
    assert said["card_complete"]["outcome"] == "refused"
    assert "a local path: /home/jane/models/one" in str(said["card_complete"]["evidence"]["problems"])
    assert main(["check"]) == 2


def test_a_release_on_a_hub_is_checked_by_its_id_with_its_own_records(
    run: Path, hub: HubClient, repo_id: str, load_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    make_plan(run, Request(repo_id))
    publish(run, hub)
    assert main(["check", f"{repo_id}@v1.0.0", "--policy", "default", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["verdicts"]
    assert {verdict["gate"] for verdict in said if verdict["outcome"] != "passed"} == {
        "contamination_bounded",
        "behaves_as_saved",
        "no_regression_since_release",
    }
