"""Who shares limits with whom: addresses behind proxies, a crowd at one address, and a page that is served."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of gradio_client's own imports


@pytest.mark.parametrize(
    ("forwarded", "proxies", "address"),
    [
        ([], 0, "10.0.0.1"),
        (["198.51.100.7"], 0, "10.0.0.1"),  # no proxy: whoever connected wrote that
        (["198.51.100.7"], 1, "198.51.100.7"),
        (
            ["203.0.113.1, 198.51.100.7"],
            1,
            "198.51.100.7",
        ),  # what a client sent stands left of what the Hub's edge adds
        (["203.0.113.1", "198.51.100.7"], 1, "198.51.100.7"),
        (["203.0.113.1, 198.51.100.7, 192.0.2.9"], 2, "198.51.100.7"),
        (["198.51.100.7"], 2, "10.0.0.1"),  # came around the outer proxy
        ([], 1, "10.0.0.1"),
        (["198.51.100.7:4711"], 1, "198.51.100.7"),
        (["::ffff:198.51.100.7"], 1, "198.51.100.7"),
        (["[2001:db8:1:2::9]:4711"], 1, "2001:db8:1:2::/64"),
        (["2001:db8:1:2:3:4:5:6"], 1, "2001:db8:1:2::/64"),
        (["::1"], 1, "::/64"),
        (["unknown"], 1, "unknown"),
    ],
)
def test_the_address_is_what_a_trusted_proxy_added_and_never_what_a_client_wrote(
    chat: Any, forwarded: list[str], proxies: int, address: str
) -> None:
    assert chat("visitors").client_address("10.0.0.1", forwarded, proxies) == address


def test_one_proxy_stands_before_a_space_and_a_setting_says_otherwise(
    chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusted_proxies = chat("visitors").trusted_proxies
    for name in ("SPACE_ID", "TRUSTED_PROXIES"):
        monkeypatch.delenv(name, raising=False)
    assert trusted_proxies() == 0
    monkeypatch.setenv("SPACE_ID", "org/name")
    assert trusted_proxies() == 1
    monkeypatch.setenv("TRUSTED_PROXIES", "2")
    assert trusted_proxies() == 2
    for wrong in ("", "-1", "one", "10"):
        monkeypatch.setenv("TRUSTED_PROXIES", wrong)
        with pytest.raises(chat("limits").Unavailable, match="a number from 0 to 9"):
            trusted_proxies()


def test_an_address_is_another_text_in_each_process_and_holds_nothing_of_itself(chat: Any) -> None:
    from starlette.requests import Request

    request = Request({"type": "http", "headers": [], "client": ("198.51.100.7", 4711)})
    one, other = (chat("visitors").Visitors(0) for _ in range(2))
    assert one.address(request) == one.address(request) != other.address(request)
    assert "198.51.100.7" not in one.address(request)


def test_a_header_makes_nobody_another_visitor_where_no_proxy_is_trusted(chat: Any) -> None:
    """uvicorn by itself believes it of clients on this machine; what app.py sets for it is what gradio's server then has."""
    import uvicorn
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route
    from starlette.testclient import TestClient

    assert chat("app")
    visitors = chat("visitors").Visitors(0)
    config = uvicorn.Config(
        Starlette(routes=[Route("/", lambda request: PlainTextResponse(visitors.address(request)))])
    )
    config.load()
    client = TestClient(config.loaded_app, client=("127.0.0.1", 4711))
    said = {client.get("/", headers={"x-forwarded-for": f"192.0.2.{number}"}).text for number in range(9)}
    assert len(said) == 1


def test_a_session_may_send_a_burst_and_then_waits_while_others_do_not(chat: Any) -> None:
    now = [0.0]
    buckets = chat("visitors").TokenBuckets(burst=2, seconds_per_message=6, clock=lambda: now[0])
    buckets.take("a", "here")
    buckets.take("a", "here")
    with pytest.raises(chat("limits").Refused, match="Wait 6 s"):
        buckets.take("a", "here")
    buckets.take("b", "here")
    now[0] = 6.0
    buckets.take("a", "here")


def test_an_address_may_send_as_often_as_four_sessions_whatever_their_number(chat: Any) -> None:
    now = [0.0]
    buckets = chat("visitors").TokenBuckets(burst=2, seconds_per_message=6, clock=lambda: now[0])
    for session in range(8):
        buckets.take(f"invented {session}", "here")
    for session in range(100):  # what is refused takes nothing from anybody
        with pytest.raises(chat("limits").Refused, match=r"from your network in a short time. Wait 2 s"):
            buckets.take(f"another {session}", "here")
    buckets.take("elsewhere", "there")
    now[0] = 1.5
    buckets.take("another 7", "here")
    buckets.take("another 8", "there")


def test_a_session_that_is_refused_takes_nothing_from_its_neighbours(chat: Any) -> None:
    buckets = chat("visitors").TokenBuckets(burst=2, seconds_per_message=6, clock=lambda: 0.0)
    for _ in range(2):
        buckets.take("loud", "school")
    for _ in range(100):
        with pytest.raises(chat("limits").Refused, match="That was many messages"):
            buckets.take("loud", "school")
    for neighbour in ("a", "b", "c"):
        for _ in range(2):
            buckets.take(neighbour, "school")


def test_the_gate_admits_in_order_says_how_many_wait_and_refuses_when_full(chat: Any) -> None:
    async def scene() -> None:
        gate = chat("visitors").Gate(at_once=1, waiting=2)
        first, second, third = (gate.enter(address) for address in "abc")
        assert [place.admitted.is_set() for place in (first, second, third)] == [True, False, False]
        assert [place.ahead for place in (first, second, third)] == [0, 1, 2]
        with pytest.raises(chat("limits").Refused, match="busy: 3 answers come"):
            gate.enter("d")
        second.leave()
        second.leave()
        assert third.ahead == 1
        first.leave()
        assert third.admitted.is_set()

    asyncio.run(scene())


def test_one_address_holds_three_quarters_of_the_places_and_addresses_take_turns(chat: Any) -> None:
    async def scene() -> None:
        gate = chat("visitors").Gate(at_once=2, waiting=6)
        crowd = [gate.enter("crowd") for _ in range(6)]
        with pytest.raises(chat("limits").Refused, match="6 answers to your network"):
            gate.enter("crowd")
        one, other = gate.enter("one"), gate.enter("other")
        assert [place.ahead for place in (one, other, *crowd)] == [1, 2, 0, 0, 3, 4, 5, 6]
        crowd[0].leave()
        crowd[1].leave()  # the crowd answers no more, and had its turn all the same
        assert [place.admitted.is_set() for place in (one, other, *crowd[2:])] == [
            True,
            True,
            False,
            False,
            False,
            False,
        ]
        late = gate.enter("one")
        assert [place.ahead for place in (late, *crowd[2:])] == [2, 1, 3, 4, 5]
        one.leave()
        other.leave()
        assert [place.admitted.is_set() for place in (late, *crowd[2:])] == [True, True, False, False, False]

    asyncio.run(scene())


def clients_of(url: str, addresses: list[str]) -> list[Any]:
    from gradio_client import Client

    return [Client(url, verbose=False, headers={"x-forwarded-for": address}) for address in addresses]


def begin(clients: list[Any]) -> tuple[list[Any], list[str]]:
    """Each asks for a text without end: the jobs that have a place, and the words in which the others were refused."""
    jobs, refused = [], []
    for client in clients:
        job = client.submit("forever", "", 0, 1, 1024, api_name="/chat_with_note")
        try:
            next(iter(job))
            jobs.append(job)
        except StopIteration:  # it ended without any answer
            refused.append(str(job.exception()))
    return jobs, refused


def answering(jobs: list[Any]) -> list[Any]:
    return [job for job in jobs if any(text for text, _ in job.outputs())]


def test_nine_sessions_of_one_address_do_not_fill_the_queue_for_another(running_space: Any) -> None:
    """Through a proxy that adds 203.0.113.7, and each writes another address of its own making to the left of it."""
    forged = [f"192.0.2.{number}, 203.0.113.7" for number in range(9)]
    *crowd, stranger = clients_of(running_space.url, [*forged, "203.0.113.7, 198.51.100.9"])
    jobs, refused = begin(crowd)
    try:
        assert len(jobs) == 6
        assert all("6 answers to your network come before yours" in said for said in refused)
        job = stranger.submit("Hello", "", 0, 1, 16, api_name="/chat_with_note")
        assert next(iter(job)) == ("", "Waiting: 1 before this one.")
        for first in answering(jobs):
            first.cancel()
        assert job.result(timeout=60)[0] == "Hello there."
    finally:
        for job in jobs:
            job.cancel()
