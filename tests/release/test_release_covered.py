"""What decides what a model does is in its digest, or the checkpoint is refused: scores cannot be of other files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from gate_verdicts import edit_json, verdicts
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer

from evals.evaluated import Weights, find
from release.__main__ import main
from release.decoys import decoyed
from release.probe import load
from training.checkpoint import Checkpoint
from training.errors import UsageError


def shard_in_a_folder(checkpoint: Path) -> str:
    (checkpoint / "w").mkdir()
    shutil.move(checkpoint / "model.safetensors", checkpoint / "w" / "one.safetensors")
    mapping = dict.fromkeys(load_file(checkpoint / "w" / "one.safetensors"), "w/one.safetensors")
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": mapping}))
    return "w/one.safetensors"


def hidden_shard(checkpoint: Path) -> str:
    shutil.move(checkpoint / "model.safetensors", checkpoint / ".one.safetensors")
    mapping = dict.fromkeys(load_file(checkpoint / ".one.safetensors"), ".one.safetensors")
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": mapping}))
    return ".one.safetensors"


def weights_by_another_name(checkpoint: Path) -> str:
    (checkpoint / "w").mkdir()
    shutil.copy(checkpoint / "model.safetensors", checkpoint / "w" / "other.safetensors")
    edit_json(checkpoint / "config.json", transformers_weights="w/other.safetensors")
    return "w/other.safetensors"


def versioned_config(checkpoint: Path) -> str:
    shutil.copy(checkpoint / "config.json", checkpoint / "config.4.0.0.json")
    edit_json(checkpoint / "config.json", configuration_files=["config.4.0.0.json", "config.99.0.0.json"])
    return "config.4.0.0.json"


def versioned_tokenizer(checkpoint: Path) -> str:
    shutil.copy(checkpoint / "tokenizer.json", checkpoint / "tokenizer.4.0.0.json")
    edit_json(checkpoint / "tokenizer_config.json", fast_tokenizer_files=["tokenizer.4.0.0.json"])
    return "tokenizer.4.0.0.json"


def adapter_beside_it(checkpoint: Path) -> str:
    (checkpoint / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "x"}))
    (checkpoint / "adapter_model.bin").write_bytes(b"\x80\x04.")
    return "adapter_model.bin"


WAYS = [shard_in_a_folder, hidden_shard, weights_by_another_name, versioned_config, versioned_tokenizer]


@pytest.mark.parametrize("name_them", [*WAYS, adapter_beside_it])
def test_a_checkpoint_whose_settings_name_files_outside_of_its_digest_is_not_opened(run: Path, name_them) -> None:
    named = name_them(run / "checkpoint")
    with pytest.raises(UsageError) as refused:
        Checkpoint.open(run / "checkpoint")
    assert f"{named}" in refused.value.what
    assert "the digest does not cover" in refused.value.what
    assert "save_pretrained" in (refused.value.next_step or "")


@pytest.mark.parametrize("name_them", [way for way in WAYS if way is not hidden_shard])
def test_a_load_that_reads_a_file_outside_of_the_digest_is_refused_by_its_name(run: Path, name_them) -> None:
    named = name_them(run / "checkpoint")
    with pytest.raises(UsageError) as refused:
        load(run / "checkpoint")
    assert named in refused.value.what
    assert "digest does not cover" in refused.value.what


def test_a_vocabulary_that_the_digest_does_not_know_is_refused_and_tokenizer_json_beside_it_is_the_remedy(
    run: Path,
) -> None:
    checkpoint = run / "checkpoint"
    whole = (checkpoint / "tokenizer.json").read_text()
    words = ["[PAD]", "[UNK]", "[SEP]", "[X_SEP]", "[CLS]", "[MASK]", "paris", "the", "capital", "of", "france", "is"]
    (checkpoint / "prophetnet.tokenizer").write_text("\n".join(words))
    settings = (checkpoint / "tokenizer_config.json").read_text()
    edit_json(checkpoint / "tokenizer_config.json", tokenizer_class="ProphetNetTokenizer")
    (checkpoint / "tokenizer.json").unlink()
    assert AutoTokenizer.from_pretrained(checkpoint)("paris")["input_ids"][:1] == [6], "transformers reads it"
    verdict = verdicts(run)["loads_clean"]
    assert "loading it reads what its digest does not cover: prophetnet.tokenizer" in verdict.explanation
    assert "save_pretrained both into an empty directory" in (verdict.remedy or "")
    with pytest.raises(UsageError, match="tokenizer cannot be loaded"):
        find(str(checkpoint))
    (checkpoint / "tokenizer.json").write_text(whole)
    (checkpoint / "tokenizer_config.json").write_text(settings)
    assert load(checkpoint).missing == []


def test_what_is_scored_is_loaded_from_the_files_of_the_digest_alone(run: Path) -> None:
    checkpoint = run / "checkpoint"
    found = find(str(checkpoint))
    weights_by_another_name(checkpoint)  # after it was opened, so that nothing but the loading can notice
    other = {name: tensor + 1 for name, tensor in load_file(checkpoint / "model.safetensors").items()}
    save_file(other, checkpoint / "w" / "other.safetensors", metadata={"format": "pt"})
    with pytest.raises((UsageError, OSError)):
        _ = Weights(found, "float32", "cpu").model


def test_files_that_loading_does_not_need_may_lie_beside_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = run / "checkpoint"
    (checkpoint / "notes").mkdir()
    (checkpoint / "notes" / "config.json").write_text("{}")
    (checkpoint / "LICENSE").write_text("All of it.\n")
    edit_json(checkpoint / "tokenizer_config.json", fast_tokenizer_files=["tokenizer.99.0.0.json", "tokenizer.json"])
    digest = Checkpoint.open(checkpoint).digest
    with decoyed(checkpoint) as seen:
        assert seen.decoys == ["LICENSE", "notes/config.json"]
        (seen.folder / "notes" / "config.json").read_bytes()
    assert seen.read == {"notes/config.json"}
    assert load(checkpoint).missing == []
    assert Checkpoint.open(checkpoint).digest == digest
    assert main(["check", str(checkpoint), "--json"]) in (0, 3)
    said = {verdict["gate"]: verdict["outcome"] for verdict in json.loads(capsys.readouterr().out)["verdicts"]}
    assert said["loads_clean"] == "passed"
