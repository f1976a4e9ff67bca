"""llama.cpp behind the page, through xllamacpp: a GGUF file that passed parity with its checkpoint, checked by its hash.

The template and tokenizer are the checkpoint's own; llama.cpp is given token ids. Several answers are worked on at once, each
token of theirs in one pass through the weights. llama.cpp's own server listens on the loopback interface, behind a key.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import secrets
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import xllamacpp
from chat_model import ChatModel, ModelSettings, Prompt, Run, Unavailable, cores
from download import check_hashes, fetch
from limits import CONTEXT_TOKENS, Message, Sampling
from template import FILES, ChatTemplate

ANSWERS_AT_ONCE = 4
BATCH_TOKENS = 512
# of memory, for conversations whose place was taken by others'; llama.cpp's own default is 8 GiB
CONVERSATIONS_KEPT_MIB = 512
NICENESS = 5  # of llama.cpp's threads beside the page's


def load(settings: ModelSettings) -> LlamaModel:
    """Download both repositories' files, check every hash, load. Raises Unavailable."""
    gguf = settings.settings["gguf"]
    checkpoint = fetch(settings.model_id, settings.revision, FILES)
    check_hashes(checkpoint, settings.settings["files"])
    template = ChatTemplate(checkpoint)
    folder = fetch(gguf["repo_id"], gguf["revision"], [gguf["path"]])
    check_hashes(folder, {gguf["path"]: gguf["sha256"]})
    own = json.loads((checkpoint / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    context = min(CONTEXT_TOKENS, own) if isinstance(own, int) else CONTEXT_TOKENS
    chosen = xllamacpp.CommonParams()
    chosen.model.path = str(folder / gguf["path"])
    chosen.n_ctx = context * ANSWERS_AT_ONCE  # divided among the answers
    chosen.n_parallel = ANSWERS_AT_ONCE
    chosen.n_batch = chosen.n_ubatch = BATCH_TOKENS
    chosen.kv_unified = False
    chosen.cache_ram_mib = CONVERSATIONS_KEPT_MIB
    chosen.port = 0
    chosen.api_keys = [secrets.token_urlsafe(24)]
    chosen.verbosity = -1
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = cores()
    try:
        # Its threads inherit the niceness of the one that starts them.
        with ThreadPoolExecutor(1, initializer=yield_to_the_page) as starter:
            server = starter.submit(xllamacpp.Server, chosen).result()
    except RuntimeError as error:
        raise Unavailable(f"llama.cpp cannot load {gguf['path']}: {error}") from error
    return LlamaModel(server, template, context, gguf)


def yield_to_the_page() -> None:
    """Let the page go before this thread: llama.cpp's threads take every core, and visitors would wait for their turn."""
    if sys.platform == "linux":  # where each thread has a niceness of its own
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)  # 19 at most


class LlamaModel(ChatModel):
    """One loaded GGUF file."""

    device = "cpu"
    answers_at_once = ANSWERS_AT_ONCE

    def __init__(self, server: Any, template: ChatTemplate, context: int, gguf: dict[str, Any]) -> None:
        super().__init__(context)
        self._server, self._template = server, template
        self.precision = str(gguf["precision"])
        self.runtime = f"llama.cpp, xllamacpp {importlib.metadata.version('xllamacpp')}, cpu"
        self.checked = (
            f"The GGUF file was hashed when this page started. It was made of the checkpoint with this digest, and measured "
            f"against it: KL {gguf['kl_mean']:.2g} nats a token, the same likeliest token {gguf['greedy_agreement']:.1%}."
        )

    def token_ids(self, messages: list[Message]) -> list[int]:
        return self._template.ids(messages)

    def special_tokens(self) -> list[str]:
        return self._template.special_tokens

    def generate(self, prompt: Prompt, sampling: Sampling, run: Run) -> None:
        asked = {
            "prompt": prompt.ids,
            "max_tokens": sampling.max_new_tokens,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            # As transformers draws: the temperature first, and no other cut than the one that the page says.
            "samplers": ["temperature", "top_p"],
            "stream": True,
            "timings_per_token": True,
            "cache_prompt": True,  # the turns before are in the cache
        }
        if sampling.seed is not None:
            asked["seed"] = sampling.seed
        failures: list[str] = []

        def take(chunk: Any) -> bool:
            """True ends the answer."""
            for part in chunk if isinstance(chunk, list) else [chunk]:
                if "choices" not in part:
                    failures.append(str(part))
                    return True
                for choice in part["choices"]:
                    run.count_token(part["timings"]["predicted_n"])
                    run.put(choice["text"])
                    if choice["finish_reason"] is not None:
                        run.cut = choice["finish_reason"] == "length"
            return run.stopped

        self._server.handle_completions(asked, take)
        if failures:
            raise RuntimeError(f"llama.cpp refused to answer: {failures[0]}")
