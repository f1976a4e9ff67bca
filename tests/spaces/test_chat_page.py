"""The chat page in a real browser: a conversation, stop, an attack by the model, and a phone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from accessibility import new_violations

from training.thumbs import Thumb

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
SEND_BUTTON, STOP_BUTTON = "button.submit-button", "button.stop-button"
SHOWN = "document.querySelector('#conversation').innerText.replaceAll('\u2060', '')"
DRAWN = ".bot.message :is(h1, h2, b, i, u, s, input, form, [style*=fixed], .mermaid, code.language-mermaid)"


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, "--disable-sync"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, running_space: Any) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 860})
    page.set_default_timeout(20_000)
    page.goto(running_space.url)
    page.wait_for_selector("#message textarea")
    yield page
    page.close()


def say(page: Any, message: str) -> None:
    page.locator("#message textarea").fill(message)
    page.locator("#message textarea").press("Enter")


def test_a_message_is_answered_and_its_figures_stand_below(page: Any) -> None:
    say(page, "Hello")
    page.wait_for_function("document.querySelector('#conversation').innerText.includes('Hello there.')")
    page.wait_for_function("document.querySelector('#note').innerText.includes('3 tokens')")


def test_the_page_says_which_bytes_answer(page: Any) -> None:
    header = page.locator("#about-line").inner_text()
    assert "✓ checked" in header
    assert "sha256:" in header
    details = page.locator("#details").bounding_box()
    assert details["x"] + details["width"] <= 1280
    assert "python -m release verify org/scripted@v1.0" in page.locator("#details").inner_text()


def test_what_sends_and_what_stops_have_names_for_a_screen_reader_at_every_turn(page: Any) -> None:
    for _ in range(2):
        page.get_by_role("button", name="Send", exact=True).wait_for()
        page.get_by_role("textbox", name="Message", exact=True).wait_for()
        say(page, "forever")
        page.get_by_role("button", name="Stop", exact=True).wait_for()
        page.get_by_role("button", name="Stop", exact=True).click()


def test_stop_ends_an_endless_answer_and_the_processor_goes_quiet(page: Any, running_space: Any) -> None:
    from playwright.sync_api import TimeoutError as TooLate

    for _ in range(5):
        say(page, "forever")
        page.wait_for_function("document.querySelector('#conversation').innerText.includes('on and on')")
        try:
            page.locator(STOP_BUTTON).click(timeout=4_000)
            break
        except TooLate:  # on a busy machine the answer reached its most tokens before the browser came to the button
            page.locator(SEND_BUTTON).wait_for(state="visible")
            page.reload()
            page.wait_for_selector("#message textarea")
    else:
        pytest.fail("no answer could be stopped in five")
    page.wait_for_timeout(1500)
    assert running_space.processor_share(1) < 0.25
    page.locator(SEND_BUTTON).wait_for(state="visible")


def test_a_refusal_is_said_in_words_and_the_page_goes_on(page: Any) -> None:
    """gradio's own ChatInterface covers the conversation after an error, and its composer stays shut."""
    say(page, "Hello")
    page.wait_for_function("document.querySelector('#note').innerText.includes('3 tokens')")
    say(page, " ")
    page.wait_for_function("document.querySelector('#note').innerText.includes('Not answered: Type a message first.')")
    page.locator("[data-testid='toast-body']").get_by_text("Not answered: Type a message first.").first.wait_for()
    assert page.locator("#conversation").get_by_text("Hello there.").is_visible()
    page.locator(SEND_BUTTON).wait_for(state="visible")
    say(page, "Hello")
    page.wait_for_function("document.querySelector('#note').innerText.includes('3 tokens')")


def test_markup_that_the_model_writes_is_shown_and_never_run(page: Any) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    say(page, "attack")
    page.wait_for_function(f"{SHOWN}.includes('<b>bold?</b>')")
    page.wait_for_timeout(1000)
    assert page.evaluate("window.pwned") is None
    assert page.locator("#conversation img[src*='pixel']").count() == 0
    assert page.locator("#conversation a[href^='javascript']").count() == 0
    assert page.locator(DRAWN).all_inner_texts() == []
    assert not [url for url in requests if "pixel" in url]


def test_a_thumb_is_on_the_disk_before_it_is_thanked_for_and_only_with_consent(page: Any, running_space: Any) -> None:
    before = len(running_space.thumbs)
    say(page, "Hello")
    page.wait_for_function("document.querySelector('#note').innerText.includes('3 tokens')")
    thumbs = page.locator("#conversation button[title='Like'], #conversation button[title='Dislike']")
    assert thumbs.count() == 0  # gradio would go on drawing one that was refused
    page.locator("#thumbs button").first.click()
    page.get_by_label("Keep my thumbs. I am a script.").check()
    thumbs.first.wait_for()
    page.locator("button[title='Dislike'], button[aria-label='dislike']").first.click()
    page.wait_for_function("document.querySelector('#thumbs-said').innerText.includes('your thumb was kept')")
    kept = [Thumb.model_validate(row) for row in running_space.thumbs[before:]]
    assert [(thumb.label, thumb.labeller_kind) for thumb in kept] == [(False, "script")]
    assert [turn.content for turn in (kept[0].prompt[-1], kept[0].completion[0])] == ["Hello", "Hello there."]
    assert kept[0].labeller in page.locator("#thumbs-said").inner_text()
    assert running_space.health()[1]["unpushed"] == before + 1  # there is no Hub here
    say(page, "attack")  # gradio made the conversation anew for this visitor when thumbs were offered
    page.wait_for_function(f"{SHOWN}.includes('<b>bold?</b>')")
    page.wait_for_timeout(500)
    assert page.locator(DRAWN).all_inner_texts() == []
    assert page.locator("button[title='Disliked']").count() == 1
    page.get_by_label("Do not keep them.").check()
    thumbs.first.wait_for(state="detached")


def test_a_thumb_that_cannot_be_kept_is_not_drawn_and_the_one_before_is(page: Any, running_space: Any) -> None:
    say(page, "Hello")
    page.wait_for_function("document.querySelector('#note').innerText.includes('3 tokens')")
    page.locator("#thumbs button").first.click()
    page.get_by_label("Keep my thumbs. I am a script.").check()
    page.locator("button[title='Like']").wait_for()
    away = running_space.votes.with_name("away")
    running_space.votes.rename(away)  # as a bucket's folder is that is mounted no more
    try:
        page.locator("button[title='Like']").click()
        page.wait_for_function("document.querySelector('#thumbs-said').innerText.includes('Not kept.')")
        page.locator("button[title='Like']").wait_for()
        away.rename(running_space.votes)
        page.locator("button[title='Like']").click()
        page.wait_for_function("document.querySelector('#thumbs-said').innerText.includes('your thumb was kept')")
        running_space.votes.rename(away)
        page.locator("button[title='Dislike']").click()
        page.wait_for_function("document.querySelector('#thumbs-said').innerText.includes('before still counts')")
        page.locator("button[title='Liked']").wait_for()
    finally:
        if away.exists():
            away.rename(running_space.votes)


def test_a_phone_needs_no_scrolling_to_the_side(browser: Any, running_space: Any) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 780})
    page.goto(running_space.url)
    page.wait_for_selector("#message textarea")
    page.wait_for_timeout(1000)
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    box = page.locator("#message").bounding_box()
    assert box["y"] + box["height"] <= 780
    page.close()


def test_axe_finds_nothing_but_what_stock_gradio_has(page: Any) -> None:
    page.locator(".examples").first.wait_for()
    page.wait_for_timeout(1500)
    assert new_violations(page) == []
    say(page, "attack")
    page.wait_for_function("document.querySelector('#note').innerText.includes('tokens')")
    page.locator("#settings button").first.click()
    page.wait_for_timeout(500)
    assert new_violations(page) == []


def test_a_reload_in_mid_answer_ends_it_and_begins_anew(page: Any, running_space: Any) -> None:
    say(page, "forever")
    page.wait_for_function("document.querySelector('#conversation').innerText.includes('on and on')")
    page.reload()
    page.wait_for_selector("#message textarea")
    page.wait_for_timeout(1500)
    assert running_space.processor_share(1) < 0.25
    say(page, "Hello")
    page.wait_for_function("document.querySelector('#conversation').innerText.includes('Hello there.')")
    assert "forever" not in page.locator("#conversation").inner_text()
