"""A checkpoint as GGUF: what llama.cpp and transformers' own loader read of it, what it loses, and what is not kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from exportable import TEXT, make_run, release
from tiny_run import OWNER

from release.__main__ import main
from release.exports import gguf_file, parity
from release.exports.architecture import Architecture, read_architecture, rope_divisors
from release.exports.export import Exported, Identity, export
from release.exports.parity import Bound, Loss, kl_divergence, refusal, with_rest
from release.exports.quantisation import quantised, type_of
from release.exports.record import ExportRecord
from release.exports.tokenizer import read_vocabulary
from release.hub_client import HubClient
from training.checkpoint import Checkpoint
from training.errors import UsageError
from training.gguf_base import unpack_gguf
from training.pretrained import load_tokenizer

pytest.importorskip("xllamacpp")


@pytest.fixture(scope="module", autouse=True)
def short_answers() -> Iterator[None]:
    """Six tokens of each answer tell as much of a tiny model as sixteen."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "ANSWER_TOKENS", 6)
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("export") / "tiny")


@pytest.fixture(scope="module")
def exported(tiny: Path) -> Exported:
    """F16 and Q8_0 of the tiny run, in its gguf/."""
    return export(tiny, ["F16", "Q8_0"], tiny / "gguf", Identity("tiny", f"{OWNER}/tiny@v1.0.0", "apache-2.0"))


def test_llama_cpp_says_of_an_f16_file_what_transformers_says_of_the_checkpoint(exported: Exported) -> None:
    loss = exported.record.files[0].loss
    assert exported.refused == {}
    assert (loss.prompts, loss.positions, loss.same_tokens) == (12, 72, 12)
    assert loss.kl_mean < 2e-5
    assert loss.greedy_agreement == 1


def test_a_quantised_file_carries_what_it_loses(exported: Exported) -> None:
    whole, smaller = exported.record.files
    assert smaller.precision == "Q8_0"
    assert smaller.loss.kl_mean > whole.loss.kl_mean
    assert smaller.loss.kl_max >= smaller.loss.kl_mean
    assert smaller.size < whole.size


def test_transformers_own_loader_reads_the_file_back_as_the_same_model(exported: Exported, tiny: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ours = AutoTokenizer.from_pretrained(tiny / "checkpoint")
    theirs = AutoTokenizer.from_pretrained(tiny / "gguf", gguf_file="tiny-F16.gguf")
    ids = ours(TEXT, return_tensors="pt")["input_ids"]
    assert theirs(TEXT)["input_ids"] == ids[0].tolist()
    assert theirs.chat_template == ours.chat_template
    model = AutoModelForCausalLM.from_pretrained(tiny / "checkpoint", dtype=torch.float32)
    back = AutoModelForCausalLM.from_pretrained(tiny / "gguf", gguf_file="tiny-F16.gguf", dtype=torch.float32)
    with torch.inference_mode():
        difference = (model(ids).logits - back(ids).logits).abs().max()
    assert difference < 0.02


def test_k_quants_are_made_by_llama_cpp_and_measured(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(parity.BOUNDS, "Q4_K_M", Bound(0.3, 0.5))  # a random model has no clear favourites
    done = export(tiny, ["Q4_K_M"], tmp_path, Identity("tiny"))
    tensors = done.record.files[0].tensors
    assert done.losses["Q4_K_M"].same_tokens == 12
    assert (tensors["Q4_K"], tensors["Q6_K"]) == (1, 1)  # ffn_down of either layer
    assert tensors["Q5_0"] > 4  # rows of 64 have no K-quants


@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_k_quants_come_back_near_the_weights(kind: str) -> None:
    import gguf

    weights = np.random.default_rng(0).normal(size=(8, 512)).astype(np.float32)
    made = quantised(weights, gguf.GGMLQuantizationType[kind])
    back = gguf.quants.dequantize(made, gguf.GGMLQuantizationType[kind])
    assert back.shape == weights.shape
    assert np.abs(back - weights).max() < {"Q4_K": 0.25, "Q5_K": 0.12, "Q6_K": 0.08}[kind]


def test_a_file_that_lacks_llamas_order_of_heads_is_refused_and_not_kept(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf_file, "_as_in_gguf", lambda _name, weights, _architecture: weights)
    done = export(tiny, ["F16"], tmp_path / "out", Identity("tiny"))
    assert "KL divergence" in done.refused["F16"]
    assert done.record.files == []
    assert list((tmp_path / "out").iterdir()) == []


def test_a_file_that_splits_text_otherwise_is_refused_by_its_tokens(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release.exports.tokenizer.SPLITS", {(): "smollm"})  # which splits digits
    run = shutil.copytree(tiny / "checkpoint", tmp_path / "run" / "checkpoint").parent
    done = export(run, ["F16"], tmp_path / "out", Identity("tiny"))
    assert "into other tokens" in done.refused["F16"]


def test_digits_that_a_tokenizer_takes_one_by_one_are_so_in_the_export_and_in_a_base_read_from_it(
    tmp_path: Path,
) -> None:
    run = make_run(tmp_path / "run")
    described = json.loads((run / "checkpoint" / "tokenizer.json").read_text())
    digits = {"type": "Digits", "individual_digits": True}
    described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [digits, described["pre_tokenizer"]]}
    (run / "checkpoint" / "tokenizer.json").write_text(json.dumps(described))
    plain = make_run(tmp_path / "plain")
    done = export(run, ["F16"], tmp_path / "out", Identity("digits"))
    assert done.refused == {}, "llama.cpp reads the same tokens"
    unpack_gguf(tmp_path / "out" / done.record.files[0].path, tmp_path / "base")
    original, base, words = (
        load_tokenizer(Checkpoint.open(path)) for path in (run / "checkpoint", tmp_path / "base", plain / "checkpoint")
    )
    assert base(TEXT)["input_ids"] == original(TEXT)["input_ids"] != words(TEXT)["input_ids"]


def test_an_export_that_is_there_is_not_made_again(
    exported: Exported, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release.exports.export.take_reference", lambda _checkpoint: pytest.fail("measured again"))
    again = export(tiny, ["F16", "Q8_0"], tiny / "gguf", Identity("tiny"))
    assert again.record == exported.record


def test_an_untied_model_with_llama3_rope_and_biases_passes(tmp_path: Path) -> None:
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    }
    run = make_run(tmp_path / "run", tie_word_embeddings=False, attention_bias=True, rope_parameters=rope, head_dim=32)
    done = export(run, ["F32"], tmp_path / "out", Identity("other"))
    assert done.refused == {}
    assert done.losses["F32"].kl_mean < 2e-5


def test_llama3_divides_low_frequencies_and_keeps_high_ones(tiny: Path) -> None:
    plain = read_architecture(Checkpoint.open(tiny / "checkpoint"))
    assert rope_divisors(plain) is None
    rope = {
        "rope_type": "llama3",
        "rope_theta": 500000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    }
    changed = Architecture(
        **{**vars(plain), "head_dim": 128, "rope": rope | {"original_max_position_embeddings": 8192}}
    )
    divisors = rope_divisors(changed)
    assert divisors is not None
    assert divisors[0] == 1
    assert divisors[-1] == 8
    assert sorted(divisors) == divisors


def test_a_model_of_a_family_that_is_not_known_is_refused_before_anything_is_written(
    tiny: Path, tmp_path: Path
) -> None:
    run = Path(shutil.copytree(tiny, tmp_path / "run"))
    config = json.loads((run / "checkpoint" / "config.json").read_text())
    (run / "checkpoint" / "config.json").write_text(json.dumps(config | {"model_type": "gpt_neox"}))
    with pytest.raises(UsageError, match="model_type"):
        export(run, ["F16"], tmp_path / "out", Identity("tiny"))


def test_a_tokenizer_whose_split_is_not_known_is_refused(tiny: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny, tmp_path / "run"))
    file = run / "checkpoint" / "tokenizer.json"
    described = json.loads(file.read_text())
    described["pre_tokenizer"] = {"type": "Whitespace"}
    file.write_text(json.dumps(described))
    with pytest.raises(UsageError, match="would read texts in another way"):
        export(run, ["F16"], tmp_path / "out", Identity("tiny"))


@pytest.mark.parametrize("flag", ["lstrip", "rstrip", "single_word"])
@pytest.mark.parametrize("special", [True, False])
def test_an_added_token_that_takes_spaces_or_stands_alone_is_refused(
    tiny: Path, tmp_path: Path, flag: str, special: bool
) -> None:
    from transformers import AddedToken

    checkpoint = Path(shutil.copytree(tiny / "checkpoint", tmp_path / "checkpoint"))
    tokenizer = load_tokenizer(Checkpoint.open(checkpoint))
    tokenizer.add_tokens([AddedToken("FOO", special=special, **{flag: True})], special_tokens=special)
    tokenizer.save_pretrained(checkpoint)
    with pytest.raises(UsageError, match=f"'FOO' with {flag}"):
        read_vocabulary(Checkpoint.open(checkpoint), len(tokenizer))


def test_a_tokenizer_that_its_class_builds_in_another_way_than_its_file_says_is_refused(
    tiny: Path, tmp_path: Path
) -> None:
    checkpoint = Path(shutil.copytree(tiny / "checkpoint", tmp_path / "checkpoint"))
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"model_type": "qwen2"}))
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text())
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings | {"tokenizer_class": "Qwen2Tokenizer"}))
    with pytest.raises(UsageError, match="gpt-2 by the file, qwen2 by Qwen2Tokenizer"):
        read_vocabulary(Checkpoint.open(checkpoint), config["vocab_size"])


def test_a_tokenizer_with_more_words_than_the_model_has_rows_is_refused(tiny: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(tiny, tmp_path / "run"))
    config = json.loads((run / "checkpoint" / "config.json").read_text())
    (run / "checkpoint" / "config.json").write_text(json.dumps(config | {"vocab_size": 20}))
    with pytest.raises(UsageError, match="tokenizer cannot be written"):
        export(run, ["F16"], tmp_path / "out", Identity("tiny"))
    assert not (tmp_path / "out").exists()


def test_the_types_of_a_mixture_are_llama_cpps(tiny: Path) -> None:
    def name(tensor: str, columns: int, precision: str = "Q4_K_M") -> str:
        return type_of(tensor, (64, columns), precision, layers=8, tied=True).name

    assert name("blk.0.ffn_down.weight", 512) == "Q6_K"  # the first eighth
    assert name("blk.1.ffn_down.weight", 512) == "Q4_K"
    assert name("blk.3.attn_v.weight", 512) == "Q6_K"  # every third
    assert name("blk.0.attn_q.weight", 512) == "Q4_K"
    assert name("blk.0.attn_q.weight", 576) == "Q5_0"
    assert name("token_embd.weight", 512) == "Q6_K"
    assert name("token_embd.weight", 576) == "Q8_0"
    assert name("blk.0.attn_q.weight", 48) == "F16"
    assert type_of("blk.0.attn_norm.weight", (64,), "Q4_K_M", layers=8, tied=True).name == "F32"


def test_weights_too_large_for_half_precision_are_refused() -> None:
    import gguf

    with pytest.raises(UsageError, match="half-precision"):
        quantised(np.array([[1e6, 0.0]], dtype=np.float32), gguf.GGMLQuantizationType.F16)


def test_the_divergence_is_kullback_and_leiblers() -> None:
    p, q = np.log(np.array([0.5, 0.5])), np.log(np.array([0.9, 0.1]))
    assert kl_divergence(p, q) == pytest.approx(0.5 * np.log(0.5 / 0.9) + 0.5 * np.log(0.5 / 0.1))
    assert kl_divergence(p, p) == 0
    assert kl_divergence(np.array([0.0, -np.inf]), np.array([0.0, -np.inf])) == 0
    assert np.isfinite(kl_divergence(np.log(np.array([0.9, 0.1])), np.array([0.0, -np.inf])))


def test_the_tokens_that_are_not_listed_count_as_one() -> None:
    whole = np.log(np.array([0.6, 0.3, 0.06, 0.04]))
    assert np.exp(with_rest(whole[:2])) == pytest.approx([0.6, 0.3, 0.1])
    assert np.exp(with_rest(whole)) == pytest.approx([0.6, 0.3, 0.06, 0.04, 0.0])
    other = np.log(np.array([0.5, 0.3, 0.1, 0.1]))
    assert kl_divergence(with_rest(whole[:2]), with_rest(other[:2])) < kl_divergence(whole, other)


def test_nothing_that_is_not_a_number_passes() -> None:
    loss = Loss(prompts=1, positions=1, kl_mean=float("nan"), kl_max=0, greedy_agreement=1, same_tokens=1, same_texts=1)
    assert "nan" in str(refusal(loss, Bound(1.0, 0.0)))


def test_the_command_refuses_a_bad_file_with_status_3_and_says_why(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(parity.BOUNDS, "Q4_0", Bound(1e-9, 1.0))
    words = ["export", "--run", str(tiny), "--gguf", "Q4_0", "--out", str(tmp_path / "out"), "--json"]
    assert main(words) == 3
    answer = json.loads(capsys.readouterr().out)
    assert "at most 1e-09 allowed" in answer["refused"]["Q4_0"]
    assert not list((tmp_path / "out").glob("*"))


def test_an_export_becomes_a_repository_of_its_own_that_names_its_base(
    exported: Exported, tiny: Path, hub: HubClient, repo_id: str
) -> None:
    release(hub, f"{OWNER}/tiny", tiny / "checkpoint")
    words = ["export", "--run", str(tiny), "--repo", repo_id]
    assert main(words) == 0
    tree = hub.tree(repo_id, "main")
    assert {"tiny-F16.gguf", "tiny-Q8_0.gguf", "export.json", "README.md"} <= set(tree)
    info = hub.api.model_info(repo_id)
    assert info.private is False
    assert info.card_data is not None
    assert info.card_data["base_model"] == f"{OWNER}/tiny"
    assert info.card_data["base_model_relation"] == "quantized"
    record = ExportRecord.read(Path(hub.api.hf_hub_download(repo_id, "export.json")))
    assert record.files[0].sha256 == tree["tiny-F16.gguf"].sha256
    commits = hub.history(repo_id)
    assert main(words) == 0
    assert hub.history(repo_id) == commits


def test_an_export_of_no_released_model_is_not_published(
    tiny: Path, tmp_path: Path, hub: HubClient, repo_id: str
) -> None:
    export(tiny, ["F16"], tmp_path, Identity("tiny"))
    assert main(["export", "--run", str(tiny), "--out", str(tmp_path), "--repo", repo_id]) == 2
    assert hub.repository(repo_id) is None


def test_a_file_that_changed_after_it_was_measured_is_not_published(
    exported: Exported, tiny: Path, tmp_path: Path, hub: HubClient, repo_id: str
) -> None:
    from release.exports.publish import publish_export

    folder = Path(shutil.copytree(tiny / "gguf", tmp_path / "gguf"))
    with (folder / "tiny-F16.gguf").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x7f")
    with pytest.raises(UsageError, match="not the one that was measured"):
        publish_export(folder, Checkpoint.open(tiny / "checkpoint"), repo_id, hub)
    assert hub.repository(repo_id) is None
