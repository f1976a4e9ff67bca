"""Answers while a labeller waits: two revisions, or one checkpoint with two samplings, answer what the labeller asks.

    live = LiveAnswers(space["live"], trusted_proxies())     # Unavailable where a checkpoint cannot be had, or is another one
    pair = await live.pair(labeller, address, "Why is the sky blue?")     # limits.Refused, in words

They are shown when both are there, never as they are written: how fast each comes would tell them apart. The models stand behind
the chat's own interface (chat_model.py), their bytes are checked by digest, and every answer carries the seed of its sampling.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from typing import Any

import limits
import visitors
from chat_model import ChatModel, ModelSettings, as_text, load
from sessions import Sessions, until


@dataclass(frozen=True)
class Side:
    """One way to answer."""

    model: ChatModel
    maker: dict[str, Any]  # repo_id, revision, digest
    sampling: limits.Sampling


class LiveAnswers:
    """The loaded models. One pair at a time: two answers at once on one processor each take twice as long."""

    def __init__(self, sides: list[dict[str, Any]], proxies: int = 0) -> None:
        loaded: dict[str, ChatModel] = {}  # one checkpoint with two samplings is loaded once
        self._sides: list[Side] = []
        for side in sides:
            settings = ModelSettings(side["model_id"], side["revision"], side["checkpoint_digest"], side["precision"])
            model = loaded[str(settings)] = loaded.get(str(settings)) or load(settings)
            maker = {"repo_id": settings.model_id, "revision": settings.revision, "digest": settings.checkpoint_digest}
            self._sides.append(Side(model, maker, limits.Sampling(**side["sampling"])))
        self._gate = visitors.Gate()
        self._buckets = visitors.TokenBuckets()
        self.visitors = visitors.Visitors(proxies)
        self.sessions = Sessions()

    async def pair(self, labeller: str, address: str, message: str) -> dict[str, Any]:
        """Both answers, as a pair that was written beforehand is. Raises limits.Refused with what to do instead.

        `address` is Visitors.address of who asks: a labeller is whoever types a code, and can type nine.
        """
        special = [token for side in self._sides for token in side.model.special_tokens()]
        # What is kept is what was answered: no token of a template in it begins a turn, neither here nor in what is trained on it.
        messages, _ = limits.checked_conversation(as_text(message, special), [], "")
        self._buckets.take(labeller, address)
        place = self._gate.enter(address)
        try:
            await place.admitted.wait()
            one, other = [await _answer(side, messages) for side in self._sides]
        finally:
            place.leave()
        if not one["text"] or not other["text"] or one["text"] == other["text"]:
            raise limits.Refused(
                "Both answers are the same, or one is empty, so there is nothing to compare. Ask something else."
            )
        texts = json.dumps([messages, sorted([one["text"], other["text"]])])
        return {"pair_id": f"live {_hash(texts)}", "prompt": messages, "one": one, "other": other}

    async def while_there(self, session: str, pair: Coroutine[Any, Any, dict[str, Any]]) -> dict[str, Any]:
        """The pair, unless the page that waits for it goes: then nothing is computed any longer, and limits.Refused is raised.

        Else the answers to a page that was loaded anew would be computed to their end, and open in no page.
        """

        async def one() -> AsyncIterator[dict[str, Any]]:
            yield await pair

        try:
            with self.sessions.here(session) as left:
                async with aclosing(until(left, one())) as coming:
                    return await anext(coming)
        finally:
            pair.close()  # where it was never begun

    def runtimes(self) -> list[str]:
        """What answers, for /health; which side is which stays on the server."""
        return sorted({side.model.runtime for side in self._sides})

    def stop(self) -> None:
        for side in self._sides:
            side.model.stop()


async def _answer(side: Side, messages: list[limits.Message]) -> dict[str, Any]:
    sampling = replace(side.sampling, seed=secrets.randbelow(2**31))
    prompt = await asyncio.to_thread(side.model.prompt, messages, sampling.max_new_tokens)
    began, text, ended = time.monotonic(), "", None
    async with aclosing(side.model.answer(prompt, sampling, finished=lambda: None)) as answer:
        async for progress in answer:
            text, ended = progress.text, progress.ended
    drawn = {name: value for name, value in asdict(sampling).items() if name != "seed"}
    facts = {"maker": side.maker, "sampling": drawn, "seed": sampling.seed, "runtime": side.model.runtime}
    facts["cut"] = ended == "length"
    return {"text": text.strip(), "seconds": round(time.monotonic() - began, 3), **facts}


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
