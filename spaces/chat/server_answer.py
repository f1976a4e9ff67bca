"""An answer that a server sends: its bounds, its end, and what a visitor is told where it fails.

A server's own words may hold what is not a visitor's to see, nor the log's: an address, a key, another visitor's text. So none of
them is repeated; the log has the status, or the kind of error.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

from chat_model import Run
from limits import Refused, Sampling

SECONDS_TO_WAIT = 60
# No answer has more on average: a server that sends more does not keep to what it was asked.
CHARACTERS_A_TOKEN = 64

BROKEN_OFF = "The server broke off in the middle of its answer. Try again."
NOT_REACHED = "The server that answers cannot be reached. Try again in a minute."
TOO_LATE = f"The server did not answer within {SECONDS_TO_WAIT} s. Try again in a minute."
BUSY = "The server that answers is busy. Try again in a minute."
FAILED = "The server that answers failed in the middle of its answer. Try again."
NO_MEMORY = (
    "The server that answers has not enough memory for this. Start a new conversation, or ask for a shorter answer."
)
NOT_TAKEN = "The server does not take this conversation. It may be too long for it: start a new one, or ask for a shorter answer."

T = TypeVar("T")


def events(stream: Iterable[T], no_protocol: str) -> Iterator[T]:
    """What the client reads. Raises Refused for what is no event: no JSON, or JSON of another kind than the client takes."""
    coming = iter(stream)
    while True:
        try:
            event = next(coming)
        except StopIteration:
            return
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # In the client, which takes any JSON for an event.
            raise refused(no_protocol, f"an event that cannot be read ({type(error).__name__})") from error
        yield event


def take(run: Run, sampling: Sampling, text: str | None) -> bool:
    """Give this piece to the reader; False where the answer is as long as it may be, and the server goes on all the same.

    A piece counts as one token, as servers send them.
    """
    if run.tokens >= sampling.max_new_tokens or run.characters >= sampling.max_new_tokens * CHARACTERS_A_TOKEN:
        run.cut = True
        return False
    run.count_token()
    run.put((text or "")[: sampling.max_new_tokens * CHARACTERS_A_TOKEN - run.characters])
    return True


def check_end(run: Run, no_protocol: str, *, said: bool) -> None:
    """Refuse what ended before the server said that it was the end. `said` is whether there was any event of the protocol.

    Raises Refused.
    """
    if run.stopped or run.cut is not None:
        return
    raise refused(BROKEN_OFF if said else no_protocol, "no end of the answer" if said else "no event of its protocol")


def refused(words: str, reason: str) -> Refused:
    """What a visitor is told; the reason, which must not be the server's own words, goes into the log."""
    print(f"the server behind the page: {reason}", file=sys.stderr, flush=True)
    return Refused(words)


def words_in_stream(error: str) -> str:
    """What a visitor is told of an error that a server reports in its answer, after a status of 200."""
    if "memory" in error.lower():
        return NO_MEMORY
    if "overload" in error.lower() or "busy" in error.lower():
        return BUSY
    return FAILED


def words(status: int, body: str, token: str, none_there: str) -> str:
    """What a visitor is told of a server's refusal. `token` is the variable of its key, `none_there` what a 404 means."""
    if status in (424, 500) and "memory" in body.lower():
        return NO_MEMORY
    not_accepted = f"The server that answers does not accept this page's key. Its owner has to set {token}."
    return {
        400: NOT_TAKEN,
        401: not_accepted,
        402: "This page's quota at the server is used up. Try again tomorrow.",
        403: not_accepted,
        404: none_there,
        413: NOT_TAKEN,
        422: NOT_TAKEN,
        429: "The server that answers is busy, or this page's quota is used up. Try again in a minute.",
        503: "The server that answers is asleep or busy. It may be waking up: try again in a minute.",
    }.get(status, f"The server that answers refused with status {status}. Try again in a minute.")
