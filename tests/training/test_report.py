"""The report draws what a run has logged, finished or not, and nothing from the run becomes markup."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from training.__main__ import main
from training.curves import Series, panel, ticks
from training.errors import UsageError
from training.metrics_file import read_metrics
from training.report import panels

PPO_LINES = [
    {"step": n, "episodes": 16 * n, "reward_mean": n / 10, "reward_std": 0.5, "kl": n**2 / 100, "kl_coef": 0.05}
    for n in range(1, 6)
]
TRL_LINES = [
    {"step": 5, "epoch": 0.1, "loss": 0.7, "learning_rate": 5e-4, "mean_reward": 0.0},
    {"step": 10, "epoch": 0.2, "loss": 0.5, "learning_rate": 2e-4, "mean_reward": 0.4},
    {"step": 10, "epoch": 0.2, "train_runtime": 9.0, "train_loss": 0.6},
]


def run_of(folder: Path, lines: list[dict], end: str = "\n") -> Path:
    (folder / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines) + end)
    return folder


def test_the_curves_of_ppo_run_over_episodes_and_a_fixed_coefficient_is_none() -> None:
    drawn = dict(panels(PPO_LINES))
    assert list(drawn) == ["Reward", "KL to the reference (nats a response)"]
    (reward,) = drawn["Reward"]
    assert reward.points[0] == (16.0, 0.1)
    assert reward.band == [0.5] * 5


def test_the_curves_of_trls_trainers_run_over_steps_without_their_last_summary() -> None:
    drawn = dict(panels(TRL_LINES))
    assert list(drawn) == ["Loss", "The reward model's scores", "Learning rate"]
    assert drawn["Loss"][0].points == [(5.0, 0.7), (10.0, 0.5)]


def test_the_kl_of_trls_online_trainers_is_named_as_one_of_tokens() -> None:
    lines = [{"step": step, "reward": 0.1 * step, "kl": 0.01 * step} for step in (1, 2)]
    assert list(dict(panels(lines))) == ["Reward", "KL to the reference (nats a token)"]


def test_a_number_that_is_not_known_gets_a_panel_of_its_own() -> None:
    assert dict(panels([{"step": 1, "surprise": 1.0}, {"step": 2, "surprise": 2.0}]))["surprise"]


def test_a_page_of_an_unfinished_run_needs_nothing_beside_it(tmp_path: Path, capsys) -> None:
    run = run_of(tmp_path, [*PPO_LINES, {"step": 6, "episodes": 96, "<script>": 1.0}], end='\n{"step": 7, "epi')
    assert main(["report", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    page = Path(told["report"]).read_text()
    assert (told["lines"], told["last"]["kl"]) == (6, 0.25)
    assert "6 lines so far; the run is not finished" in page
    assert not re.search(r"(?:src|href)=|url\(|<script", page)
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_a_run_with_nothing_to_draw_is_refused_and_what_is_there_is_said(tmp_path: Path, capsys) -> None:
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    assert "found:    nothing" in capsys.readouterr().err
    (tmp_path / "notes.txt").write_text("no run")
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert "no metrics.jsonl here" in said
    assert "a directory with notes.txt" in said
    (tmp_path / ".state").mkdir()
    assert main(["report", str(tmp_path)]) == 2
    assert "a run that has logged nothing yet" in capsys.readouterr().err
    assert main(["report", str(run_of(tmp_path, [{"step": n, "loss": float("nan")} for n in (1, 2)]))]) == 2
    said = capsys.readouterr().err
    assert "nothing that could be drawn" in said
    assert "loss is no finite number in 2 lines of 2: 1, 2" in said


@pytest.mark.parametrize("damage", [b"nonsense", b"[1, 2]", b'{"step": \xff}', b'{"step": 2, "lo{"step": 2}'])
def test_a_damaged_line_is_named_with_what_it_says(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1}\n' + damage + b'\n{"step": 3}\n')
    with pytest.raises(UsageError, match=r"no JSON object") as error:
        read_metrics(tmp_path)
    assert str(error.value.where).endswith("metrics.jsonl, line 2")
    assert error.value.next_step


def test_what_cannot_be_drawn_is_said_on_the_page_and_the_rest_is_drawn(tmp_path: Path, capsys) -> None:
    broken = [
        {**PPO_LINES[0], "step": 6, "episodes": 96, "kl": float("nan"), "reward_mean": 10**400},
        {"episodes": 112},
    ]
    run = run_of(tmp_path, [*PPO_LINES, *broken, {"episodes": "many", "kl": 2.0}], end='\n\n{"step": 9, "kl\u2028')
    (run / "completions.jsonl").write_text('{"step": 1, "prompt": "p"}\n')
    assert main(["report", str(run), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["not_drawn"] == [
        "line 10 is not whole and is left out: it is being written, or its writer was ended",
        "reward_mean is no finite number in 1 line of 8: 6",
        "kl is no finite number in 1 line of 8: 6",
        "2 lines without a number under step: 7, 8",
        "1 row of completions.jsonl without prompt, response, reward or KL",
    ]
    assert told["last"]["kl"] == 0.25
    page = Path(told["report"]).read_text()
    assert all(note in page for note in told["not_drawn"])
    for drawing in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        ElementTree.fromstring(drawing)


def test_completions_that_cannot_be_read_take_no_curves_away(tmp_path: Path, capsys) -> None:
    run = run_of(tmp_path, PPO_LINES)
    (run / "completions.jsonl").write_bytes(b"\xff\xfe\n")
    assert main(["report", str(run)]) == 0
    assert "no sampled responses, for completions.jsonl cannot be read" in capsys.readouterr().out


def test_a_run_of_one_line_is_drawn_as_points(tmp_path: Path, capsys) -> None:
    assert main(["report", str(run_of(tmp_path, PPO_LINES[:1])), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["last"] == {"reward_mean": 0.1, "kl": 0.01}
    assert "<circle" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-3.2, 4.1, [-4.0, -2.0, 0.0, 2.0, 4.0, 6.0]),
        (2.1e-5, 3.9e-5, [2e-5, 2.5e-5, 3e-5, 3.5e-5, 4e-5]),
        (5.0, 5.0, [4.4, 4.6, 4.8, 5.0, 5.2, 5.4, 5.6]),
    ],
)
def test_ticks_are_round_and_lie_around_the_numbers(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_a_curves_ends_lie_at_the_edges_of_its_panel_and_higher_is_further_up() -> None:
    drawing = ElementTree.fromstring(panel("Loss", [Series("loss", [(0.0, 1.0), (10.0, 0.0)])], "step"))
    (curve,) = [element for element in drawing if element.tag == "polyline"]
    (x0, y0), (x1, y1) = [tuple(map(float, place.split(","))) for place in curve.get("points").split()]
    assert (x0, x1) == (58.0, 448.0)
    assert (y0, y1) == (12.0, 200.0)
    assert "loss goes from 1 to 0" in drawing.get("aria-label")
