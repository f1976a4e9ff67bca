"""A checkpoint's digest names what the model does, and a broken directory is refused by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from training.base_run import write_base
from training.checkpoint import Checkpoint, manifest_digest
from training.errors import UsageError


@pytest.fixture
def copy(tiny: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny, tmp_path / "checkpoint"))


def test_a_copy_has_the_same_digest(tiny: Path, copy: Path) -> None:
    assert Checkpoint.open(copy).digest == Checkpoint.open(tiny).digest


def test_a_readme_or_a_plot_does_not_change_the_digest(copy: Path) -> None:
    before = Checkpoint.open(copy).digest
    (copy / "README.md").write_text("A model card.")
    (copy / "figures").mkdir()
    (copy / "figures" / "plot.png").write_bytes(b"png")
    assert Checkpoint.open(copy).digest == before


@pytest.mark.parametrize(
    "name", ["model.safetensors", "config.json", "generation_config.json", "chat_template.jinja", "tokenizer.json"]
)
def test_one_changed_byte_in_a_file_that_matters_changes_the_digest(copy: Path, name: str) -> None:
    before = Checkpoint.open(copy).digest
    content = bytearray((copy / name).read_bytes())
    content[-2] ^= 1
    (copy / name).write_bytes(content)
    assert Checkpoint.open(copy).digest != before


def test_a_renamed_file_changes_the_digest(copy: Path) -> None:
    manifest = Checkpoint.open(copy).manifest
    renamed = (*manifest[:-1], manifest[-1].model_copy(update={"path": "other.json"}))
    assert manifest_digest(renamed) != manifest_digest(manifest)


def test_the_digest_does_not_depend_on_the_order_of_the_manifest(copy: Path) -> None:
    manifest = Checkpoint.open(copy).manifest
    assert manifest_digest(tuple(reversed(manifest))) == manifest_digest(manifest)


def test_a_directory_without_weights_is_refused_with_what_it_holds(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"no weights[\s\S]*config\.json"):
        Checkpoint.open(copy)


def test_pickled_weights_are_refused_and_named(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UsageError, match=r"pickled[\s\S]*pytorch_model\.bin"):
        Checkpoint.open(copy)


@pytest.mark.parametrize("keep", [0, 7, 100, -1])
def test_a_truncated_weights_file_is_refused_and_named(copy: Path, keep: int) -> None:
    file = copy / "model.safetensors"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(UsageError, match=r"truncated or damaged[\s\S]*model\.safetensors"):
        Checkpoint.open(copy)


def test_bytes_behind_the_last_tensor_are_refused(copy: Path) -> None:
    with (copy / "model.safetensors").open("ab") as file:
        file.write(b"hidden")
    with pytest.raises(UsageError, match="truncated or damaged"):
        Checkpoint.open(copy)


def test_a_missing_shard_is_refused_and_named(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(UsageError, match=r"lacks 1 of its 2[\s\S]*model-00002-of-00002"):
        Checkpoint.open(copy)


def test_a_tokenizer_without_an_end_token_is_refused_before_training(copy: Path) -> None:
    from training.pretrained import load_tokenizer

    file = copy / "tokenizer_config.json"
    settings = json.loads(file.read_text())
    del settings["eos_token"]
    file.write_text(json.dumps(settings))
    with pytest.raises(UsageError, match="no end token") as refused:
        load_tokenizer(Checkpoint.open(copy))
    assert refused.value.where == str(file)


def test_a_checkpoint_without_a_chat_template_is_refused_before_training(copy: Path) -> None:
    from training.pretrained import load_tokenizer

    (copy / "chat_template.jinja").unlink()
    with pytest.raises(UsageError, match="no chat template"):
        load_tokenizer(Checkpoint.open(copy))


def test_nan_weights_are_refused_with_the_name_of_the_tensor(copy: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    from training.pretrained import load_policy

    weights = load_file(copy / "model.safetensors")
    weights["model.norm.weight"][3] = torch.nan
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UsageError, match=r"not finite: model\.norm\.weight[\s\S]*1 of 32"):
        load_policy(Checkpoint.open(copy), "float32")


def test_a_base_models_licence_comes_from_its_card_or_by_hand_and_the_two_may_not_differ(
    tiny: Path, tmp_path: Path
) -> None:
    source = Path(shutil.copytree(tiny, tmp_path / "source"))
    assert write_base(str(source), tmp_path / "none").parents[0].license is None
    assert write_base(str(source), tmp_path / "given", "mit").parents[0].license == "mit"
    (source / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    assert write_base(str(source), tmp_path / "card").parents[0].license == "apache-2.0"
    with pytest.raises(UsageError, match="another licence"):
        write_base(str(source), tmp_path / "both", "mit")
    assert not (tmp_path / "both" / "run.json").exists()
