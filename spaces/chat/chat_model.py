"""The model behind the page: one interface, and a small file for each thing that can answer; space.json says which.

    model = load(settings)                            # Unavailable, in words for a visitor, where it cannot
    prompt = model.prompt(messages, max_new_tokens)   # leaves out the oldest turns that do not fit
    async for progress in model.answer(prompt, sampling, finished): ...

Whatever can be checked from here is checked before it answers: the digest of a checkpoint, the hash of a GGUF file. Where a
server answers, the page says that nobody can check from here which bytes it runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import importlib
import json
import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from limits import CONTEXT_TOKENS, Message, Refused, Sampling, Unavailable

# Each update sends a page its change, which takes time from the model: so many a second, of all answers together.
UPDATES_A_SECOND = 12.5
SECONDS_TO_STOP = 5.0
# After these somebody who waits for the first token is told that it is awaited: not before a quick one.
SECONDS_UNSAID = 0.5
# A bundle holds the file of its own backend, and none of the others.
BACKENDS = {
    "transformers": "transformers_model",
    "zerogpu": "zerogpu_model",
    "llama.cpp": "llama_model",
    "endpoint": "endpoint_model",
    "tgi": "tgi_model",
}


@dataclass(frozen=True)
class ModelSettings:
    """Which bytes answer, and how: from space.json. `settings` are the backend's own."""

    model_id: str
    revision: str | None
    checkpoint_digest: str
    precision: str
    backend: str = "transformers"
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Prompt:
    """What is answered: token ids, the messages that they are of, and how many of the oldest did not fit."""

    ids: list[int]
    messages: list[Message]
    left_out: int


@dataclass(frozen=True)
class Progress:
    """An answer so far. `ended` is None while it goes on, then "end" or "length". Without tokens the first is awaited."""

    text: str
    tokens: int
    first_token_seconds: float
    tokens_per_second: float
    ended: str | None


def load(settings: ModelSettings) -> ChatModel:
    """The model that space.json names, ready to answer. Raises Unavailable."""
    if settings.backend not in BACKENDS:
        raise Unavailable(f"space.json asks for the backend {settings.backend!r}, which this page does not know.")
    try:
        module = importlib.import_module(BACKENDS[settings.backend])
    except ModuleNotFoundError as error:
        raise Unavailable(f"{error}: install what requirements.txt of this page lists.") from error
    model: ChatModel = module.load(settings)
    return model


def as_text(content: str, special: list[str]) -> str:
    """The content, in which no special token is one: an invisible character stands after its first."""
    for token in sorted(special, key=len, reverse=True):
        content = content.replace(token, f"{token[0]}\u2060{token[1:]}")
    return content


def cores() -> int:
    """How many processors this process may use, unless OMP_NUM_THREADS says how many."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get("OMP_NUM_THREADS") or here)


class ChatModel(ABC):
    """Something that answers. At most `answers_at_once` at a time is the caller's to see to (limits.Gate).

    `checked` is what was checked of the bytes that answer, as a sentence; None where nothing can be.
    """

    runtime: str
    precision: str
    device: str
    checked: str | None
    answers_at_once = 1
    # At a server: what this page stops takes nothing from the next visitor, even where the server hangs.
    works_elsewhere = False

    def __init__(self, context_tokens: int | None) -> None:
        self.context_tokens = min(CONTEXT_TOKENS, context_tokens) if context_tokens else CONTEXT_TOKENS
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()

    @abstractmethod
    def token_ids(self, messages: list[Message]) -> list[int]:
        """The conversation by the checkpoint's own template and tokenizer, up to where the answer begins."""

    @abstractmethod
    def special_tokens(self) -> list[str]:
        """The texts that the tokenizer takes for tokens of their own, as the marks of a turn."""

    @abstractmethod
    def generate(self, prompt: Prompt, sampling: Sampling, run: Run) -> None:
        """Answer in this thread: `run.put` each piece of text, and return soon after `run.stopped`."""

    def prompt(self, messages: list[Message], max_new_tokens: int) -> Prompt:
        """Leave out the oldest turns until prompt and answer fit the context.

        What stands in a message stays in it: a special token that somebody typed or pasted is read as text, so that no
        message can end its turn and begin another. Raises Refused where the newest message alone does not fit.
        """
        special = self.special_tokens()
        messages = [{**message, "content": as_text(message["content"], special)} for message in messages]
        system = [message for message in messages if message["role"] == "system"]
        turns = [message for message in messages if message["role"] != "system"]
        room = self.context_tokens - max_new_tokens
        left_out = 0
        while True:
            ids = self.token_ids([*system, *turns])
            if len(ids) <= room:
                return Prompt(ids, [*system, *turns], left_out)
            newer = [at for at, message in enumerate(turns) if at > 0 and message["role"] == "user"]
            if not newer:
                raise Refused(
                    f"This message needs {len(ids):,} tokens; with an answer of {max_new_tokens:,} there is "
                    f"room for {max(0, room):,}. Shorten it."
                )
            left_out += newer[0]
            turns = turns[newer[0] :]

    async def answer(self, prompt: Prompt, sampling: Sampling, finished: Callable[[], None]) -> AsyncIterator[Progress]:
        """Generate in a thread of its own and give what there is, a few times a second.

        When the reader stops reading (the iterator is closed, its task is cancelled) the thread ends after the token
        it is working on. `finished` is called on the event loop once the thread is done, however it ended, and at once, too,
        where a server works: it may be called twice.
        """
        run = Run(asyncio.get_running_loop(), self._stopping)
        # In the visitor's context, by which ZeroGPU finds out whose quota the answer takes.
        work = partial(contextvars.copy_context().run, self._work, prompt, sampling, run, finished)
        thread = threading.Thread(target=work, daemon=True)
        self._threads = self._answering() | {thread}
        thread.start()
        text = ""
        ended = False
        try:
            if not await run.begun_within(SECONDS_UNSAID):
                yield run.progress("", None)
            while not ended:
                pieces = [await run.pieces.get()]
                while not run.pieces.empty():
                    pieces.append(run.pieces.get_nowait())
                ended = pieces[-1] is None
                text += "".join(piece for piece in pieces if piece is not None)
                if run.failure is not None:
                    if text:
                        yield run.progress(text, None)
                    raise run.failure
                cut = run.cut if run.cut is not None else run.tokens >= sampling.max_new_tokens
                how = ("length" if cut else "end") if ended else None
                if text or ended:
                    yield run.progress(text, how)
                if not ended:
                    await run.ended_within(len(self._answering()) / UPDATES_A_SECOND)
        finally:
            run.stop.set()
            if self.works_elsewhere:
                finished()

    def stop(self) -> None:
        """End every answer after the token that it is working on, and wait for that: for the end of the process."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(SECONDS_TO_STOP)

    def _answering(self) -> set[threading.Thread]:
        return {thread for thread in self._threads if thread.is_alive()}

    def _work(self, prompt: Prompt, sampling: Sampling, run: Run, finished: Callable[[], None]) -> None:
        try:
            self.generate(prompt, sampling, run)
        except Exception as error:  # noqa: BLE001 - whatever it is, `answer` raises it where somebody reads
            run.failure = error
        finally:
            run.end(finished)


class Run:
    """One answer: the queue through which its text reaches the event loop, and the wish to stop it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, stopping: threading.Event) -> None:
        self.pieces: asyncio.Queue[str | None] = asyncio.Queue()  # None ends it
        self._begun, self._ended = asyncio.Event(), asyncio.Event()
        self.stop = threading.Event()  # of this answer
        self.tokens = self.characters = 0
        self.cut: bool | None = None  # whether the longest answer ended it, where the backend is told
        self.failure: Exception | None = None
        self._stopping = stopping  # of the whole page
        self._loop = loop
        self._began = self._first = self._latest = time.monotonic()

    @property
    def stopped(self) -> bool:
        """Whether nobody reads any more."""
        return self.stop.is_set() or self._stopping.is_set()

    def put(self, piece: str) -> None:
        """Text that has become printable."""
        if piece:
            self.characters += len(piece)
            self._call(lambda: self._give(piece))

    def count_token(self, so_far: int | None = None) -> None:
        """One more token, or so many in all where the backend says so: a character can take several."""
        self._latest = time.monotonic()
        self._first = self._latest if self.tokens == 0 else self._first
        self.tokens = self.tokens + 1 if so_far is None else so_far

    def end(self, finished: Callable[[], None]) -> None:
        self._call(lambda: self._give(None))
        self._call(self._ended.set)
        self._call(finished)

    async def begun_within(self, seconds: float) -> bool:
        """Wait so long, or until there is text or the end of the answer: whether there is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._begun.wait(), seconds)
        return self._begun.is_set()

    async def ended_within(self, seconds: float) -> None:
        """Wait so long, or until the answer has ended."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), seconds)

    def progress(self, text: str, ended: str | None) -> Progress:
        seconds = self._latest - self._first
        rate = (self.tokens - 1) / seconds if self.tokens > 1 and seconds > 0 else 0.0
        return Progress(text, self.tokens, self._first - self._began, rate, ended)

    def _give(self, piece: str | None) -> None:
        self.pieces.put_nowait(piece)
        self._begun.set()

    def _call(self, function: Callable[[], None]) -> None:
        if not self._loop.is_closed():  # closed: the server is shutting down, and nobody reads any more
            self._loop.call_soon_threadsafe(function)


def read_space(folder: Path) -> dict[str, Any]:
    """space.json beside the app. Raises Unavailable where it is missing or not JSON."""
    try:
        return dict(json.loads((folder / "space.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise Unavailable(f"space.json cannot be read, so this page does not know its model: {error}") from error
