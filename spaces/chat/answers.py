"""What all visitors of the page share: the model, the queue before it, and what it says to each.

answers = Answers(read_space(folder))
answers.load()                                     # answers.reason says why where that fails
async for text, note in answers.on_page(...): ...
async for text, note, history in answers.chat_with_note(...): ...   # the API
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import gradio as gr
import limits
import visitors
from chat_model import ChatModel, ModelSettings, Progress, Unavailable, load
from display import plain, shown
from sessions import Sessions, until

if TYPE_CHECKING:
    from thumbs import Thumbs

SECONDS_BETWEEN_LOADS = 60
FAILED = "The page failed"


class Answers:
    """The settings of space.json, the model once it is loaded, the gate and the buckets; thumbs where they are kept.

    `proxies` is how many stand before the page, as visitors.trusted_proxies says.
    """

    def __init__(self, space: dict[str, Any], thumbs: Thumbs | None = None, proxies: int = 0) -> None:
        self.space = space
        self.thumbs = thumbs
        self.model: ChatModel | None = None
        self.reason = ""
        self.load_seconds = 0.0
        self.gate = visitors.Gate()
        self.buckets = visitors.TokenBuckets()
        self.visitors = visitors.Visitors(proxies)
        self.sessions = Sessions()
        self._tried_at = 0.0
        self._loading = asyncio.Lock()

    def load(self) -> None:
        """Load the model; where that fails, log the reason and keep it for visitors."""
        began = self._tried_at = time.monotonic()
        space = self.space
        try:
            self.model = load(
                ModelSettings(
                    space["model_id"],
                    space["revision"],
                    space["checkpoint_digest"],
                    space["precision"],
                    space.get("backend", "transformers"),
                    space.get("backend_settings", {}),
                )
            )
            self.gate = visitors.Gate(at_once=self.model.answers_at_once)
            self.reason = ""
            self.load_seconds = time.monotonic() - began
        except Unavailable as error:
            self.reason = str(error)
            print(f"error: {error}", file=sys.stderr, flush=True)

    async def loaded(self) -> ChatModel:
        """The model. Tries again to load it, once a minute. Raises limits.Refused with the reason."""
        async with self._loading:
            if self.model is None and time.monotonic() - self._tried_at > SECONDS_BETWEEN_LOADS:
                await asyncio.to_thread(self.load)
        if self.model is None:
            raise limits.Refused(f"The model cannot answer: it was not loaded. {self.reason}")
        return self.model

    async def respond(
        self,
        message: str,
        history: list[dict[str, Any]],
        system_prompt: str,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        request: gr.Request,
    ) -> AsyncIterator[tuple[str, str]]:
        """The answer so far and a note on it (tokens, speed, what was left out of the conversation), until it ends.

        Raises gr.Error where there is none.
        """
        try:
            with self.sessions.here(request.session_hash or "") as left:
                async with (
                    aclosing(
                        self._answer(message, history, system_prompt, (temperature, top_p, max_new_tokens), request)
                    ) as answer,
                    aclosing(until(left, answer)) as while_here,
                ):
                    async for text, said in while_here:
                        yield text, said
        except limits.Refused as refusal:  # ours, or of a server behind the page: asleep, busy, out of quota
            raise gr.Error(str(refusal), title="Not answered", duration=15, print_exception=False) from refusal

    async def _answer(
        self,
        message: str,
        history: list[dict[str, Any]],
        system_prompt: str,
        asked: tuple[float, float, int],
        request: gr.Request,
    ) -> AsyncIterator[tuple[str, str]]:
        """As `respond`, `asked` being temperature, top_p and max_new_tokens. Raises limits.Refused."""
        model = await self.loaded()
        sampling = limits.checked_sampling(*asked)
        messages, older = limits.checked_conversation(plain(str(message)), history, system_prompt)
        address = self.visitors.address(request.request)
        self.buckets.take(request.session_hash or "", address)  # before anything that takes time
        prompt = await asyncio.to_thread(model.prompt, messages, sampling.max_new_tokens)
        place = self.gate.enter(address)
        try:
            while not place.admitted.is_set():
                yield "", f"Waiting: {place.ahead} before this one."
                await _wait_for_place(place)
        except BaseException:  # stopped while waiting: the place is another's
            place.leave()
            raise
        began, text = time.monotonic(), ""
        try:
            async with aclosing(model.answer(prompt, sampling, finished=place.leave)) as answer:
                async for progress in answer:
                    text = progress.text
                    yield text, note(progress, older, prompt.left_out, model.context_tokens)
        except Exception:  # what broke off is no answer of the model's, to be rated as one
            text = ""
            raise
        finally:
            if self.thumbs is not None and text:  # also of an answer that was stopped: it stands on the page
                self.thumbs.remember(
                    request.session_hash or "",
                    plain(str(message)),
                    text,
                    prompt=prompt.messages,
                    sampling=sampling,
                    runtime=model.runtime,
                    seconds=time.monotonic() - began,
                )

    async def on_page(
        self,
        message: str,
        history: list[dict[str, Any]],
        system_prompt: str,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        request: gr.Request,
    ) -> AsyncIterator[tuple[str, str]]:
        """As `respond`, but what goes wrong is shown and not raised.

        After an error gradio's ChatInterface never enables its composer again (6.31), and covers the conversation.
        """
        text, settings = "", (system_prompt, temperature, top_p, max_new_tokens)
        try:
            async with aclosing(self.respond(message, history, *settings, request)) as answer:
                async for text, said in answer:
                    yield text, said
        except gr.Error as refusal:  # ours, and ZeroGPU's: out of quota, no GPU
            said = shown(str(refusal.message))  # a server's words may be in it
            # gradio 6.31 heads every such box "Warning", whatever its title, so the words say what this one is.
            gr.Warning(f"{refusal.title}: {said}", duration=15, title=refusal.title)
            yield text, f"{refusal.title}: {said}"
        except Exception as error:  # noqa: BLE001 - a bug: its place is the log, and the visitor is told that there was one
            traceback.print_exception(error)
            gr.Warning("This page failed, and not because of you. Try again.", duration=15, title=FAILED)
            yield text, f"{FAILED}: {type(error).__name__}"

    async def chat(
        self,
        message: str,
        history: list[dict[str, Any]],
        system_prompt: str,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        request: gr.Request,
    ) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
        """Answer a message, as a text. The conversation so far is kept for each client."""
        settings = (system_prompt, temperature, top_p, max_new_tokens)
        async with aclosing(self.chat_with_note(message, history, *settings, request)) as answer:
            async for text, _, so_far in answer:
                yield text, so_far

    async def chat_with_note(
        self,
        message: str,
        history: list[dict[str, Any]],
        system_prompt: str,
        temperature: float,
        top_p: float,
        max_new_tokens: int,
        request: gr.Request,
    ) -> AsyncIterator[tuple[str, str, list[dict[str, Any]]]]:
        """Answer a message; beside the answer a note: its tokens, speed and what was left out."""
        settings = (system_prompt, temperature, top_p, max_new_tokens)
        async with aclosing(self.respond(message, history, *settings, request)) as answer:
            async for text, said in answer:
                so_far = [*history, {"role": "user", "content": message}, {"role": "assistant", "content": text}]
                yield text, said, so_far


async def _wait_for_place(place: visitors.Place) -> None:
    """Until the place is admitted, but not longer than a second, so that the page can show how many are before it."""
    try:
        await asyncio.wait_for(place.admitted.wait(), timeout=1)
    except TimeoutError:
        return


def note(progress: Progress, older: int, left_out: int, context_tokens: int) -> str:
    """The line under the conversation. `older` messages were more than the page takes, `left_out` more than fit the context."""
    if progress.ended is None and progress.tokens == 0:
        return "Waiting for the first word."
    parts = [
        f"{progress.tokens:,} token{'s' * (progress.tokens != 1)}",
        f"first after {progress.first_token_seconds:.1f} s",
    ]
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:.0f} tokens/s")
    if progress.ended == "end" and not progress.text.strip():
        parts.append("the model ended its answer at once: ask in other words")
    if progress.ended == "length":
        parts.append("cut at the longest answer allowed (see Settings)")
    if left_out:
        parts.append(
            f"the oldest {older + left_out} messages no longer fit into {context_tokens:,} tokens and were left out"
        )
    elif older:
        parts.append(f"the oldest {older} messages were left out: the newest {limits.MESSAGES_KEPT} are read")
    return " · ".join(parts)
