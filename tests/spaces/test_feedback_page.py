"""The feedback page in a real browser: consent, votes by click and key, reload, a phone, a kill; nothing tells the models apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from accessibility import new_violations
from feedback_space import FeedbackSpace, make_pairs, write_space
from made_votes import answer

from training.feedback_pairs import Pair
from training.votes import Turn, Vote, pair_id

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
ATTACK = "<script>window.pwned=1</script><img src=x onerror='window.pwned=2'> ![p](http://127.0.0.1:9/pixel.png) <b>bold?</b>"
# What is code for one reader and none for another.
ATTACK += '\n\na ` b\n\n<h1>covered</h1><input>\n\nc `\n\n```mermaid\ngraph TD\nA["<i>x</i>"] --> B\n```\n'

CODE = '\nsecond line\n\n```python\n# {0}\nfor word in "{0}".split():\n    print(len(word) ** 2)\n```\n\n'
CODE += "| a | b |\n|---|---|\n| 1 | [c](https://a.b) |\n"


def with_code(pair: Pair) -> Pair:
    """What people have most trouble to read: code, a table, a link, and lines that are only ended."""
    one, other = (
        side.model_copy(update={"text": side.text + CODE.format(side.text)}) for side in (pair.one, pair.other)
    )
    return Pair(pair_id=pair_id(pair.prompt, one, other), prompt=pair.prompt, one=one, other=other)


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FeedbackSpace]:
    folder = tmp_path_factory.mktemp("feedback") / "space"
    prompt = [Turn(role="user", content=f"Show me {ATTACK}")]
    one, other = answer(ATTACK), answer(f"again {ATTACK}")
    attack = Pair(pair_id=pair_id(prompt, one, other), prompt=prompt, one=one, other=other)
    space = FeedbackSpace(
        write_space(folder, [*map(with_code, make_pairs(30)), attack], gold_every=6, votes_per_pair=50)
    )
    space.start()
    yield space
    space.stop()


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, "--disable-sync"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, space: FeedbackSpace) -> Iterator[Any]:
    """A visitor who was never here: local storage is a context's own."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(space.url)
    yield page
    context.close()


def agree(page: Any, code: str, kind: str = "a script that follows rules") -> None:
    page.locator("#begin").wait_for(state="visible")
    page.locator("#code input, #code textarea").fill(code)
    page.get_by_label(kind).check()
    page.locator("#agreed input").check()
    page.locator("#begin").click()
    page.locator("#vote-a").wait_for(state="visible")


def wait_for_votes(page: Any, count: int) -> None:
    votes = f"{count} vote{'' if count == 1 else 's'}"
    page.wait_for_function(f"document.querySelector('#status')?.innerText.includes('You gave {votes}.')")


def test_nothing_is_shown_before_consent_and_consent_needs_all_three(page: Any, space: FeedbackSpace) -> None:
    page.locator("#begin").wait_for(state="visible")
    assert not page.locator("#vote-a").is_visible()
    assert "What is kept." in page.locator("#notice").inner_text()
    before = len(space.votes)
    page.locator("#code input, #code textarea").fill("no consent")
    page.locator("#begin").click()
    page.get_by_text("Without your consent").wait_for()
    page.locator("#agreed input").check()
    page.locator("#begin").click()
    page.get_by_text("Say whether a person or a script votes.").wait_for()
    assert not page.locator("#vote-a").is_visible()
    assert len(space.votes) == before


def test_votes_by_click_and_by_key_are_on_the_disk_with_reason_and_better_answer(
    page: Any, space: FeedbackSpace
) -> None:
    agree(page, "clicks and keys")
    before = len(space.votes)
    page.locator("#vote-b").click()
    wait_for_votes(page, 1)
    for count, key in enumerate("atx", 2):
        page.keyboard.press(key)
        wait_for_votes(page, count)
    page.locator("#more button").first.click()
    page.locator("#reason textarea").fill("a bat at a tax")  # keys do not vote while one types
    page.locator("#better textarea").fill("a better answer")
    assert len(space.votes) == before + 4
    page.locator("#vote-a").click()
    wait_for_votes(page, 5)
    assert page.locator("#reason textarea").input_value() == ""
    own = space.votes[before:]
    assert [vote["choice"] for vote in own] == ["b", "a", "tie", "both_bad", "a"]
    assert (own[-1]["reason"], own[-1]["better_answer"]) == ("a bat at a tax", "a better answer")
    assert {vote["labeller_kind"] for vote in own} == {"script"}
    assert len({vote["labeller"] for vote in own}) == 1
    assert all(Vote.model_validate(vote) for vote in own)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_axe_finds_nothing_before_consent_nor_at_a_pair(
    browser: Any, space: FeedbackSpace, width: int, scheme: str
) -> None:
    context = browser.new_context(viewport={"width": width, "height": 860}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(space.url)
    page.locator("#begin").wait_for(state="visible")
    assert new_violations(page) == []
    agree(page, f"axe {width}")
    page.locator("#more button").first.click()
    if not page.locator("#answer-a pre").count():  # the gold item, or that of the attack
        page.keyboard.press("t")
        wait_for_votes(page, 1)
    page.wait_for_timeout(500)
    assert page.locator("#answer-a br").count() >= 1  # a line that a model ended is ended for the labeller too
    assert new_violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    context.close()


def test_nothing_that_reaches_the_browser_tells_which_model_wrote_an_answer(browser: Any, space: FeedbackSpace) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.set_default_timeout(60_000)
    received: list[str] = []
    page.on("response", lambda response: received.append(_text(response)))
    page.goto(space.url)
    agree(page, "curious")
    page.keyboard.press("a")
    wait_for_votes(page, 1)
    page.wait_for_timeout(300)
    everything = "\n".join([*received, page.content()])
    assert "Answer A" in everything
    for word in ("org/new", "org/old", "1" * 64, "2" * 64, "gold-", "gold_choice", "temperature"):
        assert word not in everything
    context.close()


def test_a_reload_keeps_the_labeller_and_the_pair(page: Any) -> None:
    agree(page, "reloads")
    page.keyboard.press("t")
    wait_for_votes(page, 1)
    page.wait_for_timeout(300)
    before = page.locator("#answer-a").inner_text()
    page.reload()
    wait_for_votes(page, 1)
    assert page.locator("#answer-a").inner_text() == before


def test_another_labeller_in_one_tab_ends_the_one_before_in_all(page: Any) -> None:
    agree(page, "first of two")
    page.keyboard.press("t")
    wait_for_votes(page, 1)
    other = page.context.new_page()
    other.set_default_timeout(60_000)
    other.goto(page.url)
    wait_for_votes(other, 1)
    other.locator("#not-you-pair").click()
    page.locator("#begin").wait_for(state="visible")
    agree(other, "second of two")
    wait_for_votes(other, 0)
    page.reload()
    wait_for_votes(page, 0)  # the second one's, whoever sits at this tab
    page.locator("#not-you-pair").click()
    agree(page, "first of two")
    wait_for_votes(page, 1)


def test_what_was_typed_at_a_pair_that_another_tab_voted_on_is_not_recorded_at_the_next(
    page: Any, space: FeedbackSpace
) -> None:
    agree(page, "two tabs")
    before = len(space.votes)
    page.locator("#more button").first.click()
    page.locator("#better textarea").fill("better than both of these")
    other = page.context.new_page()
    other.goto(space.url)
    other.locator("#vote-tie").click()
    wait_for_votes(other, 1)
    page.locator("#vote-a").click()
    page.get_by_text("voted on already").wait_for()
    page.wait_for_function("document.querySelector('#better textarea').value === ''")
    page.locator("#vote-b").click()
    wait_for_votes(page, 2)
    assert [vote["better_answer"] for vote in space.votes[before:]] == [None, None]


def test_markup_of_a_model_is_shown_and_never_run(page: Any, space: FeedbackSpace) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    agree(page, "attacked")
    for count in range(1, 40):
        page.wait_for_timeout(100)
        if "bold?" in page.locator("#answer-a").inner_text():
            break
        page.keyboard.press("t")
        wait_for_votes(page, count)
    assert "<b>bold?</b>" in page.locator("#answer-a").inner_text().replace("\u2060", "")
    page.wait_for_timeout(500)
    assert page.evaluate("window.pwned") is None
    drawn = ":is(#prompt, #answer-a, #answer-b) :is(img, h1, b, i, input, .mermaid, code.language-mermaid)"
    assert page.locator(drawn).all_inner_texts() == []
    assert not [url for url in requests if "pixel" in url]


def test_a_phone_needs_no_scrolling_to_the_side_and_has_the_buttons_at_hand(browser: Any, space: FeedbackSpace) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 780})
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(space.url)
    agree(page, "phone")
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    first, second = page.locator("#answer-a").bounding_box(), page.locator("#answer-b").bounding_box()
    assert second["y"] >= first["y"] + first["height"]
    for choice in ("a", "b", "tie", "both_bad"):
        box = page.locator(f"#vote-{choice}").bounding_box()
        assert box["y"] + box["height"] <= 780
        assert box["height"] >= 44
    context.close()


def test_a_kill_between_votes_loses_none_that_was_thanked_for(page: Any, space: FeedbackSpace) -> None:
    agree(page, "killed")
    own = space.votes
    for count in range(1, 4):
        page.keyboard.press("a")
        wait_for_votes(page, count)
    kept = space.votes
    assert len(kept) == len(own) + 3
    page.keyboard.press("b")  # perhaps written, perhaps not: the kill comes at once
    space.kill()
    assert len(space.votes) - len(kept) in (0, 1)
    written = len(space.votes) - len(own)
    space.start()
    page.reload()
    wait_for_votes(page, written)  # the labeller is known again, and what was written is counted
    page.keyboard.press("t")
    wait_for_votes(page, written + 1)
    ids = [vote["vote_id"] for vote in space.votes]
    assert len(ids) == len(set(ids)) == len(own) + written + 1
    keys = [(vote["labeller"], str(sorted([vote["a"]["text"], vote["b"]["text"]]))) for vote in space.votes]
    assert len(keys) == len(set(keys))


def test_the_page_says_when_nothing_is_left(browser: Any, chromium: str, tmp_path: Path) -> None:
    small = FeedbackSpace(write_space(tmp_path / "space", make_pairs(1), gold_every=50))
    small.start()
    try:
        page = browser.new_page()
        page.set_default_timeout(60_000)
        page.goto(small.url)
        agree(page, "only one")
        page.locator("#vote-a").click()
        page.get_by_text("Nothing is left for you to judge").wait_for()
        assert "1 vote" in page.locator("#thanks").inner_text()
        # The next one at this browser says who they are: nothing of the last labeller is kept in it.
        page.locator("#not-you-thanks").click()
        page.locator("#begin").wait_for(state="visible")
        assert page.locator("#code input, #code textarea").input_value() == ""
        page.reload()
        agree(page, "another one")
        page.locator("#vote-a").click()
        page.get_by_text("Nothing is left for you to judge").wait_for()
        assert len({vote["labeller"] for vote in small.votes}) == 2
        page.close()
    finally:
        small.stop()


def _text(response: Any) -> str:
    """What the page got of its server, as text; pictures and scripts of gradio's own are not looked into."""
    if "/gradio_api/" not in response.url and not response.url.endswith("/"):
        return ""
    from playwright.sync_api import Error

    try:
        return str(response.text())
    except Error:  # a stream that is still open has no body to read; the page's content is looked into as well
        return ""
