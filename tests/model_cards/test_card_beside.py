"""Other models stand beside a run's scores only as they were measured here, and the chat template is written out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from card_runs import make_checkpoint, write_scorecard

from evals.__main__ import main as evals
from evals.beside import put_beside
from evals.scorecard import EvaluatedModel
from model_cards.__main__ import main
from model_cards.card import render_card
from model_cards.check import check_card
from model_cards.prompt_shown import prompt_lines
from training.errors import UsageError

MakeRun = Callable[..., Path]
CHATML = "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}<|assistant|>"


def another(folder: Path, name: str, good: int, **changes: Any) -> Path:
    """A run of another checkpoint, scored alike."""
    digest = make_checkpoint(folder / name / "checkpoint", name.encode()[:4].ljust(4, b"_")).digest
    model = EvaluatedModel(name=f"runs/{name}/checkpoint", digest=digest, parameters=360_000_000)
    write_scorecard(folder / name, digest, good, **({"model": model} | changes))
    return folder / name


def card_of(run: Path) -> str:
    return render_card(run, repo_id="slipway/tiny", tag="v1.0.0").readme


def test_a_card_tells_other_models_figures_with_the_verdict_of_a_paired_test(
    make_run: MakeRun, tmp_path: Path, capsys
) -> None:
    run = make_run()
    assert "Beside other models" not in card_of(run)
    worse, alike = another(tmp_path, "worse", 2), another(tmp_path, "alike", 15)
    assert evals(["beside", str(run), str(worse), str(alike)]) == 0
    assert "2 models beside" in capsys.readouterr().out
    block = card_of(run).partition("<!-- beside:begin -->")[2].partition("<!-- beside:end -->")[0].strip().splitlines()
    assert block[0] == "| Score | This model | alike | worse |"
    truth = next(line for line in block if "truth/mc2" in line)
    assert truth.startswith("| `truth/mc2` ↑ | **80.0%** [")
    assert [cell.split()[0] for cell in truth.split(" | ")[2:]] == ["75.0%", "10.0%"]
    assert [cell.rstrip(" |").split()[-1] for cell in truth.split(" | ")[2:]] == ["≈", "▲"]
    assert any(line.startswith("- worse: 360.0 M, digest `") for line in block)
    assert main(["render", str(run), "--repo", "slipway/tiny", "--tag", "v1.0.0"]) == 0
    assert check_card(run) == []
    card = run / "bundle-preview" / "README.md"
    for before, after in (("10.0%", "9.0%"), ("▲ |", "≈ |")):
        card.write_text(card.read_text().replace(before, after))
        assert any(problem.where == "Beside other models" for problem in check_card(run)), after
    assert evals(["beside", str(run)]) == 0
    assert not (run / "beside").exists()
    assert "Beside other models" not in card_of(run)


def test_a_card_that_leaves_out_a_model_beside_it_is_not_true_of_its_records(make_run: MakeRun, tmp_path: Path) -> None:
    run = make_run()
    assert main(["render", str(run), "--repo", "slipway/tiny", "--tag", "v1.0.0"]) == 0
    put_beside(run, [another(tmp_path, "better", 19)])
    assert any(problem.where == "Beside other models" for problem in check_card(run))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": EvaluatedModel(name="m", digest="unpinned:m", parameters=None, endpoint="http://x/v1")}, "endpoint"),
        ({"suite": "starter", "settings": "float32"}, "different settings"),
        ({"samples": {}}, "samples of .* are missing"),
    ],
    ids=["served", "settings", "samples"],
)
def test_what_is_not_pinned_or_was_not_measured_alike_is_refused_and_leaves_what_was_there(
    make_run: MakeRun, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    run = make_run()
    put_beside(run, [another(tmp_path, "first", 10)])
    before = sorted(path.name for path in (run / "beside").iterdir())
    other = another(
        tmp_path, "second", 10, **{name: value for name, value in changes.items() if name in ("model", "samples")}
    )
    if "settings" in changes:
        card = json.loads((other / "scorecard.json").read_text())
        card["settings"]["dtype"] = changes["settings"]
        (other / "scorecard.json").write_text(json.dumps(card))
    with pytest.raises(UsageError, match=said):
        put_beside(run, [other])
    assert sorted(path.name for path in (run / "beside").iterdir()) == before


def test_a_run_is_not_put_beside_itself_and_no_model_twice(make_run: MakeRun, tmp_path: Path) -> None:
    run, other = make_run(), another(tmp_path, "other", 10)
    with pytest.raises(UsageError, match="own checkpoint"):
        put_beside(run, [run])
    with pytest.raises(UsageError, match="given twice"):
        put_beside(run, [other, other])


def test_the_chat_template_is_written_out_and_held_against_the_files(tmp_path: Path) -> None:
    run = tmp_path / "bare"
    make_checkpoint(run / "checkpoint")
    (run / "checkpoint" / "chat_template.jinja").write_text(CHATML)
    assert "the chat template makes" not in card_of(run), "nothing says what its special tokens are"
    (run / "checkpoint" / "tokenizer_config.json").write_text(json.dumps({"bos_token": {"content": "<s>"}}))
    assert "\n```text\n<s><|user|>How do I keep basil" in card_of(run).partition("<!-- prompt:begin -->")[2]
    assert main(["render", str(run), "--repo", "slipway/tiny", "--tag", "v1.0.0"]) == 0
    card = run / "bundle-preview" / "README.md"
    assert not [problem for problem in check_card(run) if problem.check == "numbers"]
    card.write_text(card.read_text().replace("<s><|user|>", "<|user|>"))
    assert [problem.where for problem in check_card(run) if problem.check == "numbers"] == ["How to use it"] * 2


@pytest.mark.parametrize("template", ["{{ strftime_now('%d %B') }}", "{{ raise_exception('no') }}", "{{ 'x' * 9000 }}"])
def test_a_template_that_tells_the_date_fails_or_writes_pages_is_not_shown(
    make_run: MakeRun, template: str, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    make_checkpoint(bare)
    (bare / "tokenizer_config.json").write_text(json.dumps({"bos_token": "<s>"}))
    (bare / "chat_template.jinja").write_text(CHATML)
    assert prompt_lines(bare) == [
        "```text",
        "<s><|user|>How do I keep basil alive on a windowsill?",
        "<|assistant|>",
        "```",
    ]
    (bare / "chat_template.jinja").write_text(template)
    assert prompt_lines(bare) == []
