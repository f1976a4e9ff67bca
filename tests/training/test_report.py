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
from training.report import panels, read_metrics

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


def test_a_run_with_nothing_to_draw_is_refused(tmp_path: Path, capsys) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "no metrics.jsonl here" in capsys.readouterr().err
    assert main(["report", str(run_of(tmp_path, PPO_LINES[:1]))]) == 2
    assert "nothing that could be drawn" in capsys.readouterr().err
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(UsageError, match=r"line 2"):
        read_metrics(tmp_path)


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
