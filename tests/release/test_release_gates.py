"""Each gate lets the tiny run through, and refuses one thing that is wrong with it, with the number or name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_run import change_weights, rescore, write_scores

from release.plan import Request, check_run
from release.records import Verdict
from training.checkpoint import Checkpoint
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
        "chat_template_renders": "passed",
        "run_record_pinned": "passed",
        "scorecard_pinned": "passed",
        "no_regression": "passed",
        "card_complete": "passed",
        "license_present": "passed",
        "no_local_paths": "passed",
        "no_secrets": "passed",
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
        ("AKIA" + "ABCDEFGHIJKLMNOP", "AWS access key"),
        ("-----BEGIN OPENSSH " + "PRIVATE KEY-----", "private key"),
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
