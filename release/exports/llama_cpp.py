"""A GGUF file in llama.cpp, through xllamacpp: token ids, next-token log-probabilities, and greedy answers.

    with LlamaCpp(Path("model-F16.gguf"), context=512) as llama:
        llama.next_logprobs([1, 4093], top=1024)              # token ids, and log-probabilities (1024,)
        llama.tokens(llama.rendered([{"role": "user", "content": "Hi"}]))

Templates and tokens are asked for over llama.cpp's server on the loopback interface, on a free port, behind a key.
"""

from __future__ import annotations

import json
import os
import secrets
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from training.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[np.float32]]

INSTALL = "pip install 'slipway[gguf]'"
Message = dict[str, str]


class LlamaCpp:
    """One model with one slot, greedy, its answers dependent on nothing but what is asked."""

    def __init__(self, file: Path, context: int) -> None:
        try:
            import xllamacpp
        except ImportError as error:
            raise UsageError(
                "llama.cpp is not installed, and a GGUF file that it has not run does not count",
                found=str(error),
                next_step=INSTALL,
            ) from error
        self._key = secrets.token_urlsafe(24)
        settings = xllamacpp.CommonParams()
        settings.model.path = str(file)
        settings.n_ctx = context
        settings.n_parallel = 1
        settings.verbosity = -1
        settings.warmup = False
        settings.port = 0
        settings.api_keys = [self._key]
        threads = int(os.environ.get("OMP_NUM_THREADS") or len(os.sched_getaffinity(0)))
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
        try:
            self._server: Any = xllamacpp.Server(settings)
        except RuntimeError as error:
            raise UsageError("llama.cpp does not load this GGUF file", where=str(file), found=str(error)) from error
        self._letter = self._ask("/tokenize", {"content": "a", "add_special": False})["tokens"][0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server = None  # its destructor stops the threads and frees the model

    def next_logprobs(self, ids: list[int], top: int) -> tuple[list[int], Array]:
        """The `top` likeliest tokens after `ids`, likeliest first, and their log-probabilities in nats, `(top,)`."""
        import numpy as np

        # The figures are of the model before any sampling. What is then drawn is forced to be a letter, for the server gives
        # no figures for a token that ends the answer or is only a part of a character.
        asked = {"prompt": ids, "max_tokens": 1, "logprobs": top, "temperature": 0, "cache_prompt": True}
        asked["logit_bias"] = [[self._letter, 1000.0]]
        answer = self._completion(self._server.handle_completions(asked))
        likeliest = answer["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        logprobs = np.array([entry["logprob"] for entry in likeliest], dtype=np.float32)
        return [int(entry["id"]) for entry in likeliest], logprobs

    def answer(self, messages: list[Message], tokens: int) -> str:
        """The greedy answer to a conversation, rendered by the template in the file."""
        asked = {"messages": messages, "max_tokens": tokens, "temperature": 0}
        answer = self._completion(self._server.handle_chat_completions(asked))
        return str(answer["choices"][0]["message"]["content"])

    def rendered(self, messages: list[Message]) -> str:
        """The conversation as text, up to where the answer begins, by the template in the file."""
        return str(self._ask("/apply-template", {"messages": messages})["prompt"])

    def tokens(self, text: str) -> list[int]:
        """Token ids of a rendered conversation, special tokens among them; the file decides whether a BOS comes first."""
        asked = {"content": text, "add_special": True, "parse_special": True}
        return [int(token) for token in self._ask("/tokenize", asked)["tokens"]]

    def _completion(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "choices" not in answer:
            raise RuntimeError(f"llama.cpp refused a completion: {answer}")
        return answer

    def _ask(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self._server.listening_address}{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Authorization": f"Bearer {self._key}"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return dict(json.load(answer))
