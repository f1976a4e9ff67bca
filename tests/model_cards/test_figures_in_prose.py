"""A figure in a card's sentences that no record gives is listed by `model_cards check`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from from_elsewhere import copied

from model_cards.__main__ import main
from model_cards.card import render_card
from model_cards.figures_in_prose import unrecorded

MakeRun = Callable[..., Path]


def written(run: Path, add: str = "") -> Path:
    for path, content in render_card(run, repo_id="slipway/tiny", tag="v2.0.1").files.items():
        (run / "bundle" / path).parent.mkdir(parents=True, exist_ok=True)
        (run / "bundle" / path).write_bytes(content)
    readme = run / "bundle" / "README.md"
    readme.write_text(readme.read_text().replace("## Intended use", f"{add}\n\n## Intended use", 1))
    return readme


def test_a_card_as_it_was_rendered_has_none(make_run: MakeRun) -> None:
    run = make_run()
    assert unrecorded(written(run), run) == []


@pytest.mark.parametrize("typed", ["97.3", "99.9%", "77 points", "1,234.5"])
def test_a_figure_that_was_typed_into_a_sentence_is_listed_with_its_line(
    make_run: MakeRun, typed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_run()
    readme = written(run, f"It is better than others by {typed} on everything.")
    (problem,) = unrecorded(readme, run)
    line = int(problem.where.removeprefix("line "))
    assert typed in readme.read_text().splitlines()[line - 1]
    assert problem.what.startswith(typed.split("%")[0].split(" ")[0])
    assert main(["check", str(run)]) == 2
    assert f"prose: {typed.split('%')[0].split(' ')[0]}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        "Its win rate is 80.0%, as the table has it.",
        "It needs transformers 5.23.0 and Python 3-11, since 2026-11-29; see [notes](https://a.example/9.87).",
        "```\nloss 2.345\n```",
        "`0.123`",
    ],
)
def test_figures_of_the_records_versions_names_and_code_are_not_listed(make_run: MakeRun, words: str) -> None:
    run = make_run()
    assert unrecorded(written(run, words), run) == []


def test_figures_of_the_authors_are_theirs_and_those_in_the_words_of_a_picture_are_ours(make_run: MakeRun) -> None:
    run = copied(make_run(baseline=False), "---\nlicense: mit\n---\n# Harbour\n\nIt reaches 45.23 %.\n")
    readme = written(run)
    assert unrecorded(readme, run) == []
    readme.write_text(readme.read_text().replace("![Dot plot", "![99.9%. Dot plot"))
    assert [problem.what[:4] for problem in unrecorded(readme, run)] == ["99.9"]
