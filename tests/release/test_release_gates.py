"""Each gate lets the tiny run through, and refuses one thing that is wrong with its checkpoint, with the number or name."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from gate_verdicts import edit_json, parent_of, refusals, verdicts
from tiny_run import change_weights
from transformers import AutoTokenizer

from release.__main__ import main
from release.policy import POLICIES
from training.checkpoint import Checkpoint
from training.reference import MOST, take


def test_a_whole_run_passes_every_gate(run: Path) -> None:
    assert {gate: verdict.outcome for gate, verdict in verdicts(run).items()} == {
        "weights_safetensors_only": "passed",
        "weights_finite": "passed",
        "loads_clean": "passed",
        "behaves_as_saved": "skipped",
        "dtype_as_config": "passed",
        "no_remote_code": "passed",
        "file_names_portable": "passed",
        "files_readable": "passed",
        "chat_template_renders": "passed",
        "run_record_pinned": "passed",
        "scorecard_pinned": "passed",
        "figures_from_samples": "passed",
        "headlines_regenerable": "passed",
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
        (
            "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}",
            "opens no assistant's turn",
        ),
        ("{{ raise_exception('no') }}", "cannot be read: no"),
        ("{% for %}", "cannot be read"),
    ],
)
def test_a_chat_template_that_does_not_work_is_refused(run: Path, template: str, said: str) -> None:
    (run / "checkpoint" / "chat_template.jinja").write_text(template)
    assert said in refusals(run)["chat_template_renders"]


OPENS_BY_ITSELF = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ bos_token + '[INST] ' + m.content + ' [/INST]' }}"
    "{% else %}{{ ' ' + m.content + eos_token }}{% endif %}{% endfor %}"
)


def test_a_template_whose_users_turns_open_the_answer_needs_nothing_to_open_it(run: Path) -> None:
    """As Llama 2's and Mistral's: with and without add_generation_prompt they write the same."""
    (run / "checkpoint" / "chat_template.jinja").write_text(OPENS_BY_ITSELF)
    assert "chat_template_renders" not in refusals(run)


def test_a_template_with_a_token_that_the_model_has_no_embedding_for_is_refused(run: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run / "checkpoint")
    tokenizer.add_tokens(["<|turn|>"], special_tokens=True)
    tokenizer.chat_template = str(tokenizer.chat_template).replace(
        "{{ message['role'] }}", "<|turn|>{{ message['role'] }}"
    )
    tokenizer.save_pretrained(run / "checkpoint")
    said = refusals(run)["chat_template_renders"]
    assert "the template writes '<|turn|>' (id 292), and the model has 292 embeddings" in said


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


def test_weights_of_any_one_type_are_healthy_where_the_config_names_none(run: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from transformers import AutoModelForCausalLM

    config = json.loads((run / "checkpoint" / "config.json").read_text())
    del config["dtype"]
    (run / "checkpoint" / "config.json").write_text(json.dumps(config))
    weights = run / "checkpoint" / "model.safetensors"
    halved = {name: tensor.to(torch.bfloat16) for name, tensor in load_file(weights).items()}
    save_file(halved, weights, metadata={"format": "pt"})
    assert AutoModelForCausalLM.from_pretrained(run / "checkpoint").dtype == torch.bfloat16
    verdict = verdicts(run)["dtype_as_config"]
    assert verdict.outcome == "passed"
    assert "in bfloat16, in which they are loaded, for config.json names no type" in verdict.explanation
    first = next(name for name in halved if "proj" in name)
    save_file({**halved, first: halved[first].float()}, weights, metadata={"format": "pt"})
    assert "config.json names no type, the files hold" in refusals(run)["dtype_as_config"]


def test_code_that_loading_would_have_to_run_is_refused_unless_the_policy_allows_it(run: Path, tmp_path: Path) -> None:
    (run / "checkpoint" / "modeling_own.py").write_text("print('hello')\n")
    edit_json(run / "checkpoint" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Tokenizer", None]})
    refused = refusals(run)["no_remote_code"]
    assert "modeling_own.py, tokenizer_config.json (auto_map)" in refused
    own = tmp_path / "own.yaml"
    own.write_text((POLICIES / "default.yaml").read_text().replace("remote_code: refused ", "remote_code: allowed "))
    assert verdicts(run, str(own))["no_remote_code"].outcome == "passed"


@pytest.mark.parametrize(
    "settings",
    [
        {"attn_implementation": "someone/attention"},
        {"text_config": {"_attn_implementation": "someone/attention@main"}},
        {"experts_implementation": {"": "someone/experts:fast"}},
    ],
)
def test_a_config_that_has_attention_computed_by_code_of_another_repository_is_refused(
    run: Path, settings: dict[str, object]
) -> None:
    edit_json(run / "checkpoint" / "config.json", **settings)
    assert "_implementation: someone/" in refusals(run)["no_remote_code"]


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
