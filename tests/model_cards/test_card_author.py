"""The card of a checkpoint from elsewhere: its authors' words go on, and what we say stands apart from them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from from_elsewhere import copied
from huggingface_hub import ModelCardData

from model_cards.author import NOTE, figures_of_authors, read_author_card
from model_cards.card import render_card
from model_cards.check import check_card
from release.local_hub.card_check import check_card as check_as_the_hub
from training.errors import UsageError

MakeRun = Callable[..., Path]
CARD = """---
license: mit
language: [en, de]
base_model: Qwen/Qwen2.5-0.5B
datasets: [allenai/c4]
tags: [ships]
pipeline_tag: text-generation
model-index:
- name: harbour
  results:
  - task: {type: text-generation}
    dataset: {name: MMLU, type: cais/mmlu}
    metrics: [{type: accuracy, value: 45.2}]
---
# Harbour

<img src="banner.png">

| MMLU | 45.2 |
|---|---|

```text



three lines above
```
Ends here.
"""


def written(run: Path) -> str:
    for path, content in render_card(run, repo_id="slipway/harbour", tag="v1.0.0").files.items():
        (run / "bundle" / path).parent.mkdir(parents=True, exist_ok=True)
        (run / "bundle" / path).write_bytes(content)
    return (run / "bundle" / "README.md").read_text()


def test_the_authors_words_and_metadata_go_on_and_ours_stand_below_them(make_run: MakeRun) -> None:
    run = copied(make_run(scored=False, baseline=False), CARD)
    text = written(run)
    assert CARD.partition("---\n# ")[2].strip() in text
    assert text.index(NOTE) < text.index("# Harbour") < text.index("## This release")
    head = yaml.safe_load(text.split("---\n")[1])
    assert (head["license"], head["language"], head["base_model"]) == ("mit", ["en", "de"], "Qwen/Qwen2.5-0.5B")
    assert head["tags"] == ["ships", "slipway", "conversational"]
    assert head["library_name"] == "transformers"
    assert "not measured here" in head["model-index"][0]["results"][0]["source"]["name"]
    assert ModelCardData(**head).eval_results
    assert check_as_the_hub(text, "model") == ([], [])
    for untrue in ("on no Hub", "Copying it", "Hardware", "Method"):
        assert untrue not in text
    assert [problem.check for problem in check_card(run) if problem.check != "sections"] == []
    bill = json.loads((run / "bundle" / "bom.cdx.json").read_text())
    assert {one["name"] for one in bill["components"]} == {"Qwen/Qwen2.5-0.5B", "allenai/c4"}


def test_figures_measured_here_stand_apart_from_the_authors_and_are_held_against_the_records(make_run: MakeRun) -> None:
    run = copied(make_run(baseline=False), CARD)
    text = written(run)
    assert text.index("<!-- author:end -->") < text.index("## Scores measured here") < text.index("`help/win_rate`")
    results = yaml.safe_load(text.split("---\n")[1])["model-index"][0]["results"]
    assert len(results) > 1
    assert "source" not in results[-1]
    (run / "bundle" / "README.md").write_text(text.replace("Ends here.", "MMLU is 99.9."))
    assert "the authors' part is not what they wrote" in {problem.what for problem in check_card(run)}
    (run / "bundle" / "README.md").write_text(text.replace(NOTE, ""))
    assert any("are theirs" in problem.what for problem in check_card(run))
    line = next(line for line in text.splitlines() if line.startswith("|") and "`help/win_rate`" in line)
    digit = re.search(r"\d", line.partition("%")[0][::-1])
    assert digit
    (run / "bundle" / "README.md").write_text(text.replace(line, line.replace("%", "9%", 1)))
    assert any(problem.check == "numbers" for problem in check_card(run))


def test_without_a_card_only_what_is_known_is_said(make_run: MakeRun) -> None:
    text = written(copied(make_run(scored=False, baseline=False), None))
    assert "Its files came without a card" in text
    for untrue in ("on no Hub", "unchanged but", "Copying it", "started", "language:"):
        assert untrue not in text


def test_a_card_of_ours_that_came_with_a_model_gives_on_its_authors_words_only(
    make_run: MakeRun, tmp_path: Path
) -> None:
    (tmp_path / "README.md").write_text(written(copied(make_run(scored=False, baseline=False), CARD)))
    again = read_author_card(tmp_path / "README.md")
    assert again is not None
    assert again.body == CARD.partition("---\n# ")[2].join(["# ", ""]).strip()
    assert again.metadata["base_model"] == "Qwen/Qwen2.5-0.5B"


@pytest.mark.parametrize("head", ["---\nlicense: [mit\n---\n", "---\n- mit\n---\n"])
def test_metadata_that_cannot_be_read_is_named_with_its_file(tmp_path: Path, head: str) -> None:
    (tmp_path / "README.md").write_text(f"{head}# A model\n")
    with pytest.raises(UsageError, match="authors' card cannot be read"):
        read_author_card(tmp_path / "README.md")


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("| MMLU | 45.2 | 44 |", 1),
        ("It reaches 45 % of them.", 1),
        ("A loss of 2.31 at the end.", 1),
        ("Needs transformers 4.40.0 and Qwen2.5-0.5B, page 12.", 0),
        ("| Licence | mit |", 0),
        ("```\nloss 2.31\n```", 0),
    ],
)
def test_a_figure_is_told_from_a_version_and_a_name(line: str, count: int) -> None:
    assert figures_of_authors(f"---\nvalue: 45.2\n---\n{line}\n", ours=False) == count
