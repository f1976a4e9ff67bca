"""How often one visitor may ask, and how many answers run or wait at once, so that nobody takes the page from the others.

    address = Visitors(trusted_proxies()).address(request)    # a salted hash, the same for every session of one address
    buckets.take(session, address)                            # limits.Refused, in words
    place = gate.enter(address)                               # likewise; wait for place.admitted, then place.leave()

A session is what a client says that it is, and one client can say nine. So an address has limits of its own, several times
those of a session: a class at a school comes from one. An address is nowhere written or logged, and the salt ends with the process.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import os
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from limits import Refused, Unavailable

if TYPE_CHECKING:
    from starlette.requests import Request

ANSWERS_AT_ONCE = 1  # two answers on one processor each take twice as long
ANSWERS_WAITING = 8
BURST_MESSAGES, SECONDS_PER_MESSAGE = 10, 6.0  # of a session
SESSIONS_AT_ONE_ADDRESS = 4  # an address may send as often as so many sessions
SHARE_OF_ONE_ADDRESS = 3 / 4  # of all places, answering and waiting
REMEMBERED = 10_000  # sessions and addresses
PROXIES_MOST = 9
HOME_NETWORK = 64  # bits of an IPv6 address: whoever has one has all that begin alike


def trusted_proxies() -> int:
    """How many proxies stand before this page: TRUSTED_PROXIES, else 1 on a Space and 0 elsewhere. Raises Unavailable."""
    said = os.environ.get("TRUSTED_PROXIES", "1" if os.environ.get("SPACE_ID") else "0").strip()
    if not said.isascii() or not said.isdigit() or int(said) > PROXIES_MOST:
        raise Unavailable(f"TRUSTED_PROXIES must be a number from 0 to {PROXIES_MOST}, and is {said!r}.")
    return int(said)


def client_address(peer: str, forwarded: list[str], proxies: int) -> str:
    """The address that a request came from, of IPv6 the home network's; `peer` is who connected.

    Each proxy adds to the right of X-Forwarded-For whom it heard, and leaves what stood there: the Hub's does, as others
    measured in 2026. So of `proxies` trusted ones the outermost added the entry that many from the right; what stands left of
    it, a client wrote. Where there are fewer entries the request came around a proxy, and only the peer is known.
    """
    entries = [entry.strip() for line in forwarded for entry in line.split(",") if entry.strip()]
    said = entries[-proxies] if 0 < proxies <= len(entries) else peer
    # Some proxies add the port: 192.0.2.1:4711, [2001:db8::1]:4711.
    host = (
        said[1:].partition("]")[0] if said.startswith("[") else said.partition(":")[0] if said.count(":") == 1 else said
    )
    try:
        parsed = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return said
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped or ipaddress.IPv6Network((int(parsed), HOME_NETWORK), strict=False))
    return str(parsed)


class Visitors:
    """Tells the addresses of visitors apart without keeping any."""

    def __init__(self, proxies: int) -> None:
        self._proxies = proxies
        self._salt = secrets.token_bytes(32)

    def address(self, request: Request | None) -> str:
        """The same text for every request of one address while this process lives."""
        peer = request.client.host if request is not None and request.client is not None else ""
        forwarded = request.headers.getlist("x-forwarded-for") if request is not None else []
        address = client_address(peer, forwarded, self._proxies)
        return hashlib.blake2b(address.encode(), key=self._salt, digest_size=16).hexdigest()


class TokenBuckets:
    """A token bucket for each session: BURST_MESSAGES at once, then one every SECONDS_PER_MESSAGE; a larger one an address."""

    def __init__(
        self,
        burst: int = BURST_MESSAGES,
        seconds_per_message: float = SECONDS_PER_MESSAGE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._burst, self._seconds, self._clock = burst, seconds_per_message, clock
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()  # (messages left, at)

    def take(self, session: str, address: str) -> None:
        """Take one message from both buckets. Raises Refused where one is empty, and then takes none from the other."""
        now = self._clock()
        own, shared = ("session", session), ("address", address)
        sizes = {own: 1, shared: SESSIONS_AT_ONE_ADDRESS}
        left = {key: self._left(key, size, now) for key, size in sizes.items()}
        enough = all(messages >= 1 for messages in left.values())
        for key, messages in left.items():
            self._buckets.pop(key, None)
            self._buckets[key] = (messages - 1 if enough else messages, now)
        while len(self._buckets) > REMEMBERED:
            self._buckets.popitem(last=False)
        if enough:
            return
        empty = own if left[own] < 1 else shared
        wait = max(1, round((1 - left[empty]) * self._seconds / sizes[empty]))
        whose = "That was many messages" if empty == own else "Many messages came from your network"
        raise Refused(f"{whose} in a short time. Wait {wait} s, then send it again.")

    def _left(self, key: tuple[str, str], size: int, now: float) -> float:
        left, at = self._buckets.get(key, (float(self._burst * size), now))
        return min(self._burst * size, left + (now - at) * size / self._seconds)


class Place:
    """A visitor's place at the gate: waiting, then answering, then left. Leaving twice is leaving once."""

    def __init__(self, gate: Gate, address: str, turn: int) -> None:
        self._gate = gate
        self._left = False
        self.address, self.turn = address, turn
        self.admitted = asyncio.Event()

    @property
    def ahead(self) -> int:
        """How many answers come before this one."""
        return self._gate.ahead_of(self)

    def leave(self) -> None:
        if not self._left:
            self._left = True
            self._gate.remove(self)


def _busy(ahead: int, whose: str) -> str:
    """What somebody is told for whom there is no place."""
    come = "answer{} comes" if ahead == 1 else "answers{} come"
    return f"This page is busy: {ahead} {come.format(whose)} before yours. Try again in a minute."


class Gate:
    """Admits ANSWERS_AT_ONCE visitors, lets ANSWERS_WAITING wait, and refuses the next in clear words.

    One address holds SHARE_OF_ONE_ADDRESS of the places at most, and addresses take turns: each place of an address has a turn
    after that of its last, and whoever comes anew has the turn that is on (start-time fair queueing, Goyal et al. 1996).
    Belongs to one event loop. gradio's own queue counts each of its events apart; this counts answers, whether they come
    from the page or from the API.
    """

    def __init__(self, at_once: int = ANSWERS_AT_ONCE, waiting: int = ANSWERS_WAITING) -> None:
        self._at_once, self._all = at_once, at_once + waiting
        self._share = max(1, int(self._all * SHARE_OF_ONE_ADDRESS))
        self._places: list[Place] = []  # in the order of their coming
        self._turn = 0  # of the last that was admitted

    def enter(self, address: str) -> Place:
        """Take a place; it is `admitted` at once or later. Raises Refused where all, or those of this address, are taken."""
        if len(self._places) >= self._all:
            raise Refused(_busy(len(self._places), ""))
        turns = [place.turn for place in self._places if place.address == address]
        if len(turns) >= self._share:
            raise Refused(_busy(len(turns), " to your network"))
        place = Place(self, address, max([self._turn, *(turn + 1 for turn in turns)]))
        self._places.append(place)
        self._admit()
        return place

    def ahead_of(self, place: Place) -> int:
        waiting = self._waiting()
        return waiting.index(place) + 1 if place in waiting else 0

    def remove(self, place: Place) -> None:
        self._places.remove(place)
        self._admit()

    def _waiting(self) -> list[Place]:
        """In the order in which they are admitted."""
        return sorted((place for place in self._places if not place.admitted.is_set()), key=lambda place: place.turn)

    def _admit(self) -> None:
        waiting = self._waiting()
        free = self._at_once - (len(self._places) - len(waiting))
        for place in waiting[:free]:
            place.admitted.set()
            self._turn = place.turn
