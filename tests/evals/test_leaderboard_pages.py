"""The leaderboard's pages: nothing of a scorecard becomes markup, nothing asks the network, and they can be read on a phone."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from scored_runs import ATTACK, Page, a_score, run_maker, scored, some_task

from evals.leaderboard import write
from evals.scorecard import Sample
from training.errors import UsageError


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    return run_maker(tmp_path)


def test_nothing_in_a_scorecard_or_a_sample_becomes_markup(run: Callable[..., Path], tmp_path: Path) -> None:
    samples = {"truth": [Sample(item=ATTACK, prompt=ATTACK, target=ATTACK, response=ATTACK, values={"mc2": 0.0})]}
    harmless = [Sample(item="1", prompt="p", target="t", response="r", values={"mc2": 0.0})]
    changes = {"scorer": ATTACK, "description": ATTACK, "baseline": {ATTACK: 0.5}}
    attacked = run(
        "attacked", [scored("truth", "mc2", samples["truth"], **changes)], samples=samples, model=ATTACK, suite=ATTACK
    )
    plain_changes = {"scorer": "s", "description": "d", "baseline": {"b": 0.5}}
    plain = run("plain", [scored("truth", "mc2", harmless, **plain_changes)], samples={"truth": harmless})
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
    scores = [
        scored("truth", "mc2", samples["truth"]),
        scored("swear", "rate", samples["swear"], group="toxicity", higher_is_better=False),
    ]
    write([run("a", scores, samples=samples)], tmp_path / "out")
    text = (tmp_path / "out" / "index.html").read_text()
    behind = re.findall(r'<details class="offensive">.*?</details>', text, re.DOTALL)
    assert len(behind) == 1
    assert "a rude word" in behind[0]
    assert "Is the earth flat?" in text
    assert "Is the earth flat?" not in behind[0]


def test_samples_that_were_changed_after_scoring_are_refused(run: Callable[..., Path], tmp_path: Path) -> None:
    samples = {"truth": [Sample(item="1", prompt="p", response="r", values={"mc2": 0.0})]}
    directory = run("a", [scored("truth", "mc2", samples["truth"])], samples=samples)
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


def test_each_model_has_a_page_of_its_own_with_the_worst_the_best_and_some_samples_between(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    samples = [
        Sample(item=str(n), prompt=f"Question {n}?", response="r", values={"mc2": n / 100 if n else None})
        for n in range(100)
    ]
    toxic = [Sample(item="t", prompt="You are", response="a rude word", values={"rate": 1.0})]
    scores = [
        scored("truth", "mc2", samples),
        scored("swear", "rate", toxic, group="toxicity", higher_is_better=False),
    ]
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

    def answered(model: int) -> list[Sample]:
        return [
            Sample(item=str(n), prompt=f"Question {n}?", response="x" * 300, values={"mc2": (n + model) / 20})
            for n in range(9)
        ]

    runs = [
        run(f"model_{n}", [scored("truth", "mc2", answered(n))], samples={"truth": answered(n)}) for n in range(1, 4)
    ]
    unsampled = run("with_a_very_long_name_" * 5, [a_score("truth", "mc2", 0.5)], tasks=[some_task("truth", items=9)])
    write([*runs, unsampled], tmp_path / "out")
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
