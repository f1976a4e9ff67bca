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

from model_cards.author import NOTE, figures_of_authors, mark_of, note, read_author_card, words_of_authors
from model_cards.card import render_card
from model_cards.check import check_card
from model_cards.page_parts import headings
from release.local_hub.card_check import check_card as check_as_the_hub
from release.local_hub.pages.markdown import render_card as shown
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
    assert (
        text.index(note(mark_of(words_of_authors(text) or "")))
        < text.index("# Harbour")
        < text.index("## This release")
    )
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
    (run / "bundle" / "README.md").write_text(text.replace("Its figures are theirs", ""))
    assert any("are theirs" in problem.what for problem in check_card(run))
    line = next(line for line in text.splitlines() if line.startswith("|") and "`help/win_rate`" in line)
    digit = re.search(r"\d", line.partition("%")[0][::-1])
    assert digit
    (run / "bundle" / "README.md").write_text(text.replace(line, line.replace("%", "9%", 1)))
    assert any(problem.check == "numbers" for problem in check_card(run))


@pytest.mark.parametrize(
    ("end", "closing"),
    [
        ("```python\nimport harbour", "```"),
        ("<details>\n<summary>More</summary>\n\n~~~\ncode", "`` ~~~ ``, `` </details> ``"),
        ("<table>\n<tr><td>45.2", "`` </td> </tr> </table> ``"),
        ("- <table>\n\nIn a list", "`` </table> </li> </ul> ``"),
        ("<!-- a remark", "-->"),
        ("<div><!--\n\na remark", "-->"),
        ("In <b>bold letters", "</b>"),
    ],
)
def test_what_the_authors_leave_open_is_closed_and_hides_nothing_of_ours(
    make_run: MakeRun, end: str, closing: str
) -> None:
    run = copied(make_run(scored=False, baseline=False), f"---\nlicense: mit\n---\n# Harbour\n\n{end}\n")
    text = written(run)
    mark = mark_of(words_of_authors(text) or "")
    assert closing in text.partition("<!-- author:begin")[0]
    assert [name for _, name in headings(text.partition("author:begin")[2]) if mark in name] == [
        f"{name} `{mark}`" for name in ("This release", "How to load this release", "How to verify it")
    ]
    page = shown(text, base="/slipway/harbour", revision="main")
    assert f"<h2>This release <code>{mark}</code></h2>" in re.sub(r" id=\"[^\"]*\"", "", page)
    assert [problem for problem in check_card(run) if problem.check != "sections"] == []


@pytest.mark.parametrize(
    ("end", "what"),
    [
        ('<div title="\n\nan attribute', "never closes"),
        ("<plaintext>\n\nall", "never closes"),
        ("[run.json]: https://elsewhere.example\n[bill of materials]: x\n[plan]: x", None),
        ("[95% interval]: https://elsewhere.example", "how the words of the release below it are shown"),
    ],
)
def test_a_card_that_nothing_closes_or_that_gives_our_words_another_meaning_is_refused(
    make_run: MakeRun, end: str, what: str | None
) -> None:
    run = copied(make_run(baseline=False), f"---\nlicense: mit\n---\n# Harbour\n\n{end}\n")
    if what is None:
        written(run)
        return
    with pytest.raises(UsageError, match=what) as caught:
        written(run)
    assert "README.md beside the weights" in (caught.value.next_step or "")


def test_headings_like_ours_in_the_authors_words_are_told_from_ours_by_a_mark_that_these_do_not_hold(
    make_run: MakeRun,
) -> None:
    ours = "## This release\n\nScored here.\n\n## Scores measured here\n\n| help | 99.9% |\n|---|---|\n"
    ours += "\n## How to verify it\n\nTrust us."
    run = copied(make_run(baseline=False), f"---\nlicense: mit\n---\n# Harbour\n\n{ours}\n")
    text = written(run)
    words = words_of_authors(text) or ""
    mark = mark_of(words)
    assert mark not in words
    second = [name for level, name in headings(text.partition("author:begin")[2]) if level == 2]
    assert [name for name in second if mark not in name] == ["This release", "Scores measured here", "How to verify it"]
    assert f"down to the heading “This release `{mark}`”" in text
    beyond = text.replace(
        f"## Scores measured here `{mark}`", f"## Scores\n\nHelp is 99.9%.\n\n## Scores measured here `{mark}`"
    )
    (run / "bundle" / "README.md").write_text(beyond)
    assert "the heading “Scores” is not the authors'" in str([problem.what for problem in check_card(run)])
    (run / "bundle" / "README.md").write_text(text.replace("Trust us.", f"Trust `{mark}`."))
    assert any(problem.check == "author" for problem in check_card(run))


def test_a_card_of_before_headings_had_a_mark_is_still_one(make_run: MakeRun) -> None:
    run = copied(make_run(scored=False, baseline=False), CARD)
    text = written(run)
    mark = mark_of(words_of_authors(text) or "")
    (run / "bundle" / "README.md").write_text(text.replace(note(mark), NOTE).replace(f" `{mark}`", ""))
    assert [problem for problem in check_card(run) if problem.check != "sections"] == []


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
