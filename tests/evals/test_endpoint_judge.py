"""A judge behind an endpoint: both orders, ties half, what cannot be read is missing, and its key is nowhere."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from judge_server import judging, service

from evals.endpoint_judge import Pair, Verdict, open_endpoint_judge, side_of
from evals.json_service import ServiceError
from evals.length import CONTROLLED, LONGER
from evals.preferences import BOTH_ORDERS, METRIC, READ_FIRST, UNREADABLE
from evals.run import Request, evaluate
from evals.saved import SavedRun
from training.errors import UsageError

KEY = "sk-judge-0123456789"


def longer(a: str, b: str) -> str:
    return f"The longer one.\nVerdict: {'A' if len(a) > len(b) else 'B' if len(b) > len(a) else 'tie'}"


@pytest.mark.parametrize(
    ("said", "side"),
    [
        ("It is right.\nVerdict: A", "A"),
        ("**Verdict: B**\n\n", "B"),
        ("verdict: TIE.", "tie"),
        ("Verdict: A\nOn second thoughts, B.", None),
        ("A", None),
        ("Verdict: A or B", None),
        ("Verdict: C", None),
        ("", None),
    ],
)
def test_a_verdict_is_the_last_line_and_nothing_else_is_one(said: str, side: str | None) -> None:
    assert side_of(said) == side


def test_a_win_is_the_mean_of_both_orders_and_missing_where_one_is() -> None:
    assert Verdict("A", "B").win == 1.0
    assert Verdict("B", "A").win == 0.0
    assert Verdict("A", "A").win == 0.5
    assert Verdict("tie", "B").win == 0.75
    assert Verdict("A", None).win is None
    assert [Verdict("A", "B").agrees, Verdict("tie", "tie").agrees, Verdict("A", "A").agrees] == [True, True, False]


def test_a_judge_that_prefers_what_it_reads_first_makes_every_pair_half(tmp_path: Path) -> None:
    with service(judging(lambda *_: "Verdict: A")) as served:
        judge = open_endpoint_judge("judge-1", served.url)
        pairs = [Pair("Why?", "Because.", "No idea."), Pair("How?", "Like this.", "Like that.")]
        found = judge.verdicts(pairs, tmp_path)
        assert [verdict.win for verdict in found] == [0.5, 0.5]
        assert [verdict.agrees for verdict in found] == [False, False]
        assert len(served.asked) == 4
        assert judge.verdicts(pairs, tmp_path) == found
        assert len(served.asked) == 4, "what was judged is not asked again"


def test_equal_answers_are_a_tie_that_nobody_is_asked_about(tmp_path: Path) -> None:
    with service(judging(longer)) as served:
        assert open_endpoint_judge("judge-1", served.url).verdicts([Pair("Why?", "So.", "So.")], tmp_path)[0].win == 0.5
        assert served.asked == []


def test_a_busy_judge_is_asked_again_and_one_that_stays_so_ends_the_task(tmp_path: Path) -> None:
    with service(judging(longer)) as served:
        judge = open_endpoint_judge("judge-1", served.url, pauses=(0.0, 0.0))
        served.fail_first = 2
        assert judge.verdicts([Pair("Why?", "Because of it.", "So.")], tmp_path)[0].win == 1.0
        served.fail_first = 3
        with pytest.raises(ServiceError, match="does not answer") as refused:
            judge.verdicts([Pair("Why?", "Another.", "So.")], tmp_path)
        assert "503" in str(refused.value)


def test_a_wrong_key_is_refused_before_anything_is_computed_and_stands_nowhere(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong-9876543210")
    with service(judging(longer, KEY)) as served, pytest.raises(ServiceError) as refused:
        open_endpoint_judge("judge-1", served.url).check()
    assert "refuses the key" in str(refused.value)
    assert "sk-wrong-9876543210" not in str(refused.value)
    with pytest.raises(UsageError, match="more than an address"):
        open_endpoint_judge("judge-1", "https://host/v1?key=abc")


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    file = tmp_path / "helpful.yaml"
    file.write_text(
        "description: h\ntasks:\n  - {task: starter_helpfulness, group: helpfulness, scoring: judge, chat_template: true,\n"
        "     minimum_coverage: 0.5, generation: {max_gen_toks: 8}}\n"
    )
    return file


def test_the_command_gives_a_win_rate_in_both_orders_beside_length(
    asked: Request, models: Path, suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The judge prefers the longer answer, and writes no verdict for one of six pairs."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    request = replace(asked, suite=str(suite), judge=None, out=tmp_path / "parent")
    evaluate(request)
    skip = SavedRun.open(tmp_path / "parent").samples("starter_helpfulness")[0].response or ""

    def verdict(a: str, b: str) -> str:
        return "I cannot decide." if skip.strip() in (a.strip(), b.strip()) else longer(a, b)

    with service(judging(verdict, KEY)) as served:
        child = replace(
            request,
            source=str(models / "child"),
            out=tmp_path / "child",
            baseline=tmp_path / "parent",
            judge_endpoint=served.url,
            judge_model="judge-1",
        )
        card = evaluate(child)
        pairs = [body for path, body, _ in served.asked if path == "/v1/chat/completions"][1:]
        assert len(pairs) == 2 * 6
        assert all(body["temperature"] == 0 and body["model"] == "judge-1" for body in pairs)
    score = card.score("starter_helpfulness", METRIC)
    samples = SavedRun.open(tmp_path / "child").samples("starter_helpfulness")
    mine = [(len(s.response or ""), len(str(s.detail["parent_response"])), s.values[METRIC]) for s in samples]
    read = [(a, b, win) for a, b, win in mine if win is not None]
    assert (score.n, score.unscored) == (5, 1)
    assert score.value == pytest.approx(sum(win for *_, win in read) / 5)
    assert score.stderr > 0 or len({win for *_, win in read}) == 1
    assert score.baseline[UNREADABLE] == pytest.approx(1 / 6)
    assert score.baseline[BOTH_ORDERS] == 1.0
    assert score.baseline[READ_FIRST] == pytest.approx(0.5)
    assert score.baseline[LONGER] == pytest.approx(score.value), "this judge looks at nothing but length"
    assert CONTROLLED in score.baseline
    assert "judge judge-1 at" in (score.scorer or "")
    written = "".join(file.read_text(errors="replace") for file in (tmp_path / "child").rglob("*") if file.is_file())
    assert KEY not in written


def test_a_file_of_a_baselines_answers_takes_the_parents_place(
    asked: Request, suite: Path, tmp_path: Path, models: Path
) -> None:
    prompts = {
        row["prompt"]
        for row in map(json.loads, Path("evals/tasks/data/starter_helpfulness_prompts.jsonl").read_text().splitlines())
    }
    rows: list[dict[str, Any]] = [{"prompt": prompt + " ", "answer": "No."} for prompt in sorted(prompts)]
    (tmp_path / "davinci.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    suite.write_text(suite.read_text().replace("generation:", "reference: davinci.jsonl, generation:"))
    with service(judging(longer)) as served:
        card = evaluate(
            replace(
                asked,
                suite=str(suite),
                out=tmp_path / "run",
                limit=3,
                judge=models / "judge",
                judge_endpoint=served.url,
                judge_model="judge-1",
            )
        )
    for metric in (METRIC, "win_rate"):
        score = card.score("starter_helpfulness", metric)
        assert "against davinci.jsonl sha256:" in (score.scorer or "")
    assert card.score("starter_helpfulness", METRIC).value == 1.0, "every answer of eight tokens is longer than 'No.'"
    (tmp_path / "davinci.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:1]))
    with pytest.raises(UsageError, match="lack requests"):
        evaluate(replace(asked, suite=str(suite), out=tmp_path / "again", limit=3))
