"""When a visitor's page goes: its answers end, and what it still sends is not answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest


def test_an_answer_of_which_nothing_comes_ends_when_its_page_goes(chat: Any) -> None:
    closed = []

    async def hangs() -> AsyncIterator[str]:
        try:
            yield "on"
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async def visit() -> None:
        sessions = chat("sessions").Sessions()
        with sessions.here("one") as left:
            answer = chat("sessions").until(left, hangs())
            assert await anext(answer) == "on"
            sessions.leave("another")
            assert not left.is_set()
            asyncio.get_running_loop().call_soon(sessions.leave, "one")
            with pytest.raises(chat("limits").Refused, match="was lost"):
                await anext(answer)

    asyncio.run(visit())
    assert closed == [True]


def test_what_a_page_sends_as_it_goes_is_refused_and_a_page_that_comes_back_is_answered(chat: Any) -> None:
    now = [100.0]
    sessions = chat("sessions").Sessions(clock=lambda: now[0])
    sessions.leave("one")
    now[0] += 1
    with pytest.raises(chat("limits").Refused), sessions.here("one"):
        pass
    with sessions.here("another"):
        pass
    now[0] += 5
    with sessions.here("one") as left:
        assert not left.is_set()
