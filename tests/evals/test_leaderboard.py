"""The leaderboard's figures are the scorecards', in tables of what was measured alike."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
from scored_runs import Page, a_score, boards, run_maker, scored, some_task

from evals.leaderboard import write
from evals.saved import SavedRun
from evals.scorecard import Interval, Sample, Score
from evals.statistics import NONE
from training.errors import UsageError


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    return run_maker(tmp_path)


def test_every_figure_in_every_form_is_the_scorecards(run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [run("base", [a_score("truth", "mc2", 0.4123)]), run("ppo", [a_score("truth", "mc2", 0.6581)])]
    write(runs, tmp_path / "out")
    lines = list(csv.DictReader((tmp_path / "out" / "leaderboard.csv").read_text().splitlines()))
    assert [(line["model"], float(line["value"])) for line in lines] == [("ppo", 0.6581), ("base", 0.4123)]
    assert [float(line["low"]) for line in lines] == pytest.approx([0.6081, 0.3623])
    markdown = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "**65.8%** [60.8, 70.8]" in markdown
    text = Page((tmp_path / "out" / "index.html").read_text()).text
    assert "65.8%" in text
    assert "41.2%" in text
    assert "60.8 – 70.8%" in text


def test_overlapping_intervals_are_marked_as_not_told_apart(run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [
        run(
            "a",
            [a_score("truth", "mc2", 0.50), a_score("swear", "rate", 0.30, higher_is_better=False, group="toxicity")],
        ),
        run(
            "b",
            [a_score("truth", "mc2", 0.56), a_score("swear", "rate", 0.10, higher_is_better=False, group="toxicity")],
        ),
        run(
            "c",
            [a_score("truth", "mc2", 0.20), a_score("swear", "rate", 0.31, higher_is_better=False, group="toxicity")],
        ),
    ]
    write(runs, tmp_path / "out")
    standing = {
        row["name"]: {key: cell["standing"] for key, cell in row["cells"].items()}
        for row in boards(tmp_path / "out")[0]["rows"]
    }
    assert standing == {
        "a": {"truth/mc2": "tied", "swear/rate": "behind"},
        "b": {"truth/mc2": "tied", "swear/rate": "best"},
        "c": {"truth/mc2": "behind", "swear/rate": "behind"},
    }


def test_other_settings_of_a_task_make_a_table_of_their_own_that_says_why(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    runs = [
        run("with_template", [a_score("truth", "mc2", 0.5)]),
        run("without", [a_score("truth", "mc2", 0.4)], tasks=[some_task("truth", chat_template=False, limit=20)]),
        run("other_judge", [a_score("truth", "mc2", 0.5, scorer="judge 2")]),
        run("other_task", [a_score("toxic", "rate", 0.5)]),
    ]
    write(runs, tmp_path / "out")
    found = boards(tmp_path / "out")
    assert [[row["name"] for row in board["rows"]] for board in found] == [
        ["with_template"],
        ["without"],
        ["other_judge"],
        ["other_task"],
    ]
    assert found[0]["why_separate"] is None
    assert "chat_template is off, not on (truth); limit is 20, not unset (truth)" in found[1]["why_separate"]
    assert "mc2 is judged by judge 2" in found[2]["why_separate"]
    assert found[3]["why_separate"] == "No task is shared with the first table."
    assert "chat_template is off, not on" in Page((tmp_path / "out" / "index.html").read_text()).text


def test_win_rates_against_other_checkpoints_stand_in_columns_of_their_own(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    def rates(value: float, against: str | None) -> list[Score]:
        return [a_score("help", "win_rate", value, against=against), a_score("help", "mc2", value)]

    base, tuned = (f"sha256:{digit * 64}" for digit in "12")
    write(
        [run("sft", rates(0.9, base)), run("ppo", rates(0.6, tuned)), run("other", rates(0.4, tuned))], tmp_path / "out"
    )
    (board,) = boards(tmp_path / "out")
    standing = {
        row["name"]: {column: cell["standing"] for column, cell in row["cells"].items()} for row in board["rows"]
    }
    assert standing == {
        "sft": {f"help/win_rate against {'1' * 12}": "alone", "help/mc2": "best"},
        "ppo": {f"help/win_rate against {'2' * 12}": "best", "help/mc2": "behind"},
        "other": {f"help/win_rate against {'2' * 12}": "behind", "help/mc2": "behind"},
    }


def test_samples_of_other_items_make_a_table_of_their_own(run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [
        run(name, [a_score("truth", "mc2", 0.5)], tasks=[some_task("truth", limit=20, items_sha256=digit * 64)])
        for name, digit in (("a", "1"), ("b", "2"))
    ]
    write(runs, tmp_path / "out")
    assert "items_sha256 is 2222" in boards(tmp_path / "out")[1]["why_separate"]


def test_another_dtype_makes_a_table_of_its_own(run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [run("a", [a_score("truth", "mc2", 0.5)]), run("b", [a_score("truth", "mc2", 0.5)], dtype="float32")]
    write(runs, tmp_path / "out")
    assert boards(tmp_path / "out")[1]["why_separate"] == (
        "Not comparable with the first table: dtype is float32, not bfloat16 (all tasks)."
    )


def test_a_digest_given_twice_is_kept_once_and_the_newest(run: Callable[..., Path], tmp_path: Path) -> None:
    same = "sha256:" + "12" * 32
    runs = [
        run("new", [a_score("truth", "mc2", 0.6)], digest=same, created="2026-11-02T00:00:00+00:00"),
        run("old", [a_score("truth", "mc2", 0.5)], digest=same, created="2026-11-01T00:00:00+00:00"),
    ]
    result = write(runs, tmp_path / "out")
    (board,) = boards(tmp_path / "out")
    assert [row["name"] for row in board["rows"]] == ["new"]
    assert result["dropped_duplicates"] == 1


def test_a_scorecard_that_gives_way_to_a_newer_one_is_named_with_what_only_it_has(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    same, truth = "sha256:" + "12" * 32, a_score("truth", "mc2", 0.5)
    older = run("older", [truth, a_score("swear", "rate", 0.5)], digest=same, created="2026-11-01T00:00:00+00:00")
    newer = run("newer", [truth], digest=same, created="2026-11-02T00:00:00+00:00")
    told = write([older, newer], tmp_path / "out")
    line = "older: the scorecard of 2026-11-01T00:00:00+00:00 (suite starter) is not shown"
    assert line in told["summary"]
    assert "only it has swear/rate" in told["summary"]
    assert line in Page((tmp_path / "out" / "index.html").read_text()).text
    assert "only it has swear/rate" in (tmp_path / "out" / "leaderboard.md").read_text()


def test_figures_in_other_units_are_not_ranked_together(run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [run("a", [a_score("t", "bleu", 0.0)]), run("b", [a_score("t", "bleu", 55.5, unit="points")])]
    write(runs, tmp_path / "out")
    assert "bleu is in points, not fraction (t)" in boards(tmp_path / "out")[1]["why_separate"]


def test_a_score_that_is_missing_is_absent_and_not_zero(run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [
        run("a", [a_score("truth", "mc2", 0.5), a_score("help", "win_rate", 0.6, group="helpfulness")]),
        run("b", [a_score("truth", "mc2", 0.5)]),
        run(
            "c",
            [
                a_score("truth", "mc2", 0.9),
                a_score("help", "win_rate", float("nan"), group="helpfulness", n=0, unscored=60),
            ],
        ),
    ]
    write(runs, tmp_path / "out")
    rows = {row["name"]: row for row in boards(tmp_path / "out")[0]["rows"]}
    assert "help/win_rate" not in rows["b"]["cells"]
    assert rows["a"]["cells"]["help/win_rate"]["standing"] == "alone"
    text = Page((tmp_path / "out" / "index.html").read_text()).text
    assert "not scored" in text
    assert "no value" in text


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no scorecard here"), ("not json", "not a valid Scorecard"), ('{"a": 1}', "not a valid Scorecard")],
)
def test_what_is_not_a_scorecard_is_refused_with_its_path(tmp_path: Path, content: str | None, message: str) -> None:
    file = tmp_path / "scorecard.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        write([file], tmp_path / "out")
    assert str(tmp_path) in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_the_same_scorecards_give_the_same_bytes(run: Callable[..., Path], tmp_path: Path) -> None:
    runs = [run("a", [a_score("truth", "mc2", 0.5)]), run("b", [a_score("truth", "mc2", 0.6)])]
    write(runs, tmp_path / "one")
    write(runs, tmp_path / "two")
    for file in (tmp_path / "one").rglob("*.*"):
        assert file.read_bytes() == (tmp_path / "two" / file.relative_to(tmp_path / "one")).read_bytes()


def eight_answers() -> list[Sample]:
    return [Sample(item=str(n), prompt="p", response="r", values={"mc2": n / 8}) for n in range(8)]


def test_a_figure_that_was_typed_in_is_refused_and_nothing_is_written(run: Callable[..., Path], tmp_path: Path) -> None:
    samples = eight_answers()
    directory = run("a", [scored("truth", "mc2", samples)], samples={"truth": samples})
    file = directory / "scorecard.json"
    text = file.read_text()
    assert '"value": 0.4375' in text
    file.write_text(text.replace('"value": 0.4375', '"value": 0.9'))
    with pytest.raises(UsageError, match=r"truth/mc2: the value is 0\.9, the samples give 0\.4375"):
        write([directory], tmp_path / "out")
    (directory / "samples" / "truth.jsonl").unlink()
    with pytest.raises(UsageError, match=r"0\.9 lies outside of its interval"):
        write([directory], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_figure_without_its_samples_is_marked_as_not_checked_in_every_form(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    samples = eight_answers()
    with_samples = run("kept", [scored("truth", "mc2", samples)], samples={"truth": samples})
    without = run("lost", [scored("truth", "mc2", samples)], samples={"truth": samples})
    (without / "samples" / "truth.jsonl").unlink()
    result = write([with_samples, without], tmp_path / "out")
    assert "lost: not checked (samples not present): truth/mc2" in str(result["summary"])
    assert "kept" not in str(result["summary"])
    rows = {row["name"]: row["cells"]["truth/mc2"]["unchecked"] for row in boards(tmp_path / "out")[0]["rows"]}
    assert rows == {"kept": None, "lost": "samples not present"}
    lines = csv.DictReader((tmp_path / "out" / "leaderboard.csv").read_text().splitlines())
    assert {line["model"]: line["unchecked"] for line in lines} == {"kept": "", "lost": "samples not present"}
    markdown = (tmp_path / "out" / "leaderboard.md").read_text()
    assert [name for name in ("kept", "lost") for line in markdown.splitlines() if name in line and "†" in line] == [
        "lost"
    ]
    assert Page((tmp_path / "out" / "index.html").read_text()).text.count("not checked: samples not present") == 1


def test_an_interval_that_there_is_none_of_is_kept_and_shown_as_none(run: Callable[..., Path], tmp_path: Path) -> None:
    samples = [Sample(item="1", prompt="p", response="r", values={"tokens": 64.0})]
    nothing = Interval(low=-math.inf, high=math.inf, method=NONE)
    score = scored("help", "tokens", samples, unit="tokens", interval=nothing, headline=True)
    directory = run("a", [score], samples={"help": samples})
    json.loads(
        (directory / "scorecard.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is no JSON")
    )
    assert SavedRun.open(directory).scorecard.scores == [score]
    write([directory], tmp_path / "out")
    markdown = (tmp_path / "out" / "leaderboard.md").read_text()
    assert "64.00 no interval |" in markdown
    page = (tmp_path / "out" / "index.html").read_text()
    assert "no interval" in Page(page).text
    assert "no value" not in Page(page).text
    assert 'data-value="64.0"' in page
