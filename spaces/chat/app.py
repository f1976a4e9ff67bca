"""The chat page of one published checkpoint: `python app.py` in the folder of the published Space.

space.json beside this file names the model, its revision and its digest; HF_ENDPOINT and HF_TOKEN choose the Hub, and
GRADIO_SERVER_NAME and GRADIO_SERVER_PORT the address. From Python:

    gradio_client.Client("http://127.0.0.1:7860").predict("Hello", api_name="/chat")   # -> answer, note
"""

from __future__ import annotations

import os

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import asyncio
import sys
import time
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import about
import gradio as gr
import limits
from chat_model import ChatModel, ModelSettings, Progress, Unavailable, load, read_space
from display import plain, show_literally
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

FOLDER = Path(__file__).resolve().parent
SECONDS_BETWEEN_LOADS = 60
EXAMPLES = [
    "Explain why the sky is blue, for a child of eight.",
    "Write a short, polite email that moves a meeting to Thursday.",
    "Give me three ideas for dinner with rice and tomatoes.",
    "What should I check before I trust a benchmark score?",
]


class Page:
    """What all visitors share: the settings, the model once it is loaded, the gate and the buckets."""

    def __init__(self, space: dict[str, Any]) -> None:
        self.space = space
        self.model: ChatModel | None = None
        self.reason = ""
        self.gate = limits.Gate()
        self.buckets = limits.TokenBuckets()
        self._tried_at = 0.0

    def load(self) -> None:
        """Load the model; where that fails, keep the reason for visitors and log the rest."""
        self._tried_at = time.monotonic()
        space = self.space
        try:
            self.model = load(
                ModelSettings(space["model_id"], space["revision"], space["checkpoint_digest"], space["precision"])
            )
            self.reason = ""
        except Unavailable as error:
            self.reason = str(error)
            traceback.print_exc()
            print(f"error: {error}", file=sys.stderr, flush=True)

    def loaded(self) -> ChatModel:
        """The model. Tries again to load it, once a minute. Raises limits.Refused with the reason."""
        if self.model is None and time.monotonic() - self._tried_at > SECONDS_BETWEEN_LOADS:
            self.load()
        if self.model is None:
            raise limits.Refused(f"The model cannot answer: it was not loaded. {self.reason}")
        return self.model

    def facts(self) -> tuple[str, Any, str]:
        """HTML of the header, the alert and the details, as they stand now."""
        alert = gr.update(value=about.unavailable(self.reason), visible=self.model is None)
        return about.header(self.space, self.model), alert, about.details(self.space, self.model)

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
        """Answer a message: the answer so far and a note on it (tokens, speed, what was left out), until it ends."""
        place: limits.Place | None = None
        try:
            model = self.loaded()
            sampling = limits.checked_sampling(temperature, top_p, max_new_tokens)
            messages = limits.checked_conversation(plain(str(message)), history, system_prompt)
            prompt = model.prompt(messages, sampling.max_new_tokens)
            self.buckets.take(request.session_hash or "")
            place = self.gate.enter()
        except limits.Refused as refusal:
            raise gr.Error(str(refusal), title="Not answered", duration=15, print_exception=False) from refusal
        try:
            while not place.admitted.is_set():
                yield "", f"Waiting: {place.ahead} before this one."
                await _wait_for_place(place)
        except BaseException:  # stopped while waiting: the place is another's
            place.leave()
            raise
        async for progress in model.answer(prompt, sampling, finished=place.leave):
            yield progress.text, note(progress, prompt.left_out, model.context_tokens)


async def _wait_for_place(place: limits.Place) -> None:
    """Until the place is admitted, but not longer than a second, so that the page can show how many are before it."""
    try:
        await asyncio.wait_for(place.admitted.wait(), timeout=1)
    except TimeoutError:
        return


def note(progress: Progress, left_out: int, context_tokens: int) -> str:
    """The line under the conversation."""
    parts = [f"{progress.tokens:,} tokens", f"first after {progress.first_token_seconds:.1f} s"]
    if progress.tokens_per_second:
        parts.append(f"{progress.tokens_per_second:.0f} tokens/s")
    if progress.ended == "length":
        parts.append("cut at the longest answer allowed (see Settings)")
    if left_out:
        parts.append(f"the oldest {left_out} messages no longer fit into {context_tokens:,} tokens and were left out")
    return " · ".join(parts)


def build(page: Page) -> gr.Blocks:
    """The page: header, conversation, note, settings, details."""
    blocks = gr.Blocks(title=page.space["title"], analytics_enabled=False)
    with blocks:
        header = gr.HTML(padding=False)
        alert = gr.HTML(padding=False, visible=False)
        note_line = gr.Markdown("", label="note", elem_id="note", render=False)
        with gr.Accordion("Settings", open=False, render=False) as settings:
            inputs = _settings()
        gr.ChatInterface(
            page.respond,
            chatbot=show_literally(_conversation()),
            textbox=gr.Textbox(
                placeholder="Type a message",
                label="Message",
                container=False,
                autofocus=True,
                max_length=limits.MESSAGE_CHARACTERS,
                submit_btn=True,
                stop_btn=True,
                elem_id="message",
                scale=7,
            ),
            additional_inputs=inputs,
            additional_outputs=[note_line],
            examples=[[example] for example in EXAMPLES],
            editable=True,
            flagging_mode="never",
            cache_examples=False,
            show_progress="hidden",
            concurrency_limit=None,  # the gate decides, for page and API together
            api_name="chat",
            analytics_enabled=False,
        )
        note_line.render()  # type: ignore[no-untyped-call]
        settings.render()
        with gr.Accordion("Model and scores", open=False):
            details = gr.HTML(padding=False)
        # Asked at each visit, because a model that could not be loaded may have been loaded since.
        blocks.load(page.facts, None, [header, alert, details], queue=False, api_visibility="undocumented")
    blocks.queue(max_size=limits.EVENTS_QUEUED)
    return blocks


def _conversation() -> gr.Chatbot:
    return gr.Chatbot(
        label="Conversation",
        show_label=False,
        elem_id="conversation",
        height="max(300px, calc(100dvh - 350px))",
        buttons=["copy", "copy_all"],
        editable="user",
        feedback_options=None,
        sanitize_html=True,
        allow_file_downloads=False,
        layout="bubble",
    )


def _settings() -> list[str | gr.components.Component]:
    return [
        gr.Textbox("", label="System prompt", lines=2, max_length=limits.SYSTEM_CHARACTERS),
        gr.Slider(0, limits.TEMPERATURE_MOST, 0.7, step=0.05, label="Temperature", info="0: always the likeliest word"),
        gr.Slider(limits.TOP_P_LEAST, 1, 0.9, step=0.05, label="Top-p"),
        gr.Slider(
            limits.NEW_TOKENS_LEAST,
            limits.NEW_TOKENS_MOST,
            limits.NEW_TOKENS_DEFAULT,
            step=16,
            label="Longest answer, in tokens",
        ),
    ]


def health_route(page: Page) -> Route:
    """GET /health: 200 with what answers, or 503 with why nothing does."""

    def health(_: Request) -> JSONResponse:
        if page.model is None:
            return JSONResponse({"status": "unavailable", "reason": page.reason}, status_code=503)
        names = ("model_id", "revision", "tag", "checkpoint_digest")
        facts = {name: page.space[name] for name in names}
        return JSONResponse({"status": "ok", **facts, "runtime": page.model.runtime, "precision": page.model.precision})

    return Route("/health", health)


def main() -> None:
    """Load the model and serve the page until it is stopped."""
    page = Page(read_space(FOLDER))
    page.load()
    build(page).launch(
        theme=gr.themes.Default(
            primary_hue="blue",
            neutral_hue="slate",
            font=["system-ui", "sans-serif"],  # of the visitor's system: the page fetches no fonts
            font_mono=["ui-monospace", "monospace"],
        ),
        css_paths=FOLDER / "page.css",
        footer_links=["api", "settings"],
        ssr_mode=False,
        share=False,
        max_file_size=1,  # bytes: this page takes no files
        app_kwargs={"routes": [health_route(page)], "middleware": [Middleware(limits.GuardedApp)]},
    )


if __name__ == "__main__":
    main()
