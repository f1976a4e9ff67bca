"""The model behind the page: downloaded at one commit, checked against its digest, loaded, and made to talk.

    model = load(settings)                            # Unavailable, in words for a visitor, where it cannot
    prompt = model.prompt(messages, max_new_tokens)   # leaves out the oldest turns that do not fit
    async for progress in model.answer(prompt, sampling, finished): ...

The digest is computed from the bytes on this machine before they are loaded: the page answers with exactly the
checkpoint that its scores were measured on, or says that it does not.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import torch
import transformers
from digest import checkpoint_digest
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from limits import CONTEXT_TOKENS, Message, Refused, Sampling
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.generation.streamers import TextStreamer

SECONDS_BETWEEN_UPDATES = 0.08  # each update sends the page a change; more of them would take time from the model
# What the repository holds beside the model: it is not needed to answer.
NOT_NEEDED = ["*.md", "*.png", "*.svg", "*.sig", "samples/*", "baseline/*", "figures/*", ".eval_results/*"]
SECONDS_TO_STOP = 5.0


class Unavailable(Exception):
    """The model cannot be had; the text says why, for a visitor and for whoever runs the page."""


@dataclass(frozen=True)
class ModelSettings:
    """Which bytes answer, and how: from space.json."""

    model_id: str
    revision: str | None
    checkpoint_digest: str
    precision: str  # "auto" | "bfloat16" | "float32"


@dataclass(frozen=True)
class Prompt:
    """Token ids of shape (1, T), and how many of the oldest messages did not fit."""

    input_ids: torch.Tensor
    left_out: int


@dataclass(frozen=True)
class Progress:
    """An answer so far. `ended` is None while it goes on, then "end" or "length"."""

    text: str
    tokens: int
    first_token_seconds: float
    tokens_per_second: float
    ended: str | None


def load(settings: ModelSettings) -> ChatModel:
    """Download (or find in the cache), check the digest, load. Raises Unavailable."""
    folder = _fetch(settings)
    found = checkpoint_digest(folder)
    if found != settings.checkpoint_digest:
        raise Unavailable(
            f"The files of {settings.model_id} are not the ones that this page was published for: expected "
            f"{settings.checkpoint_digest}, found {found}. Publish the Space again, or download the model again."
        )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = choose_precision(settings.precision, device)
    try:
        # From the folder whose files were hashed, not by name again: what was checked is what answers.
        tokenizer = AutoTokenizer.from_pretrained(folder)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise Unavailable(f"{settings.model_id} was downloaded but cannot be loaded: {error}") from error
    if tokenizer.chat_template is None:
        raise Unavailable(f"{settings.model_id} has no chat template, so it cannot hold a conversation.")
    return ChatModel(model.to(device).eval(), tokenizer, settings)


def _fetch(settings: ModelSettings) -> Path:
    if settings.revision is None:  # a folder, for trying a page out before anything is published
        folder = Path(settings.model_id)
        if not folder.is_dir():
            raise Unavailable(f"There is no folder {folder}, and space.json names no revision of a repository.")
        return folder
    where = f"{settings.model_id} at revision {settings.revision}"
    try:
        return Path(snapshot_download(settings.model_id, revision=settings.revision, ignore_patterns=NOT_NEEDED))
    except GatedRepoError as error:
        raise Unavailable(f"{where} is gated: accept its terms, and set HF_TOKEN as a secret of the Space.") from error
    except RevisionNotFoundError as error:
        raise Unavailable(f"The repository exists but has no revision {settings.revision}.") from error
    except RepositoryNotFoundError as error:
        raise Unavailable(f"There is no {where}, or it is private and HF_TOKEN is not set.") from error
    except LocalEntryNotFoundError as error:
        raise Unavailable(f"{where} is not in the cache, and the Hub cannot be reached.") from error
    except HfHubHTTPError as error:
        raise Unavailable(f"The Hub refused {where}: {error}") from error
    except (OSError, httpx2.HTTPError) as error:
        raise Unavailable(f"{where} cannot be downloaded: {type(error).__name__}: {error}") from error


def choose_precision(precision: str, device: str) -> torch.dtype:
    """The stated precision; "auto" is bfloat16 where the hardware multiplies it, else float32."""
    if precision == "auto":
        if device == "cuda":
            return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
        return torch.bfloat16 if cpu_multiplies_bfloat16() else torch.float32
    if precision not in ("bfloat16", "float32"):
        raise Unavailable(f"space.json asks for the precision {precision!r}; it must be auto, bfloat16 or float32.")
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


def leave_a_core_for_the_page() -> None:
    """One thread fewer than there are cores, unless OMP_NUM_THREADS says how many.

    A token is a row of small matrix products with a barrier after each: a thread that has to share its core with the
    server holds up all the others.
    """
    if "OMP_NUM_THREADS" not in os.environ and torch.get_num_threads() > 1:
        torch.set_num_threads(torch.get_num_threads() - 1)


def cpu_multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for bfloat16 (AVX512_BF16 or AMX): without them it is emulated, slowly."""
    flags = Path("/proc/cpuinfo")
    words = flags.read_text(encoding="utf-8", errors="replace").split() if flags.is_file() else []
    return "amx_bf16" in words or "avx512_bf16" in words


class ChatModel:
    """A loaded model and its tokenizer. One answer at a time is the caller's to see to (limits.Gate)."""

    def __init__(self, model: Any, tokenizer: Any, settings: ModelSettings) -> None:
        self._model, self._tokenizer, self.settings = model, tokenizer, settings
        own = getattr(model.config, "max_position_embeddings", None)
        self.context_tokens = min(CONTEXT_TOKENS, own) if isinstance(own, int) else CONTEXT_TOKENS
        self.precision = str(model.dtype).removeprefix("torch.")
        self.device = model.device.type
        self._stopping = threading.Event()
        self._threads: set[threading.Thread] = set()
        self.runtime = f"transformers {transformers.__version__}, torch {torch.__version__}, {self.device}"

    def prompt(self, messages: list[Message], max_new_tokens: int) -> Prompt:
        """Render the conversation, leaving out the oldest turns until prompt and answer fit the context.

        Raises Refused where the newest message alone does not fit.
        """
        system = [message for message in messages if message["role"] == "system"]
        turns = [message for message in messages if message["role"] != "system"]
        room = self.context_tokens - max_new_tokens
        left_out = 0
        while True:
            input_ids = self._tokenizer.apply_chat_template(
                [*system, *turns], add_generation_prompt=True, return_tensors="pt", return_dict=True
            )["input_ids"]
            if input_ids.shape[1] <= room:
                return Prompt(input_ids, left_out)
            newer = [at for at, message in enumerate(turns) if at > 0 and message["role"] == "user"]
            if not newer:
                raise Refused(
                    f"This message needs {input_ids.shape[1]:,} tokens; with an answer of {max_new_tokens:,} there is "
                    f"room for {max(0, room):,}. Shorten it, or ask for a shorter answer."
                )
            left_out += newer[0]
            turns = turns[newer[0] :]

    async def answer(self, prompt: Prompt, sampling: Sampling, finished: Callable[[], None]) -> AsyncIterator[Progress]:
        """Generate in a thread of its own and give what there is, a few times a second.

        When the reader stops reading (the iterator is closed, its task is cancelled) the thread ends after the token
        it is working on. `finished` is called on the event loop once the thread is done, however it ended.
        """
        run = _Run(self._tokenizer, asyncio.get_running_loop(), finished, self._stopping)
        thread = threading.Thread(
            target=run.work, args=(self._model, prompt.input_ids, self._arguments(sampling)), daemon=True
        )
        self._threads = {other for other in self._threads if other.is_alive()} | {thread}
        thread.start()
        text = ""
        ended = False
        try:
            while not ended:
                pieces = [await run.pieces.get()]
                while not run.pieces.empty():
                    pieces.append(run.pieces.get_nowait())
                ended = pieces[-1] is None
                text += "".join(piece for piece in pieces if piece is not None)
                if run.failure is not None:
                    raise run.failure
                how = ("length" if run.tokens >= sampling.max_new_tokens else "end") if ended else None
                if text or ended:
                    yield run.progress(text, how)
                if not ended:
                    await asyncio.sleep(SECONDS_BETWEEN_UPDATES)
        finally:
            run.stop.set()

    def stop(self) -> None:
        """End every answer after the token that it is working on, and wait for that: for the end of the process."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(SECONDS_TO_STOP)

    def _arguments(self, sampling: Sampling) -> dict[str, Any]:
        arguments: dict[str, Any] = {"max_new_tokens": sampling.max_new_tokens, "do_sample": sampling.temperature > 0}
        if sampling.temperature > 0:
            arguments |= {"temperature": sampling.temperature, "top_p": sampling.top_p}
        if self._tokenizer.pad_token_id is not None:
            arguments["pad_token_id"] = self._tokenizer.pad_token_id
        return arguments


class _Run:
    """One call of generate in its thread, and the queue through which its text reaches the event loop."""

    def __init__(
        self,
        tokenizer: Any,
        loop: asyncio.AbstractEventLoop,
        finished: Callable[[], None],
        stopping: threading.Event,
    ) -> None:
        self.pieces: asyncio.Queue[str | None] = asyncio.Queue()  # None ends it
        self.stop = threading.Event()  # of this answer
        self.stopping = stopping  # of the whole page
        self.tokens = 0
        self.failure: Exception | None = None
        self._tokenizer, self._loop, self._finished = tokenizer, loop, finished
        self._began = self._first = self._latest = time.monotonic()

    def work(self, model: Any, input_ids: torch.Tensor, arguments: dict[str, Any]) -> None:
        streamer = _Pieces(self._tokenizer, self._put)
        inputs = input_ids.to(model.device)
        try:
            with torch.inference_mode():
                model.generate(
                    inputs,
                    attention_mask=torch.ones_like(inputs),
                    streamer=streamer,
                    stopping_criteria=StoppingCriteriaList([_StopFlag(self)]),
                    **arguments,
                )
        except Exception as error:  # noqa: BLE001 - handed over to the reader, who raises it
            self.failure = error
        finally:
            self._put(None)
            self._call(self._finished)

    def count_token(self) -> None:
        self._latest = time.monotonic()
        self._first = self._latest if self.tokens == 0 else self._first
        self.tokens += 1

    def progress(self, text: str, ended: str | None) -> Progress:
        seconds = self._latest - self._first
        rate = (self.tokens - 1) / seconds if self.tokens > 1 and seconds > 0 else 0.0
        return Progress(text, self.tokens, self._first - self._began, rate, ended)

    def _put(self, piece: str | None) -> None:
        self._call(lambda: self.pieces.put_nowait(piece))

    def _call(self, function: Callable[[], None]) -> None:
        if not self._loop.is_closed():  # closed: the server is shutting down, and nobody reads any more
            self._loop.call_soon_threadsafe(function)


class _Pieces(TextStreamer):  # type: ignore[misc]
    """Text as it becomes printable, without the prompt and without special tokens."""

    def __init__(self, tokenizer: Any, put: Callable[[str | None], None]) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._put_piece = put

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002 - work() marks the end
        if text:
            self._put_piece(text)


class _StopFlag(StoppingCriteria):  # type: ignore[misc]
    """Asked after every token: counts it, and ends the answer where nobody reads any more."""

    def __init__(self, run: _Run) -> None:
        self._run = run

    def __call__(self, input_ids: torch.Tensor, scores: object, **_: Any) -> torch.Tensor:  # noqa: ARG002
        self._run.count_token()
        stop = self._run.stop.is_set() or self._run.stopping.is_set()
        return torch.full((input_ids.shape[0],), stop, device=input_ids.device, dtype=torch.bool)


def read_space(folder: Path) -> dict[str, Any]:
    """space.json beside the app. Raises Unavailable where it is missing or not JSON."""
    try:
        return dict(json.loads((folder / "space.json").read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise Unavailable(f"space.json cannot be read, so this page does not know its model: {error}") from error
