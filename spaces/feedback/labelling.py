"""Which pair a labeller sees next, on which sides, and what becomes a vote: everything that the page must not know.

labelling = Labelling(space, pairs, gold, log, salt)
who = labelling.labeller("my code", "person")
shown = labelling.next(who)            # None when nothing is left for them
labelling.vote(who, shown, "a", reason="", better_answer="")
labelling.open_live(who, pair)         # where nothing prepared is left, and models answer
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import secrets
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import limits
from vote_log import VoteLog, clock, now

CHOICES = ("a", "b", "tie", "both_bad")
CODE_LEAST, CODE_MOST = 3, 64  # characters
REASON_MOST, BETTER_MOST = 1_000, 4_000
DOUBLE_CLICK_SECONDS = 0.5  # nobody has seen a pair after so little time
LOOKING_SECONDS = 600.0  # a pair that somebody has had open for longer may be shown to others in their place


@dataclass(frozen=True)
class Who:
    """A labeller, by salted hash."""

    labeller: str
    kind: str  # "person" | "script"


@dataclass(frozen=True)
class Shown:
    """A pair as one labeller sees it. Only prompt and texts reach the page."""

    vote_id: str
    key: str  # of the pair or the gold item
    prompt: list[dict[str, str]]
    a: dict[str, Any]
    b: dict[str, Any]
    gold_id: str | None
    gold_choice: str | None
    since: float


class Labelling:
    """Who has voted on what. Safe to use from several threads."""

    def __init__(
        self, space: dict[str, Any], pairs: list[dict[str, Any]], gold: list[dict[str, Any]], log: VoteLog, salt: bytes
    ) -> None:
        self.space, self.log, self._salt = space, log, salt
        self._live = bool(space.get("live"))
        self._pairs = {pair["pair_id"]: pair for pair in pairs}
        self._gold = {item["gold_id"]: item for item in gold}
        self._random = random.SystemRandom()
        self._lock = threading.Lock()
        self._done: dict[str, set[str]] = defaultdict(set)  # labeller -> keys
        self._votes: Counter[str] = Counter()  # on each pair
        self._open: dict[str, Shown] = {}  # what each labeller is looking at, so that a reload shows it again
        by_texts = {_texts(pair["prompt"], pair["one"], pair["other"]): key for key, pair in self._pairs.items()}
        earlier = log.earlier()
        self.known_votes = len(earlier)  # at the start
        for vote in earlier:
            # A vote of another page, with other pairs, counts towards the labeller's cap only.
            pair = by_texts.get(_texts(vote["prompt"], vote["a"], vote["b"]), f"elsewhere {vote['vote_id']}")
            self._count(vote["labeller"], vote["gold_id"] or pair)

    def labeller(self, code: object, kind: object) -> Who:
        """The labeller of a code. Raises limits.Refused where the code cannot be one."""
        if kind not in ("person", "script"):
            raise limits.Refused("Say whether a person or a script votes.")
        if not isinstance(code, str) or not CODE_LEAST <= len(code.strip()) <= CODE_MOST:
            raise limits.Refused(f"A labeller code has {CODE_LEAST} to {CODE_MOST} characters.")
        allowed = self.space.get("codes")
        if allowed is not None and code.strip() not in allowed:
            raise limits.Refused("This labeller code is not known here. Ask who invited you.")
        # The kind is hashed too: a script that votes under a person's code is another labeller.
        digest = hmac.new(self._salt, f"{kind}:{code.strip().lower()}".encode(), hashlib.sha256).hexdigest()
        if digest in self.log.forgotten:  # whatever they gave would be dropped at the next push
            raise limits.Refused("The votes of this labeller were deleted at their request, so no more are taken.")
        return Who(digest, str(kind))

    def next(self, who: Who) -> Shown | None:
        """The pair that this labeller is looking at, or the next; None where nothing is left, or they reached the cap."""
        with self._lock:
            if who.labeller in self._open:
                return self._open[who.labeller]
            shown = self._draw(who)
            if shown is not None:
                self._open[who.labeller] = shown
            return shown

    def may_ask(self, who: Who) -> bool:
        """Whether models answer here what this labeller asks, and they are below their cap."""
        with self._lock:
            return self._live and len(self._done[who.labeller]) < self.space["votes_per_labeller"]

    def opened(self, who: Who) -> bool:
        """Whether this labeller has a pair open, which comes before anything that they ask."""
        with self._lock:
            return who.labeller in self._open

    def open_live(self, who: Who, pair: dict[str, Any]) -> None:
        """Show this labeller a pair that was answered for them. Raises limits.Refused where they have another open."""
        with self._lock:
            if who.labeller in self._open:
                raise limits.Refused("A pair is open already: vote on it first.")
            self._open[who.labeller] = self._show_pair(pair)

    def voted(self, who: Who) -> int:
        """How many votes this labeller gave."""
        with self._lock:
            return len(self._done[who.labeller])

    def vote(self, who: Who, vote_id: str, choice: object, reason: object, better_answer: object) -> None:
        """Record the vote on what is open for this labeller. Raises limits.Refused where it is not that, or too long.

        A second click, or a page that was left open, carries another vote_id and is refused, not counted again.
        """
        if choice not in CHOICES:
            raise limits.Refused("A vote is A, B, tie or both bad.")
        said, better = _text("The reason", reason, REASON_MOST), _text("The better answer", better_answer, BETTER_MOST)
        with self._lock:
            shown = self._open.get(who.labeller)
            if shown is None or shown.vote_id != vote_id:
                raise limits.Refused("This pair was voted on already, or the page is old. The next pair is shown.")
            if who.kind == "person" and clock() - shown.since < DOUBLE_CLICK_SECONDS:
                raise limits.Refused("That came at once, as a double click does, and was not counted.")
            self.log.append(
                {
                    "schema_version": 1,
                    "vote_id": shown.vote_id,
                    "prompt": shown.prompt,
                    "a": shown.a,
                    "b": shown.b,
                    "choice": choice,
                    "reason": said,
                    "better_answer": better,
                    "labeller": who.labeller,
                    "labeller_kind": who.kind,
                    "gold_id": shown.gold_id,
                    "gold_choice": shown.gold_choice,
                    "consent": self.space["notice"],
                    "voted_at": now(),
                    "decision_seconds": round(clock() - shown.since, 2),
                }
            )
            del self._open[who.labeller]
            self._count(who.labeller, shown.key)

    def _count(self, labeller: str, key: str) -> None:
        self._done[labeller].add(key)
        self._votes[key] += 1

    def _draw(self, who: Who) -> Shown | None:
        done = self._done[who.labeller]
        if len(done) >= self.space["votes_per_labeller"]:
            return None
        wanted = self.space["votes_per_pair"]
        taken = self._votes + self._looked_at()
        left = [key for key in self._pairs if key not in done and taken[key] < wanted]
        if not left and not self._live:
            return None
        gold = [key for key in self._gold if key not in done]
        if gold and self._gold_is_due(who, len(done)):
            return self._show_gold(self._gold[self._random.choice(gold)])
        if not left:
            return None
        most = max(taken[key] for key in left)  # pairs that were begun are finished first
        return self._show_pair(self._pairs[self._random.choice([key for key in left if taken[key] == most])])

    def _looked_at(self) -> Counter[str]:
        """How many labellers are looking at each pair, whose votes are to come."""
        since = clock() - LOOKING_SECONDS
        return Counter(shown.key for shown in self._open.values() if shown.since > since)

    def _gold_is_due(self, who: Who, place: int) -> bool:
        """One gold item in each block of `gold_every`, at a place that only the salt tells."""
        every = self.space["gold_every"]
        draw = hmac.new(self._salt, f"{who.labeller}|{place // every}".encode(), hashlib.sha256).digest()
        return place % every == int.from_bytes(draw[:4]) % every

    def _show_pair(self, pair: dict[str, Any]) -> Shown:
        sides = [pair["one"], pair["other"]]
        self._random.shuffle(sides)
        return Shown(_new_id(), pair["pair_id"], pair["prompt"], sides[0], sides[1], None, None, clock())

    def _show_gold(self, item: dict[str, Any]) -> Shown:
        better, worse = ({"text": item[name]} | dict.fromkeys(_FACTS) for name in ("better", "worse"))
        swapped = self._random.random() < 0.5
        a, b = (worse, better) if swapped else (better, worse)
        known = "b" if swapped else "a"
        return Shown(_new_id(), item["gold_id"], item["prompt"], a, b, item["gold_id"], known, clock())


_FACTS = ("maker", "sampling", "seed", "runtime", "seconds")


def read_lines(file: Path, sha256: str) -> list[dict[str, Any]]:
    """The rows of a .jsonl file of this bundle. Raises ValueError where it is not the one that space.json names."""
    content = file.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"{file.name} is not the file that this page was made with: expected {sha256}, found {found}")
    return [json.loads(line) for line in content.splitlines() if line.strip()]


def _texts(prompt: list[dict[str, str]], one: dict[str, Any], other: dict[str, Any]) -> str:
    """The same for a pair, whichever side its answers are on."""
    return json.dumps([prompt, sorted([one["text"], other["text"]])], sort_keys=True)


def _text(what: str, value: object, most: int) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise limits.Refused(f"{what} must be a text.")
    if len(value) > most:
        raise limits.Refused(f"{what} has {len(value):,} characters; the most is {most:,}. Shorten it.")
    return value.strip() or None


def _new_id() -> str:
    return secrets.token_hex(16)
