"""What is measured and noted before a checkpoint is saved is of the model that everybody loads from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import make_model, save_model
from transformers import AutoModelForCausalLM

from training.__main__ import main
from training.run_record import RunRecord
from training.weights_dtype import as_saved, cast_weights

IDS = torch.arange(200)[None] % 60


def said(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return torch.log_softmax(model(IDS).logits.float(), dim=-1)


def test_a_model_whose_weights_were_cast_says_what_is_loaded_from_its_checkpoint(tmp_path: Path) -> None:
    model = cast_weights(make_model(), "bfloat16").eval()
    assert {weight.dtype for weight in model.parameters()} == {torch.bfloat16}
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.bfloat16).eval()
    assert torch.equal(said(model), said(loaded))
    assert not torch.equal(said(make_model().to(torch.bfloat16).eval()), said(loaded)), (
        "rotary frequencies were rounded"
    )


def test_weights_come_back_to_the_bit_after_they_were_measured_as_saved() -> None:
    for of_base, computed in (("bfloat16", "float32"), ("float32", "bfloat16")):
        model = cast_weights(
            cast_weights(make_model(), "bfloat16"), computed
        )  # as loaded from a base in bfloat16, or rounded to it
        before = {name: weight.clone() for name, weight in model.named_parameters()}
        with as_saved(model, of_base):
            assert {weight.dtype for weight in model.parameters()} == {getattr(torch, of_base)}
        assert all(torch.equal(weight, before[name]) for name, weight in model.named_parameters())


@pytest.mark.parametrize("lora", [{"r": 4, "target_modules": ["q_proj"]}, None], ids=["adapters", "all weights"])
def test_what_learned_nothing_has_not_changed_whatever_it_was_computed_in(tmp_path: Path, lora: Any) -> None:
    base = save_model(tmp_path / "base", seed=0)
    rows = [{"prompt": f"Colour {n}?", "completion": "blue" + "e" * (n % 5)} for n in range(12)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = {
        "method": "sft", "base": str(base), "dtype": "bfloat16", "lora": lora, "max_length": 100,
        "data": {"source": str(tmp_path / "rows.jsonl"), "heldout_fraction": 0.4},
        "args": {"max_steps": 1, "learning_rate": 1e-30, "per_device_train_batch_size": 2},
    }  # fmt: skip
    (tmp_path / "sft.yaml").write_text(json.dumps(recipe))
    assert main(["sft", "--recipe", str(tmp_path / "sft.yaml"), "--out", str(tmp_path / "run")]) == 0
    assert RunRecord.read(tmp_path / "run" / "run.json").metrics["heldout_loss_change"] == 0
