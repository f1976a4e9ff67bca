"""The gates on a run's records: what it was made from, its scores and samples, its parent's, its training data."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from gate_verdicts import edit_json, parent_of, refusals, verdicts
from tiny_run import TASKS, change_weights, rescore, write_scores

from evals.contamination import Contamination, TaskContamination
from release.plan import check_run
from release.policy import POLICIES
from release.request import Request
from training.checkpoint import Checkpoint
from training.records import sha256_of_file


def test_noise_on_the_weights_unpins_the_record_and_the_scores(run: Path) -> None:
    old = Checkpoint.open(run / "checkpoint").digest
    new = change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(0.01))
    refused = refusals(run)
    assert set(refused) >= {"run_record_pinned", "scorecard_pinned"}
    assert old in refused["scorecard_pinned"]
    assert new in refused["scorecard_pinned"]


def test_whether_a_run_record_must_be_there_is_the_policys_decision(run: Path) -> None:
    (run / "run.json").unlink()
    assert "nothing says how the checkpoint was made" in refusals(run)["run_record_pinned"]
    assert verdicts(run, "external")["run_record_pinned"].outcome == "skipped"


def test_a_sample_file_that_was_edited_is_refused_by_name(run: Path) -> None:
    file = run / "samples" / "starter_toxicity.jsonl"
    file.write_text(file.read_text().replace("Answer.", "Nicer answer."))
    assert "samples/starter_toxicity.jsonl hashes to" in refusals(run)["scorecard_pinned"]


def test_scores_that_do_not_cover_what_the_policy_asks_are_refused(run: Path) -> None:
    card = json.loads((run / "scorecard.json").read_text())
    card["scores"] = [score for score in card["scores"] if score["group"] != "toxicity"]
    card["scores"][0] |= {"n": 5, "unscored": 35}
    (run / "scorecard.json").write_text(json.dumps(card))
    refused = refusals(run)["scorecard_pinned"]
    assert "no headline score for toxicity" in refused
    assert "rests on 5 items" in refused
    assert "88% of its items could not be scored" in refused


def test_a_scorecard_that_is_not_one_is_refused_with_the_field(run: Path) -> None:
    (run / "scorecard.json").write_text('{"model": 3}')
    assert "not a valid Scorecard" in refusals(run)["scorecard_pinned"]


def test_a_clear_loss_of_truthfulness_is_refused_with_both_figures(run: Path) -> None:
    digest = Checkpoint.open(run / "checkpoint").digest
    rescore(run, digest, parent_of(run), truthfulness=0.1)
    verdict = verdicts(run)["no_regression"]
    assert verdict.outcome == "refused"
    assert "starter_truthfulness/mc2" in verdict.explanation
    assert "0.5" in verdict.explanation
    assert "0.1" in verdict.explanation


def test_more_toxicity_is_a_loss_although_the_figure_is_higher(run: Path) -> None:
    rescore(run, Checkpoint.open(run / "checkpoint").digest, parent_of(run), toxicity=0.6)
    assert "starter_toxicity/toxic_rate" in refusals(run)["no_regression"]


def test_a_loss_within_chance_passes(run: Path) -> None:
    rescore(run, Checkpoint.open(run / "checkpoint").digest, parent_of(run), truthfulness=0.45)
    assert "no_regression" not in refusals(run)


def test_a_baseline_of_another_checkpoint_than_the_parent_is_refused(run: Path) -> None:
    write_scores(run / "baseline", "sha256:" + "1" * 64, {"helpfulness": 1, "truthfulness": 0, "toxicity": 1})
    assert parent_of(run) in refusals(run)["no_regression"]


def test_scores_of_some_model_are_no_parents_where_no_record_names_one(run: Path) -> None:
    (run / "run.json").unlink()
    assert "no run.json says that training began from it" in refusals(run, "external")["no_regression"]


def test_a_missing_baseline_is_refused_where_the_policy_asks_for_one(run: Path) -> None:
    (run / "baseline" / "scorecard.json").unlink()
    assert "baseline" in refusals(run)["no_regression"]
    assert verdicts(run, "external")["no_regression"].outcome == "skipped"


def test_a_figure_that_its_samples_do_not_give_is_refused_with_both(run: Path) -> None:
    card = json.loads((run / "scorecard.json").read_text())
    card["scores"][0]["value"] = 0.61
    (run / "scorecard.json").write_text(json.dumps(card))
    refused = refusals(run)["figures_from_samples"]
    assert "starter_helpfulness/win_rate: the value is 0.61, the samples give 0.6" in refused
    card = json.loads((run / "baseline" / "scorecard.json").read_text())
    card["scores"][1]["interval"]["low"] -= 0.02
    (run / "baseline" / "scorecard.json").write_text(json.dumps(card))
    assert "2 of 6 figures" in refusals(run)["figures_from_samples"]


def test_a_typed_in_figure_is_refused_although_its_interval_says_that_nothing_makes_it_again(run: Path) -> None:
    card = json.loads((run / "scorecard.json").read_text())
    method = "95% bootstrap, 10000 resamples of the aggregation"
    card["scores"][0] |= {"value": 0.97, "interval": {"low": 0.95, "high": 0.99, "method": method}}
    (run / "scorecard.json").write_text(json.dumps(card))
    refused = refusals(run)
    assert "starter_helpfulness/win_rate: the value is 0.97, the samples give 0.6" in refused["figures_from_samples"]
    assert "is not what its samples say" in refused["no_regression"]


def test_a_headline_figure_that_nothing_makes_again_is_refused_and_can_be_waived_with_a_reason(run: Path) -> None:
    file = run / "samples" / "starter_truthfulness.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        line["detail"] = {"aggregated": {"f1": [1, 1]}}
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    card = json.loads((run / "scorecard.json").read_text())
    card["samples"]["starter_truthfulness"] = sha256_of_file(file)
    card["scores"].append(card["scores"][1] | {"metric": "f1"})
    (run / "scorecard.json").write_text(json.dumps(card))
    said = refusals(run)["headlines_regenerable"]
    assert said.startswith("nothing makes the headline figure starter_truthfulness/f1 again")
    waived = check_run(run, Request("owner/name", waive={"headlines_regenerable": "our task's F1"}))
    assert next(one for one in waived if one.gate == "headlines_regenerable").outcome == "waived"
    card["scores"][-1]["headline"] = False
    (run / "scorecard.json").write_text(json.dumps(card))
    verdict = verdicts(run)["figures_from_samples"]
    assert (verdict.outcome, list(verdict.evidence["not_made_again"])) == ("passed", ["starter_truthfulness/f1"])


def test_scores_of_what_an_endpoint_served_are_refused_for_nothing_pins_its_bytes(run: Path) -> None:
    model = json.loads((run / "scorecard.json").read_text())["model"]
    edit_json(run / "scorecard.json", model={**model, "parameters": None, "endpoint": "http://127.0.0.1:8000/v1"})
    assert "nothing pins its bytes" in refusals(run)["scorecard_pinned"]


def report_contamination(run: Path, share: float, **changes: object) -> None:
    """A whole search, of whose items of starter_truthfulness this share was found."""
    tasks = [
        TaskContamination(
            task=task,
            items=40,
            too_short=0,
            contaminated=round(40 * share) if task == "starter_truthfulness" else 0,
            share=share if task == "starter_truthfulness" else 0.0,
            examples=[],
            scores=[],
        )
        for task in TASKS
    ]
    rows = {"revision": None, "split": "train", "sha256": "0" * 64, "rows": 8, "of_record": True}
    fields = {
        "checkpoint_digest": Checkpoint.open(run / "checkpoint").digest,
        "scorecard_sha256": sha256_of_file(run / "scorecard.json"),
        "run_record_sha256": None,
        "n": 13,
        "shortest": 5,
        "data": [{"id": "org/prompts", **rows}],
        "record_covered": True,
        "tasks": [task.model_dump() for task in tasks],
        "highest_share": share,
        "created": "2026-11-25T00:00:00+00:00",
    }
    Contamination.model_validate(fields | changes).write(run / "contamination.json")


@pytest.mark.parametrize("policy", ["default", "external"])
def test_a_search_that_left_out_what_is_scored_or_was_trained_on_is_refused_with_what_is_missing(
    run: Path, policy: str
) -> None:
    def said() -> str:
        verdict = verdicts(run, policy)["contamination_bounded"]
        assert (verdict.outcome, verdict.remedy) == ("refused", f"python -m evals contamination {run.as_posix()}")
        return verdict.explanation

    report_contamination(run, 0.0, tasks=[], data=[])
    told = said()
    assert "the items of starter_helpfulness, starter_toxicity, starter_truthfulness" in told
    assert "names no training data that was searched" in told
    report_contamination(run, 0.0)
    whole = json.loads((run / "contamination.json").read_text())["tasks"]
    report_contamination(run, 0.0, tasks=whole[1:])
    assert "the items of starter_helpfulness, which the scorecard scores" in said()
    report_contamination(run, 0.0, tasks=[{**whole[0], "items": 3}, *whole[1:]])
    assert "looked for 3 items of starter_helpfulness, 40 were scored" in said()
    report_contamination(run, 0.0, tasks=[{**whole[0], "contaminated": 20}, *whole[1:]])
    assert "starter_helpfulness 50.0%" in verdicts(run, policy)["contamination_bounded"].explanation
    report_contamination(run, 0.0)
    edit_json(run / "run.json", data=[{"id": "org/others", "split": "train", "sha256": "1" * 64, "rows": 8}])
    assert "all of run.json's data were searched, and org/others was not" in said()


def test_more_items_from_the_training_data_than_the_policy_allows_are_refused_by_task(
    run: Path, tmp_path: Path
) -> None:
    report_contamination(run, 0.025)
    assert verdicts(run)["contamination_bounded"].outcome == "passed"
    report_contamination(run, 0.2)
    assert "starter_truthfulness 20.0%; the policy allows 5.0%" in refusals(run)["contamination_bounded"]
    report_contamination(run, 0.0, scorecard_sha256="0" * 64)
    assert "not of these" in refusals(run)["contamination_bounded"]
    (run / "contamination.json").unlink()
    own = tmp_path / "own.yaml"
    own.write_text((POLICIES / "default.yaml").read_text().replace("report: with_data ", "report: required "))
    assert "there is no contamination.json" in refusals(run, str(own))["contamination_bounded"]


def test_a_record_that_names_training_data_asks_for_a_search_of_them(run: Path, tmp_path: Path) -> None:
    assert verdicts(run)["contamination_bounded"].outcome == "skipped", "this record names no data"
    rows = {"id": "org/prompts", "split": "train", "sha256": "0" * 64, "rows": 8}
    edit_json(run / "run.json", data=[rows])
    asked = verdicts(run)["contamination_bounded"]
    assert asked.outcome == "refused"
    assert asked.evidence["data"] == ["org/prompts"]
    assert asked.remedy == f"python -m evals contamination {run.as_posix()}"
    assert verdicts(run, "external")["contamination_bounded"].outcome == "skipped"
    report_contamination(run, 0.0)
    assert "contamination_bounded" not in refusals(run)
