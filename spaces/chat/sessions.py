"""When a visitor's page is closed or loaded anew: nothing is computed for it any longer.

    with sessions.here(session) as left:
        async for progress in until(left, answer): ...       # ends when the page goes
    sessions.leave(session)                                  # heard by blocks.unload

gradio ends an answer when the stream that its page reads breaks off (6.31). A page that is loaded anew just after it asked may
have no such stream yet, and sends its question as it goes, a tenth of a second after its connections broke off: that answer
would run to its end. Each page also holds a connection, its heartbeat, while it is there; `leave` hears of that one's end.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from limits import Refused

SECONDS_TO_ARRIVE = 5.0  # after its page has gone, for a question
REMEMBERED = 10_000
LEFT = "The connection to this page was lost. Send it again."  # read by nobody, unless only the heartbeat broke off

T = TypeVar("T")


class Sessions:
    """The pages that wait for an answer, and those that have gone. Belongs to one event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._waiting: dict[str, list[asyncio.Event]] = {}
        self._left: OrderedDict[str, float] = OrderedDict()  # session -> when

    def leave(self, session: str) -> None:
        """The page of this session has gone: end its answers, and the one that is still to arrive."""
        self._left.pop(session, None)
        self._left[session] = self._clock()
        while len(self._left) > REMEMBERED:
            self._left.popitem(last=False)
        for left in self._waiting.get(session, []):
            left.set()

    @contextmanager
    def here(self, session: str) -> Iterator[asyncio.Event]:
        """An event that is set when the page goes. Raises Refused where it has just gone."""
        at = self._left.get(session)
        if at is not None and self._clock() - at < SECONDS_TO_ARRIVE:
            raise Refused(LEFT)
        left = asyncio.Event()
        self._waiting.setdefault(session, []).append(left)
        try:
            yield left
        finally:
            self._waiting[session].remove(left)
            if not self._waiting[session]:
                del self._waiting[session]


async def until(left: asyncio.Event, items: AsyncIterator[T]) -> AsyncIterator[T]:
    """What `items` gives, until `left` is set, and be it that nothing comes any more. Raises Refused then."""
    leaving = asyncio.ensure_future(left.wait())
    coming: asyncio.Future[T] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(items))
            await asyncio.wait({coming, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if left.is_set():
                raise Refused(LEFT)
            try:
                item = coming.result()
            except StopAsyncIteration:
                return
            yield item
    finally:
        ending = [future for future in (leaving, coming) if future is not None]
        for future in ending:
            future.cancel()
        await asyncio.gather(*ending, return_exceptions=True)  # `items` can be closed only when nothing waits for it
