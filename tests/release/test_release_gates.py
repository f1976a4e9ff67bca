"""Each gate lets the tiny run through, and refuses one thing that is wrong with it, with the number or name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_run import change_weights, rescore, write_scores

from evals.contamination import Contamination, TaskContamination
from release.__main__ import main
from release.hub_client import HubClient
from release.plan import Request, check_run, make_plan, plan_for
from release.policy import POLICIES
from release.publish import publish
from release.records import ReleasePlan, Verdict
from training.checkpoint import Checkpoint
from training.errors import UsageError
from training.records import sha256_of_file
from training.reference import MOST, take
from training.run_record import RunRecord


def verdicts(run: Path, policy: str = "default") -> dict[str, Verdict]:
    return {verdict.gate: verdict for verdict in check_run(run, Request("owner/name", policy=policy))}


def refusals(run: Path, policy: str = "default") -> dict[str, str]:
    """Gate -> explanation, of those that refused."""
    return {
        gate: verdict.explanation for gate, verdict in verdicts(run, policy).items() if verdict.outcome == "refused"
    }


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def parent_of(run: Path) -> str:
    parent = RunRecord.read(run / "run.json").parent("base")
    assert parent is not None
    return parent.digest


def test_a_whole_run_passes_every_gate(run: Path) -> None:
    assert {gate: verdict.outcome for gate, verdict in verdicts(run).items()} == {
        "weights_safetensors_only": "passed",
        "weights_finite": "passed",
        "loads_clean": "passed",
        "behaves_as_saved": "skipped",
        "dtype_as_config": "passed",
        "no_remote_code": "passed",
        "chat_template_renders": "passed",
        "run_record_pinned": "passed",
        "scorecard_pinned": "passed",
        "figures_from_samples": "passed",
        "contamination_bounded": "skipped",
        "no_regression": "passed",
        "no_regression_since_release": "skipped",
        "card_complete": "passed",
        "license_present": "passed",
        "license_compatible": "passed",
        "no_local_paths": "passed",
        "no_secrets": "passed",
        "no_personal_data": "passed",
    }
    assert not list(run.glob(".check-*")), "check leaves nothing behind"


def test_a_pickle_beside_the_weights_is_refused_by_name(run: Path) -> None:
    (run / "checkpoint" / "training_args.bin").write_bytes(b"\x80\x04.")
    assert "training_args.bin" in refusals(run)["weights_safetensors_only"]


def test_a_truncated_weight_file_is_refused_not_a_crash(run: Path) -> None:
    file = run / "checkpoint" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    refused = refusals(run)
    assert "truncated" in refused["weights_safetensors_only"]
    assert {"weights_finite", "loads_clean"} <= set(refused)


def test_shards_that_disagree_with_their_index_are_refused_by_tensor(run: Path) -> None:
    checkpoint = run / "checkpoint"
    (checkpoint / "model.safetensors").rename(checkpoint / "model-00001-of-00001.safetensors")
    mapping = {"model.norm.weight": "model-00001-of-00001.safetensors", "lost": "model-00001-of-00001.safetensors"}
    index = {"metadata": {}, "weight_map": mapping}
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "lost is not in model-00001-of-00001.safetensors" in refusals(run)["weights_safetensors_only"]


def test_a_shard_left_from_another_save_is_refused(run: Path) -> None:
    checkpoint = run / "checkpoint"
    (checkpoint / "model-00002-of-00002.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    assert "model-00002-of-00002.safetensors belongs to no index" in refusals(run)["weights_safetensors_only"]


def test_a_nan_is_refused_with_the_name_of_its_tensor_and_the_count(run: Path) -> None:
    change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"][:3].fill_(math.nan))
    assert "model.norm.weight: 3 of 32 values" in refusals(run)["weights_finite"]


def test_a_missing_head_that_would_load_at_random_is_refused_by_name(run: Path) -> None:
    edit_json(run / "checkpoint" / "config.json", tie_word_embeddings=False)
    assert "lm_head.weight" in refusals(run)["loads_clean"]


def test_a_tensor_of_another_shape_than_the_config_says_is_refused_by_name(run: Path) -> None:
    edit_json(run / "checkpoint" / "config.json", intermediate_size=48)
    assert "mlp.down_proj.weight" in refusals(run)["loads_clean"]


def test_a_tensor_that_belongs_to_no_parameter_is_refused_by_name(run: Path) -> None:
    def add(tensors: dict) -> None:
        tensors["value_head.weight"] = tensors["model.norm.weight"].clone()

    change_weights(run / "checkpoint", add)
    assert "value_head.weight" in refusals(run)["loads_clean"]


def test_a_stored_head_that_tying_would_drop_is_refused(run: Path) -> None:
    def add(tensors: dict) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 1

    change_weights(run / "checkpoint", add)
    assert "lm_head.weight" in refusals(run)["loads_clean"]


def test_generation_that_does_not_stop_where_an_answer_ends_is_refused(run: Path) -> None:
    edit_json(run / "checkpoint" / "generation_config.json", eos_token_id=0)
    refused = refusals(run)["chat_template_renders"]
    assert "<|im_end|>" in refused
    assert "generation stops at [0]" in refused


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("", "no chat template"),
        ("{% for message in messages %}{{ message['content'] }}<|im_end|>{% endfor %}", "opens no assistant's turn"),
        ("{{ raise_exception('no') }}", "cannot be read: no"),
        ("{% for %}", "cannot be read"),
    ],
)
def test_a_chat_template_that_does_not_work_is_refused(run: Path, template: str, said: str) -> None:
    (run / "checkpoint" / "chat_template.jinja").write_text(template)
    assert said in refusals(run)["chat_template_renders"]


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


def test_a_missing_baseline_is_refused_where_the_policy_asks_for_one(run: Path) -> None:
    (run / "baseline" / "scorecard.json").unlink()
    assert "baseline" in refusals(run)["no_regression"]
    assert verdicts(run, "external")["no_regression"].outcome == "skipped"


@pytest.mark.parametrize(
    ("secret", "kind"),
    [
        ("hf_" + "a" * 34, "Hub token"),
        ("AKIA" + "ABCDEFGHIJKLMNOP", "AWS Access Key"),
        ("-----BEGIN OPENSSH " + "PRIVATE KEY-----", "private key"),
        ("https://someone:" + "hunter2secret@host.org/", "Basic Auth Credentials"),
        ("xoxb-" + "1234567890-abcdefghij", "Slack Token"),
    ],
)
def test_a_secret_in_a_text_file_is_refused_by_line_and_never_shown(run: Path, secret: str, kind: str) -> None:
    (run / "checkpoint" / "notes.txt").write_text(f"first line\nkey = {secret}\n")
    verdict = verdicts(run)["no_secrets"]
    assert f"a {kind} in notes.txt, line 2" in verdict.explanation
    assert secret not in verdict.model_dump_json()


@pytest.mark.parametrize("path", ["/home/someone/models/base", "/Users/someone/base", "{run}/checkpoint"])
def test_a_path_of_a_machine_in_a_record_is_refused(run: Path, path: str) -> None:
    record = json.loads((run / "run.json").read_text())
    record["recipe"]["base"] = path.replace("{run}", str(run.resolve()))
    (run / "run.json").write_text(json.dumps(record))
    assert "run.json" in refusals(run)["no_local_paths"]


def test_an_unknown_licence_of_the_parent_leaves_the_card_without_one(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["parents"][0]["license"] = None
    (run / "run.json").write_text(json.dumps(record))
    assert "names no license" in refusals(run)["license_present"]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("write to jane.doe@hospital.org", "e-mail address"),
        ("call +44 20 7946 0958 today", "phone number"),
        ("paid with 4111 1111 1111 1111", "payment card"),
        ("to DE89 3704 0044 0532 0130 00", "bank account"),
    ],
)
def test_personal_data_in_a_record_is_refused_by_kind_and_line_and_only_counted_in_samples(
    run: Path, text: str, kind: str
) -> None:
    (run / "checkpoint" / "notes.txt").write_text(f"first line\n{text}\n")
    verdict = verdicts(run)["no_personal_data"]
    assert f"a {kind} in notes.txt, line 2" in verdict.explanation
    assert text not in verdict.model_dump_json()
    (run / "checkpoint" / "notes.txt").unlink()
    file = run / "samples" / "extra.jsonl"
    file.write_text(json.dumps({"response": text}) + "\n")
    verdict = verdicts(run)["no_personal_data"]
    assert (verdict.outcome, verdict.evidence["in_samples"]) == ("passed", {kind: 1})


def test_numbers_that_look_like_cards_accounts_or_phones_are_none(run: Path) -> None:
    (run / "checkpoint" / "notes.txt").write_text(
        "0.4111111111111111 4111111111111112 DE00370400440532013000 user@example.org 2026-11-25 sha256 "
        + "4" * 64
        + " sha256:97f24a4111111111111111b6d24\n"
    )
    assert verdicts(run)["no_personal_data"].outcome == "passed"


def test_what_a_model_said_before_it_was_saved_must_be_what_its_files_say(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(run / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(run / "checkpoint")
    digest = Checkpoint.open(run / "checkpoint").digest
    take(model, tokenizer).model_copy(update={"checkpoint_digest": digest}).write(run / "reference.json")
    verdict = verdicts(run)["behaves_as_saved"]
    assert (verdict.outcome, verdict.evidence["bound"]) == ("passed", MOST["float32"])

    with torch.no_grad():  # as if saving had tied a head that was not tied in memory
        model.model.embed_tokens.weight.mul_(1.5)
    reference = take(model, tokenizer).model_copy(update={"checkpoint_digest": digest})
    reference.write(run / "reference.json")
    assert main(["plan", "--run", str(run), "--repo", "owner/name"]) == 3
    said = capsys.readouterr().err
    assert "behaves_as_saved: log-probabilities differ by" in said
    assert "saving lost something" in said

    reference.model_copy(update={"checkpoint_digest": parent_of(run)}).write(run / "reference.json")
    assert f"was taken of {parent_of(run)}" in refusals(run)["behaves_as_saved"]


def test_weights_of_another_type_than_the_config_says_are_refused_with_the_counts(run: Path) -> None:
    edit_json(run / "checkpoint" / "config.json", dtype="bfloat16")
    refused = refusals(run)["dtype_as_config"]
    assert "config.json says bfloat16" in refused
    assert "values in float32" in refused


def test_code_that_loading_would_have_to_run_is_refused_unless_the_policy_allows_it(run: Path, tmp_path: Path) -> None:
    (run / "checkpoint" / "modeling_own.py").write_text("print('hello')\n")
    edit_json(run / "checkpoint" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Tokenizer", None]})
    refused = refusals(run)["no_remote_code"]
    assert "modeling_own.py, tokenizer_config.json (auto_map)" in refused
    own = tmp_path / "own.yaml"
    own.write_text((POLICIES / "default.yaml").read_text().replace("remote_code: refused ", "remote_code: allowed "))
    assert verdicts(run, str(own))["no_remote_code"].outcome == "passed"


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


def report_contamination(run: Path, share: float, **changes: object) -> None:
    task = TaskContamination(
        task="starter_truthfulness",
        items=40,
        too_short=0,
        contaminated=round(40 * share),
        share=share,
        examples=[],
        scores=[],
    )
    fields = {
        "checkpoint_digest": Checkpoint.open(run / "checkpoint").digest,
        "scorecard_sha256": sha256_of_file(run / "scorecard.json"),
        "run_record_sha256": None,
        "n": 13,
        "shortest": 5,
        "data": [],
        "record_covered": True,
        "tasks": [task],
        "highest_share": share,
        "created": "2026-11-25T00:00:00+00:00",
    }
    Contamination.model_validate(fields | changes).write(run / "contamination.json")


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
    own.write_text((POLICIES / "default.yaml").read_text().replace("report: optional ", "report: required "))
    assert "there is no contamination.json" in refusals(run, str(own))["contamination_bounded"]


@pytest.mark.parametrize(
    ("parent", "said"),
    [
        ("apache-2.0", None),
        ("cc-by-nc-4.0", None),
        ("Llama 3.1", None),
        ("cc-by-nc-nd-4.0", "allows no derivatives"),
        (None, "is not known"),
    ],
)
def test_the_parents_licence_must_allow_the_cards(run: Path, parent: str | None, said: str | None) -> None:
    record = json.loads((run / "run.json").read_text())
    record["parents"][0]["license"] = parent
    (run / "run.json").write_text(json.dumps(record))
    refused = refusals(run).get("license_compatible")
    assert refused is None if said is None else said in str(refused), refused


def test_a_licence_that_a_second_parent_does_not_allow_is_refused_by_name(run: Path) -> None:
    record = json.loads((run / "run.json").read_text())
    record["parents"].append(record["parents"][0] | {"role": "adapter", "name": "their-adapter", "license": "gpl-3.0"})
    (run / "run.json").write_text(json.dumps(record))
    assert "their-adapter is under gpl-3.0, which does not allow apache-2.0" in refusals(run)["license_compatible"]


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
    assert "as she wishes (it said: 1 piece(s) of personal data" in verdict.explanation
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
    said = {verdict["gate"]: verdict for verdict in json.loads(capsys.readouterr().out)["verdicts"]}
    assert said["weights_safetensors_only"]["evidence"]["pickled"] == ["pytorch_model.bin"]
    assert said["loads_clean"]["outcome"] == "passed"
    assert said["license_present"]["explanation"] == "license: mit"
    assert said["run_record_pinned"]["outcome"] == said["no_regression"]["outcome"] == "skipped"
    assert "section" in said["card_complete"]["explanation"]
    assert sorted(checkpoint.rglob("*")) == before
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


def test_no_gate_raises_whatever_the_files_hold(run: Path) -> None:
    spoil: list[Callable[[Path], object]] = [
        lambda file: file.write_bytes(b""),
        lambda file: file.write_bytes(b"\xff\xfe\x00not json"),
        lambda file: file.write_text("[]"),
    ]
    files = ["config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"]
    for index, name in enumerate([*files, "../run.json", "../scorecard.json", "../baseline/scorecard.json"]):
        file = run / "checkpoint" / name
        whole = file.read_bytes()
        spoil[index % len(spoil)](file)
        assert refusals(run), f"{name} is broken, and every gate passed"
        file.write_bytes(whole)


def test_scores_of_what_an_endpoint_served_are_refused_for_nothing_pins_its_bytes(run: Path) -> None:
    model = json.loads((run / "scorecard.json").read_text())["model"]
    edit_json(run / "scorecard.json", model={**model, "parameters": None, "endpoint": "http://127.0.0.1:8000/v1"})
    assert "nothing pins its bytes" in refusals(run)["scorecard_pinned"]
