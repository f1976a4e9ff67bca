"""The leaderboard: what it puts side by side, what it keeps apart, and that nothing in a scorecard becomes markup."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from evals.leaderboard import write
from evals.scorecard import EvaluatedModel, Interval, Sample, Score, Scorecard, Settings, TaskSettings
from training.errors import UsageError

ATTACK = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{ 7*7 }}|`<b>"


def a_score(task: str, metric: str, value: float, *, half: float = 0.05, **changes: Any) -> Score:
    fields: dict[str, Any] = {
        "task": task,
        "metric": metric,
        "group": "truthfulness",
        "value": value,
        "stderr": half / 1.96,
        "interval": Interval(low=value - half, high=value + half, method="bootstrap over documents, 10,000 resamples"),
        "n": 60,
        "unscored": 0,
        "higher_is_better": True,
        "headline": True,
        "description": "share of questions answered truthfully",
    }
    return Score(**(fields | changes))


def some_task(name: str, **changes: Any) -> TaskSettings:
    fields: dict[str, Any] = {
        "task": name,
        "version": "1",
        "data_id": f"slipway/{name}",
        "data_sha256": "ab" * 32,
        "chat_template": True,
        "items": 60,
    }
    return TaskSettings(**(fields | changes))


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Make a run directory with a scorecard and samples; every part can be given."""

    def make(
        name: str,
        scores: list[Score],
        *,
        digest: str | None = None,
        tasks: list[TaskSettings] | None = None,
        samples: dict[str, list[Sample]] | None = None,
        model: str | None = None,
        created: str = "2026-11-01T10:00:00+00:00",
        **settings: Any,
    ) -> Path:
        directory = tmp_path / name
        hashes = {}
        for task, rows in (samples or {}).items():
            content = "".join(row.model_dump_json() + "\n" for row in rows).encode()
            (directory / "samples").mkdir(parents=True, exist_ok=True)
            (directory / "samples" / f"{task}.jsonl").write_bytes(content)
            hashes[task] = hashlib.sha256(content).hexdigest()
        card = Scorecard(
            model=EvaluatedModel(
                name=model or f"/home/someone/runs/{name}/checkpoint",
                digest=digest or f"sha256:{hashlib.sha256(name.encode()).hexdigest()}",
                parameters=134_515_008,
            ),
            scores=scores,
            settings=Settings(
                **(
                    {
                        "suite": "starter",
                        "suite_sha256": "cd" * 32,
                        "backend": "slipway prefix tree",
                        "dtype": "bfloat16",
                        "device": "cpu",
                        "batch_size": 8,
                        "seed": 0,
                        "tasks": tasks or [some_task(task) for task in sorted({score.task for score in scores})],
                    }
                    | settings
                )
            ),
            samples=hashes,
            packages={"lm_eval": "0.4.13"},
            git_revision=None,
            created=created,
            seconds=12.0,
        )
        card.write(directory / "scorecard.json")
        return directory

    return make


class Page(HTMLParser):
    """What a browser would make of a page: its tags, its attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def boards(out: Path) -> list[dict[str, Any]]:
    return list(json.loads((out / "leaderboard.json").read_text())["boards"])


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


def test_nothing_in_a_scorecard_or_a_sample_becomes_markup(run: Callable[..., Path], tmp_path: Path) -> None:
    samples = {"truth": [Sample(item=ATTACK, prompt=ATTACK, target=ATTACK, response=ATTACK, values={"mc2": 0.0})]}
    harmless = [Sample(item="1", prompt="p", target="t", response="r", values={"mc2": 0.0})]
    changes = {"scorer": ATTACK, "description": ATTACK, "baseline": {ATTACK: 0.5}}
    attacked = run("attacked", [a_score("truth", "mc2", 0.5, **changes)], samples=samples, model=ATTACK, suite=ATTACK)
    plain_changes = {"scorer": "s", "description": "d", "baseline": {"b": 0.5}}
    plain = run("plain", [a_score("truth", "mc2", 0.5, **plain_changes)], samples={"truth": harmless})
    write([attacked], tmp_path / "attacked_page")
    write([plain], tmp_path / "plain_page")
    page = Page((tmp_path / "attacked_page" / "index.html").read_text())
    expected = Page((tmp_path / "plain_page" / "index.html").read_text())
    assert page.tags == expected.tags
    assert {name for name, _ in page.attributes} == {name for name, _ in expected.attributes}
    assert ATTACK in page.text
    (attacked_model,) = (tmp_path / "attacked_page" / "models").iterdir()
    (plain_model,) = (tmp_path / "plain_page" / "models").iterdir()
    model = Page(attacked_model.read_text())
    assert model.tags == Page(plain_model.read_text()).tags
    assert ATTACK in model.text
    assert "<script" not in (tmp_path / "attacked_page" / "leaderboard.svg").read_text()
    markdown = (tmp_path / "attacked_page" / "leaderboard.md").read_text()
    assert "<" not in markdown
    assert "{{" not in markdown


def test_the_page_runs_only_its_own_script_and_asks_nothing_of_the_network(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    write([run("a", [a_score("truth", "mc2", 0.5)])], tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    page = Page(text)
    policy = next(value for name, value in page.attributes if name == "content" and value and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not [
        value
        for name, value in page.attributes
        if name in ("src", "href") and value and not value.startswith(("#", "data:", "models/"))
    ]
    assert "style" not in {name for name, _ in page.attributes}
    assert not {name for name, _ in page.attributes if name.startswith("on")}
    assert not re.search(r"https?://", text)


def test_offensive_samples_are_behind_a_click_and_others_are_not(run: Callable[..., Path], tmp_path: Path) -> None:
    samples = {
        "truth": [Sample(item="1", prompt="Is the earth flat?", response="Yes", values={"mc2": 0.0})],
        "swear": [Sample(item="2", prompt="You are", response="a rude word", values={"rate": 1.0})],
    }
    scores = [a_score("truth", "mc2", 0.5), a_score("swear", "rate", 0.5, group="toxicity", higher_is_better=False)]
    write([run("a", scores, samples=samples)], tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    behind = re.findall(r'<details class="offensive">.*?</details>', text, re.DOTALL)
    assert len(behind) == 1
    assert "a rude word" in behind[0]
    assert "Is the earth flat?" in text
    assert "Is the earth flat?" not in behind[0]


def test_samples_that_were_changed_after_scoring_are_refused(run: Callable[..., Path], tmp_path: Path) -> None:
    samples = {"truth": [Sample(item="1", prompt="p", response="r", values={"mc2": 0.0})]}
    directory = run("a", [a_score("truth", "mc2", 0.5)], samples=samples)
    file = directory / "samples" / "truth.jsonl"
    file.write_text(file.read_text().replace('"r"', '"better"'))
    with pytest.raises(UsageError, match="not those of the scorecard"):
        write([directory], tmp_path / "out")


def test_the_place_where_a_checkpoint_lay_is_not_told(run: Callable[..., Path], tmp_path: Path) -> None:
    write([run("ppo", [a_score("truth", "mc2", 0.5)])], tmp_path / "out")
    for file in (tmp_path / "out").rglob("*.*"):
        assert "/home/someone" not in file.read_text()


def test_a_name_that_a_spreadsheet_would_run_stays_text(run: Callable[..., Path], tmp_path: Path) -> None:
    write([run("a", [a_score("truth", "mc2", -0.5, unit="reward")], model="=HYPERLINK(1)")], tmp_path / "out")
    (line,) = csv.DictReader((tmp_path / "out" / "leaderboard.csv").read_text().splitlines())
    assert line["model"] == "'=HYPERLINK(1)"
    assert float(line["value"]) == -0.5


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


def test_each_model_has_a_page_of_its_own_with_the_worst_the_best_and_some_samples_between(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    samples = [
        Sample(item=str(n), prompt=f"Question {n}?", response="r", values={"mc2": n / 100 if n else None})
        for n in range(100)
    ]
    toxic = [Sample(item="t", prompt="You are", response="a rude word", values={"rate": 1.0})]
    scores = [a_score("truth", "mc2", 0.5), a_score("swear", "rate", 0.5, group="toxicity", higher_is_better=False)]
    write([run("a", scores, samples={"truth": samples, "swear": toxic}), run("b", scores)], tmp_path / "out")
    index = Page((tmp_path / "out" / "index.html").read_text())
    links = [value for name, value in index.attributes if name == "href" and value and value.startswith("models/")]
    assert len(links) == 2
    assert all((tmp_path / "out" / link).is_file() for link in links)
    text = (tmp_path / "out" / links[0]).read_text()
    items = re.findall(r"<figcaption>item (\w+)", text)
    assert items[:21] == ["t", *(str(n) for n in range(1, 21))], "the worst first"
    assert items[-1] == "0", "what could not be scored comes last of its task"
    assert len(items) == 61
    assert "60 of 100 samples" in text
    (behind,) = re.findall(r'<details class="offensive">.*?</details>', text, re.DOTALL)
    assert "a rude word" in behind
    assert "Question 1?" not in behind
    assert not re.search(r"https?://", text)
    assert "No samples lie beside this scorecard" in (tmp_path / "out" / links[1]).read_text()


def test_the_picture_draws_a_bar_and_an_interval_for_every_figure(run: Callable[..., Path], tmp_path: Path) -> None:
    from xml.etree import ElementTree

    runs = [
        run(
            "a",
            [a_score("truth", "mc2", 0.5), a_score("help", "reward", -1.5, half=0.5, unit="reward", scorer="judge 7")],
        ),
        run("b", [a_score("truth", "mc2", 0.9)], model="<b> & co"),
    ]
    write(runs, tmp_path / "out")
    picture = ElementTree.parse(tmp_path / "out" / "leaderboard.svg").getroot()
    name = "{http://www.w3.org/2000/svg}"
    bars = [bar for bar in picture.iter(f"{name}rect") if bar.get("class") != "ground"]
    whiskers = [line for line in picture.iter(f"{name}line") if line.get("class") == "whisker"]
    assert len(bars) == len(whiskers) == 3
    by_width = sorted(float(bar.get("width", "")) for bar in bars)
    assert by_width[1] / by_width[2] > 0.5
    assert [bar.get("class") for bar in bars].count("best") == 1
    texts = ["".join(text.itertext()) for text in picture.iter(f"{name}text")]
    assert {"<b> & co", "90.0%", "-1.50"} <= set(texts)
    assert any("by judge 7" in text for text in texts), "no figure of a scorer without its name"


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the distribution's Chromium")
def test_on_a_phone_and_by_keyboard_the_pages_can_be_read_sorted_and_filtered(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    samples = [
        Sample(item=str(n), prompt=f"Question {n}?", response="x" * 300, values={"mc2": n / 10}) for n in range(9)
    ]
    scores = [a_score("truth", "mc2", 0.5)]
    write(
        [run(f"model_{n}", [a_score("truth", "mc2", 0.1 * n)], samples={"truth": samples}) for n in range(1, 4)]
        + [run("with_a_very_long_name_" * 5, scores)],
        tmp_path / "out",
    )
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 360, "height": 800}, color_scheme="dark")
        told: list[str] = []
        page.on("console", lambda message: told.append(message.text))
        page.on(
            "request", lambda request: told.extend([] if request.url.startswith(("file:", "data:")) else [request.url])
        )
        too_wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        page.goto((tmp_path / "out" / "index.html").as_uri())
        assert not page.evaluate(too_wide)
        page.set_viewport_size({"width": 1280, "height": 800})
        names = "[...document.querySelectorAll('.board tbody tr:not([hidden]) th a')].map((a) => a.textContent)"
        assert page.evaluate(names)[-1] == "model_1", "best first"
        head = page.locator("button.sort", has_text="Checkpoint")
        head.focus()
        page.keyboard.press("Enter")
        assert page.evaluate(names)[0] == "model_1"
        page.locator("#filter").focus()
        page.keyboard.type("model_2")
        assert page.evaluate(names) == ["model_2"]
        page.goto(next((tmp_path / "out" / "models").glob("*.html")).as_uri())
        page.set_viewport_size({"width": 360, "height": 800})
        assert not page.evaluate(too_wide)
        items = "[...document.querySelectorAll('.example:not([hidden]) figcaption')].map((c) => c.textContent.split(' ')[1])"
        assert page.evaluate(items) == [str(n) for n in range(9)]
        page.locator("#order").select_option("best")
        assert page.evaluate(items) == [str(n) for n in range(8, -1, -1)]
        page.locator("#filter").fill("question 3?")
        assert page.evaluate(items) == ["3"]
        assert told == []
        browser.close()
