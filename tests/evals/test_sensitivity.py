"""How far scores move with template, BOS and precision: each variant states what it changes, and only that is computed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from own_task import CHOICES, TEXTS, write_suite, write_task

from evals.__main__ import main
from evals.saved import SavedRun
from evals.sensitivity import Sensitivity


def test_each_variant_states_its_settings_and_its_paired_differences(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(tmp_path, CHOICES)
    write_task(tmp_path, TEXTS, "chat")
    suite = write_suite(
        tmp_path,
        "task: words, group: other, file: words.yaml",
        "task: chat, group: other, file: chat.yaml, chat_template: true",
    )
    words = ["run", str(models / "parent"), "--suite", str(suite), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*words, "--dtype", "float32", "--sensitivity"]) == 0
    told = capsys.readouterr().out
    found = Sensitivity.read(tmp_path / "out" / "sensitivity.json")
    changed = {variant.name: variant.settings_differ for variant in found.variants}
    assert changed == {
        "chat-template-on": ["words: chat_template: False / True"],
        "chat-template-off": ["chat: chat_template: True / False"],
        "bos-added": ["words: bos: tokenizer / added", "chat: bos: tokenizer / added"],
        "bfloat16": ["dtype: float32 / bfloat16"],
    }
    for name, lines in changed.items():
        assert f"{name} changes (run / variant): {'; '.join(lines)}" in told
    run = SavedRun.open(tmp_path / "out")
    for variant in found.variants:
        other = SavedRun.open(tmp_path / "out" / "sensitivity" / variant.name).scorecard
        (row,) = [row for row in variant.rows if row.task == "words"]
        assert row.before == pytest.approx(run.scorecard.score("words", "acc").value)
        assert row.after == pytest.approx(other.score("words", "acc").value)
        assert row.difference == pytest.approx(row.after - row.before)
        assert row.n == 9
        assert row.p_holm >= row.p_value
    off = next(variant for variant in found.variants if variant.name == "chat-template-off")
    assert [row.difference for row in off.rows if row.task == "words"] == [0.0]
    answered = sorted(file.name.split("-")[0] for file in (tmp_path / "out" / ".evals").iterdir())
    assert answered == ["chat"] * 4 + ["words"] * 4, "of five evaluations of two tasks, what was the same came once"


def test_a_model_behind_an_endpoint_has_no_variants_and_a_tokenizer_may_lack_what_is_varied(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    bare = Path(shutil.copytree(models / "parent", tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    settings = json.loads((bare / "tokenizer_config.json").read_text())
    (bare / "tokenizer_config.json").write_text(json.dumps({**settings, "bos_token": None}))
    write_task(tmp_path, CHOICES)
    suite = write_suite(tmp_path, "task: words, group: other, file: words.yaml")
    words = ["run", str(bare), "--suite", str(suite), "--out", str(tmp_path / "out"), "--device", "cpu", "--json"]
    assert main([*words, "--dtype", "float32", "--sensitivity", "--limit", "3"]) == 0
    found = json.loads(capsys.readouterr().out)["sensitivity"]
    assert [variant["name"] for variant in found["variants"]] == ["bfloat16"]
    assert found["left_out"] == {
        "chat-template": "the tokenizer has no chat template",
        "bos": "the tokenizer has no token that begins a text",
    }
