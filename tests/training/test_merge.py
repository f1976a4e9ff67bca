"""An adapter merged into its base behaves as the base with the adapter, and one that does not fit is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny_model import make_model, make_tokenizer, save_model
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForSequenceClassification

from training.__main__ import main
from training.checkpoint import Checkpoint
from training.errors import UsageError
from training.merge import compare
from training.rewards import RewardModel
from training.run_record import RunRecord


def save_adapter(
    folder: Path, base: Path, task: str = "CAUSAL_LM", seed: int = 3, layers: tuple[str, ...] = ("q_proj", "v_proj")
) -> Path:
    """An adapter that changes what the model says."""
    kind = AutoModelForCausalLM if task == "CAUSAL_LM" else LlamaForSequenceClassification
    more = {} if task == "CAUSAL_LM" else {"num_labels": 1}
    model = kind.from_pretrained(base, **more)
    config = LoraConfig(task_type=task, r=4, target_modules=list(layers), modules_to_save=["score"] if more else None)
    torch.manual_seed(seed)
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name or "lora_embedding_A" in name:  # those that peft begins at zero
            torch.nn.init.normal_(parameter, std=0.3)
    adapted.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_merged_checkpoint_gives_the_logits_of_the_adapted_model(tmp_path: Path, tiny: Path, dtype: str) -> None:
    from peft import PeftModel

    adapter = save_adapter(tmp_path / "adapter", tiny)
    out = tmp_path / "merged"
    words = ["merge", str(adapter), "--base", str(tiny), "--dtype", dtype, "--out", str(out)]
    assert main(words) == 0
    record = RunRecord.read(out / "run.json")
    assert [parent.role for parent in record.parents] == ["base", "adapter"]
    assert record.checkpoint_digest == Checkpoint.open(out / "checkpoint").digest
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(out / "checkpoint", dtype=torch.float32)(ids).logits
        base = AutoModelForCausalLM.from_pretrained(tiny)
        plain = base(ids).logits
        adapted = PeftModel.from_pretrained(base, adapter)(ids).logits
    close = 1e-4 if dtype == "float32" else 0.2
    assert (merged - adapted).abs().max() < close < (merged - plain).abs().max()
    assert record.metrics["merge_kl"] < (1e-6 if dtype == "float32" else 2e-2)
    assert main(words) == 0  # done already
    assert main([*words[:-1], str(tmp_path / "other"), "--dtype", "float32"]) == 0


def test_a_reward_models_adapter_becomes_a_reward_model(tmp_path: Path, tiny: Path) -> None:
    adapter = save_adapter(tmp_path / "adapter", tiny, "SEQ_CLS")
    assert main(["merge", str(adapter), "--base", str(tiny), "--out", str(tmp_path / "merged")]) == 0
    model = RewardModel.load(Checkpoint.open(tmp_path / "merged" / "checkpoint"), "float32")
    assert len(model.score([([{"role": "user", "content": "Hi"}], "Hello")])) == 1


def test_an_adapter_of_another_model_is_refused_and_nothing_is_written(tmp_path: Path, tiny: Path, capsys) -> None:
    adapter = save_adapter(tmp_path / "adapter", tiny)
    deeper = make_model()
    deeper.config.num_hidden_layers = 1
    shallow = type(deeper)(deeper.config)
    save_model(tmp_path / "shallow")
    shallow.save_pretrained(tmp_path / "shallow")
    out = tmp_path / "merged"
    assert main(["merge", str(adapter), "--base", str(tmp_path / "shallow"), "--out", str(out)]) == 2
    assert "does not fit the base model" in capsys.readouterr().err
    assert not (out / "run.json").exists()


def test_a_directory_without_an_adapter_is_named(tmp_path: Path, tiny: Path, capsys) -> None:
    assert main(["merge", str(tiny), "--base", str(tiny), "--out", str(tmp_path / "merged")]) == 2
    assert "no adapter_config.json" in capsys.readouterr().err
    adapter = save_adapter(tmp_path / "adapter", tiny)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**settings, "task_type": "SEQ_2_SEQ_LM"}))
    assert main(["merge", str(adapter), "--base", str(tiny), "--out", str(tmp_path / "merged")]) == 2
    assert "SEQ_2_SEQ_LM" in capsys.readouterr().err
    shutil.rmtree(adapter)


def test_a_merge_that_is_done_is_not_given_for_an_adapter_or_a_base_that_has_changed(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "merged"
    shutil.copytree(tiny, base)
    words = ["merge", str(save_adapter(adapter, base)), "--base", str(base), "--out", str(out)]
    assert main(words) == 0
    record = (out / "run.json").read_bytes()
    moved = shutil.copytree(adapter, tmp_path / "moved")
    assert main(["merge", str(moved), *words[2:]]) == 0, "the same bytes by another path"
    save_adapter(adapter, base, seed=4)  # it was trained again
    assert main(words) == 2
    assert "the adapter sha256:" in capsys.readouterr().err
    save_model(base, seed=9)
    assert main(["merge", str(moved), *words[2:]]) == 2
    assert "the base model sha256:" in capsys.readouterr().err
    assert (out / "run.json").read_bytes() == record
    shutil.rmtree(base)  # what is not here can tell nothing
    assert main(["merge", str(moved), *words[2:]]) == 0


@pytest.mark.filterwarnings("ignore:Model has `tie_word:UserWarning", "ignore:Setting `save_embedding:UserWarning")
@pytest.mark.parametrize("layers", [("lm_head",), ("embed_tokens",), ("lm_head", "embed_tokens")])
def test_adapters_on_tied_embeddings_are_merged_into_weights_of_their_own(
    tmp_path: Path, tiny: Path, layers: tuple[str, ...]
) -> None:
    from peft import PeftModel

    adapter = save_adapter(tmp_path / "adapter", tiny, layers=("q_proj", *layers))
    out = tmp_path / "merged"
    assert main(["merge", str(adapter), "--base", str(tiny), "--dtype", "float32", "--out", str(out)]) == 0
    merged = AutoModelForCausalLM.from_pretrained(out / "checkpoint")
    assert not merged.config.tie_word_embeddings
    ids = torch.arange(3, 40)[None]
    with torch.no_grad():
        adapted = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(tiny), adapter)(ids).logits
        assert (merged(ids).logits - adapted).abs().max() < 1e-3


def test_the_tokenizer_that_an_adapter_was_trained_with_goes_into_the_merge(
    tmp_path: Path, tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def merged(name: str) -> int:
        return main(["merge", str(tmp_path / name), "--base", str(tiny), "--out", str(tmp_path / f"{name}-merged")])

    def template(name: str) -> str:
        return AutoTokenizer.from_pretrained(tmp_path / f"{name}-merged" / "checkpoint").chat_template

    own = make_tokenizer()
    own.chat_template = "{% for m in messages %}{{ m['content'] }}<|im_end|>{% endfor %}"
    own.save_pretrained(save_adapter(tmp_path / "whole", tiny))
    alone = save_adapter(tmp_path / "alone", tiny)
    (alone / "chat_template.jinja").write_text(own.chat_template)
    silent = make_tokenizer()
    silent.chat_template = None
    silent.save_pretrained(save_adapter(tmp_path / "silent", tiny))
    assert [merged(name) for name in ("whole", "alone", "silent")] == [0, 0, 0]
    assert [template("whole"), template("alone")] == [own.chat_template] * 2
    assert template("silent") == make_tokenizer().chat_template, "where the adapter's has none, the base's"
    own.add_tokens(["<|tool|>"])
    own.save_pretrained(tmp_path / "whole")
    assert merged("whole") == 2
    assert "holds another merge" in capsys.readouterr().err
    own.save_pretrained(save_adapter(tmp_path / "longer", tiny))
    assert merged("longer") == 2
    assert "no embedding for" in capsys.readouterr().err


def test_outputs_that_differ_too_much_are_refused() -> None:
    logits = [torch.randn(5, 7, generator=torch.Generator().manual_seed(0))]
    assert compare(logits, logits, "CAUSAL_LM", "float32")["merge_greedy_agreement"] == 1.0
    with pytest.raises(UsageError, match="does not behave"):
        compare(logits, [logits[0] + torch.randn(5, 7)], "CAUSAL_LM", "bfloat16")
    with pytest.raises(UsageError, match="does not behave"):
        compare([torch.tensor([1.0])], [torch.tensor([float("nan")])], "SEQ_CLS", "bfloat16")
