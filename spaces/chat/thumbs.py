"""Thumbs on the page's answers, kept where the visitor agrees: who may rate what, and the record that it becomes.

    thumbs = open_thumbs(space, folder)          # None unless THUMBS_DATASET names a private dataset repository
    thumbs.remember(session, message, answer, prompt=..., sampling=..., ...)     # an answer, as it ended
    thumbs.rate(session, "person", message, answer, True)

A record holds what the model was given and what it answered by this page's own memory, never what a browser says that it was. It is
on the disk before the visitor is thanked and pushed in the background (vote_log.py); `python -m training feedback-thumbs` reads it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import threading
from collections import Counter, OrderedDict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import limits
from vote_log import VoteLog, now, salt_of, votes_folder

ANSWERS_REMEMBERED = 2_000
THUMBS_OF_A_VISIT = 200
KINDS = {"person": "Keep my thumbs. I am a person.", "script": "Keep my thumbs. I am a script."}
NOT_KEPT = "Do not keep them."


@dataclass(frozen=True)
class Given:
    """An answer as the page gave it: what the model was given, and how it was drawn."""

    prompt: list[limits.Message]
    text: str
    sampling: limits.Sampling
    runtime: str
    seconds: float


class Thumbs:
    """The answers that may be rated, and the log that ratings go to. Safe to use from several threads."""

    def __init__(self, space: dict[str, Any], log: VoteLog, salt: bytes) -> None:
        self.log = log
        self.notice = _notice(log.dataset)
        self.choices = [(NOT_KEPT, ""), *((words, kind) for kind, words in KINDS.items())]
        self._space, self._salt = space, salt
        self._consent = f"sha256:{hashlib.sha256(self.notice.encode()).hexdigest()}"
        self._given: OrderedDict[tuple[str, str, str], Given] = OrderedDict()
        self._labels: dict[tuple[str, str, str], bool] = {}  # of those answers, as they were kept last
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def remember(
        self,
        session: str,
        message: str,
        text: str,
        *,
        prompt: list[limits.Message],
        sampling: limits.Sampling,
        runtime: str,
        seconds: float,
    ) -> None:
        """The answer `text` to `message` may be rated from now on, by this visit alone."""
        with self._lock:
            self._given[_key(session, message, text)] = Given(prompt, text, sampling, runtime, seconds)
            while len(self._given) > ANSWERS_REMEMBERED:
                oldest, _ = self._given.popitem(last=False)
                self._labels.pop(oldest, None)

    def labeller(self, session: str, kind: str) -> str:
        """This visit's salted hash: never a name or an address."""
        return hmac.new(self._salt, f"thumb:{kind}:{session}".encode(), hashlib.sha256).hexdigest()

    def kept(self, session: str, message: str, answer: str) -> bool | None:
        """This visit's thumb on this answer, as it counts: the last that was kept, None where there is none."""
        with self._lock:
            return self._labels.get(_key(session, message, answer))

    def rate(self, session: str, kind: object, message: str, answer: str, label: bool | None) -> str:
        """Keep a thumb up (True), down (False) or taken back (None); this visit's hash. Raises limits.Refused, or OSError."""
        if kind not in KINDS:
            raise limits.Refused("Your thumb was not kept: first say under Thumbs that you agree to that.")
        labeller = self.labeller(session, str(kind))
        with self._lock:
            key = _key(session, message, answer)
            given = self._given.get(key)
            if given is None:
                raise limits.Refused("This answer cannot be rated any more. Ask again, then rate the new one.")
            if self._counts[labeller] >= THUMBS_OF_A_VISIT:
                raise limits.Refused("That is as many thumbs as one visit can give. Thank you.")
            self.log.append(
                {
                    "schema_version": 1,
                    "vote_id": secrets.token_hex(16),
                    "prompt": given.prompt,
                    "completion": [{"role": "assistant", "content": given.text}],
                    "label": label,
                    "maker": {
                        "repo_id": self._space["model_id"],
                        "revision": self._space["revision"],
                        "digest": self._space["checkpoint_digest"],
                    },
                    "sampling": {name: value for name, value in asdict(given.sampling).items() if name != "seed"},
                    "seed": given.sampling.seed,
                    "runtime": given.runtime,
                    "seconds": round(given.seconds, 3),
                    "labeller": labeller,
                    "labeller_kind": kind,
                    "consent": self._consent,
                    "voted_at": now(),
                }
            )
            self._counts[labeller] += 1
            self._labels.pop(key, None)
            if label is not None:
                self._labels[key] = label
        return labeller


def open_thumbs(space: dict[str, Any], folder: Path) -> Thumbs | None:
    """None where the owner of the page names no dataset: then the page shows no thumbs. Raises OSError."""
    dataset = os.environ.get("THUMBS_DATASET")
    if not dataset:
        return None
    votes = votes_folder(folder)
    return Thumbs(space, VoteLog(votes, dataset), salt_of(votes))


def _key(session: str, message: str, answer: str) -> tuple[str, str, str]:
    return session, message.strip(), answer.strip()


def _notice(dataset: str | None) -> str:
    return (
        "A thumb says whether an answer was good. If you agree, it is kept with the conversation up to that answer, the "
        f"settings and a salted hash of this visit, in the private dataset `{dataset}`, and trains the next model. Data made "
        "from it, and models trained on that, may be published; please rate nothing personal. No name, no address is kept. "
        "To have your thumbs deleted, give the owner of this page the labeller id that is shown here after your first thumb."
    )
