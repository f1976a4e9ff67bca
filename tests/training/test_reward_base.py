"""The base of a reward model: only its head is new, and that fills no log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file
from tiny_model import save_model

from training.__main__ import main


def test_a_base_without_some_of_its_weights_is_refused_before_they_are_drawn_at_random(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(tmp_path / "base", seed=0)
    file = tmp_path / "base" / "model.safetensors"
    weights = load_file(file)
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, file, metadata={"format": "pt"})
    rows = [{"prompt": f"hello {n}", "chosen": "yes", "rejected": "no"} for n in range(8)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["reward", "--recipe", "reward-starter", "--out", str(tmp_path / "run"), f"base={tmp_path / 'base'}"]
    capsys.readouterr()
    assert main([*words, f"data.source={tmp_path / 'pairs.jsonl'}"]) == 2
    said = capsys.readouterr().err
    assert "the base lacks weights" in said
    assert "model.layers.1.mlp.down_proj.weight" in said
    assert "LOAD REPORT" not in said
