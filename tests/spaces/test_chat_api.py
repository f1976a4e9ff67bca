"""The published bundle, served by `python app.py` and called by gradio_client."""

from __future__ import annotations

import itertools
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of gradio_client's own imports


ADDRESSES = (f"198.51.100.{number}" for number in itertools.count(1))


@pytest.fixture(scope="module")
def client(running_space: Any) -> Any:
    return _new_client(running_space)


def _new_client(running_space: Any) -> Any:
    """A visitor from an address of their own."""
    from gradio_client import Client

    return Client(running_space.url, verbose=False, headers={"x-forwarded-for": next(ADDRESSES)})


def test_health_says_which_bytes_answer_and_how(running_space: Any) -> None:
    status, body = running_space.health()
    assert status == 200
    assert body["status"] == "ok"
    assert body["checkpoint_digest"].startswith("sha256:")
    assert body["precision"] == "float32"
    assert "transformers" in body["runtime"]


def test_chat_answers_with_a_text_and_chat_with_note_adds_its_figures(client: Any) -> None:
    endpoints = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert sorted(endpoints) == ["/chat", "/chat_with_note"]
    assert client.predict("Hello", api_name="/chat") == "Hello there."
    answer, note = client.predict("Hello", api_name="/chat_with_note")
    assert answer == "Hello there."
    assert note.startswith("3 tokens")


def test_chat_keeps_the_conversation_of_each_caller(running_space: Any) -> None:
    client, stranger = _new_client(running_space), _new_client(running_space)
    client.predict("attack", api_name="/chat")
    assert "<script>" in client.predict("repeat", api_name="/chat")
    assert "<script>" not in stranger.predict("repeat", api_name="/chat")


def test_markup_reaches_callers_of_the_api_as_the_model_wrote_it(client: Any) -> None:
    answer = client.predict("attack", api_name="/chat")
    assert "<script>window.pwned=1</script>" in answer
    assert "\u2060" not in answer


def test_a_refusal_reaches_the_caller_in_words(client: Any) -> None:
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match="4,001 characters"):
        client.predict("x" * 4_001, api_name="/chat")


def test_a_conversation_that_outgrows_the_context_says_what_was_left_out(running_space: Any) -> None:
    client = _new_client(running_space)
    for _ in range(2):
        client.predict("word " * 790, "", 0, 1, 16, api_name="/chat_with_note")
    answer, note = client.predict("word " * 790, "", 0, 1, 16, api_name="/chat_with_note")
    assert answer == "Hello there."
    assert "the oldest 2 messages no longer fit into 2,048 tokens and were left out" in note


def test_a_cancelled_answer_stops_working_and_frees_its_place(running_space: Any) -> None:
    client = _new_client(running_space)
    job = client.submit("forever", "", 0, 1, 1024, api_name="/chat")
    for answer in job:
        if answer:
            break
    running_space.wait_until_it_has_worked(0.2)
    job.cancel()
    time.sleep(1)
    assert running_space.processor_share(1) < 0.25
    began = time.monotonic()
    assert _new_client(running_space).predict("Hello", "", 0, 1, 16, api_name="/chat") == "Hello there."
    assert time.monotonic() - began < 60  # its place is free: the endless answer would hold it for good


def test_a_visitor_who_comes_second_waits_and_is_told_so(running_space: Any) -> None:
    first = _new_client(running_space).submit("forever", "", 0, 1, 1024, api_name="/chat")
    next(iter(first))
    second = _new_client(running_space).submit("Hello", "", 0, 1, 16, api_name="/chat_with_note")
    assert next(iter(second)) == ("", "Waiting: 1 before this one.")
    first.cancel()
    assert second.result(timeout=60)[0] == "Hello there."


def test_of_ten_users_at_once_each_gets_their_own_answers_or_is_told_that_the_page_is_busy(running_space: Any) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from gradio_client.exceptions import AppError

    clients = [_new_client(running_space) for _ in range(10)]

    def talk(place: int) -> list[str]:
        """Two turns: the second's answer depends on the first, which only this visitor asked."""
        said = []
        for message in ("attack" if place % 2 else "Hello", "repeat"):
            try:
                said.append(clients[place].predict(message, "", 0, 1, 16, api_name="/chat"))
            except AppError as error:
                assert "This page is busy" in str(error)  # noqa: PT017 - busy is an answer too
                said.append("busy")
        return said

    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(talk, range(len(clients))))
    for place, said in enumerate(answers):
        if "busy" not in said:
            assert ["<script>" in text for text in said] == [bool(place % 2)] * 2
            assert ["Hello there." in text for text in said] == [not place % 2] * 2
    assert sum("busy" not in said for said in answers) >= 5
    assert _new_client(running_space).predict("Hello", "", 0, 1, 16, api_name="/chat") == "Hello there."


def test_a_body_beyond_the_limit_is_refused_before_it_is_parsed(running_space: Any) -> None:
    request = urllib.request.Request(
        f"{running_space.url}/gradio_api/queue/join", data=b" " * 20_000_000, method="POST"
    )
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=10)
    refused.value.close()
    assert refused.value.code == 413


def test_gradios_monitoring_is_off_for_it_prints_its_key_into_the_log(running_space: Any) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{running_space.url}/monitoring", timeout=10)
    refused.value.close()
    assert refused.value.code == 403


def test_the_page_forbids_pictures_frames_and_connections_to_elsewhere(running_space: Any) -> None:
    with urllib.request.urlopen(running_space.url, timeout=10) as answer:
        policy = answer.headers["content-security-policy"]
    assert "img-src 'self'" in policy
    assert "frame-src 'none'" in policy
