"""A model behind an OpenAI-compatible endpoint: its name and address are known, its bytes are not.

    served = reach("org/name", "http://127.0.0.1:8000/v1", tokenizer="org/name")
    served.digest                 # "unpinned:...": the name and the address, which no gate takes for a checkpoint

The key is read from OPENAI_API_KEY and stands in no file and no message.
"""

from __future__ import annotations

import hashlib
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from evals.keys import hide_keys
from training.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

KEY = "OPENAI_API_KEY"
CONTEXT = 2048  # lm-eval's assumption for endpoints, which do not tell theirs


class EndpointError(UsageError):
    """The endpoint cannot be reached, refuses, or does not give what a task needs: no task can be answered."""


@dataclass(frozen=True)
class Served:
    """A model that somebody serves. `tokenizer_name` names the tokenizer by which its tokens are counted, if any."""

    name: str
    url: str
    tokenizer: PreTrainedTokenizerBase | None
    tokenizer_name: str | None
    revision: None = None
    parameters: None = None
    context: int = CONTEXT

    @property
    def digest(self) -> str:
        """Not a digest of weights, which nobody here can see: of the address and the name, so that two are told apart."""
        return "unpinned:" + hashlib.sha256(f"{self.url}\n{self.name}".encode()).hexdigest()

    def conversation(self, history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
        """A conversation as JSON: the endpoint's own template writes it as text."""
        if not add_generation_prompt:
            raise ValueError("a chat endpoint cannot continue an answer that the task begins")
        return json.dumps(history, ensure_ascii=False)

    def require_template(self) -> None:
        """The endpoint has its own."""

    def prompt_length(self, prompt: str) -> int:
        """By which prompts of similar length are asked together: tokens where they can be counted, else characters."""
        return len(self.tokenizer.encode(prompt)) if self.tokenizer else len(prompt)

    def count(self, text: str) -> int | None:
        return len(self.tokenizer.encode(text, add_special_tokens=False)) if self.tokenizer else None


def reach(name: str, url: str | None, tokenizer: str | None) -> Served:
    """Ask the endpoint for its models. Raises EndpointError where it does not answer, refuses the key, or lacks the model."""
    address = _address(url)
    listed = _models(address)
    if listed is not None and name not in listed:
        raise EndpointError(
            "the endpoint does not serve this model",
            where=address,
            expected=", ".join(listed[:20]) or "a model",
            found=name,
            next_step="give one of these names as CHECKPOINT",
        )
    return Served(name, address, _tokenizer(tokenizer) if tokenizer else None, tokenizer)


def _address(url: str | None) -> str:
    parts = urlsplit(url or "")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(
            "an endpoint needs its address",
            where="--endpoint",
            expected="http://HOST:PORT/v1, as clients of OpenAI's protocol take it",
            found=hide_keys(url or "nothing"),
            next_step="--backend openai-endpoint --endpoint http://127.0.0.1:8000/v1",
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "the endpoint's address carries more than an address; the scorecard would publish it",
            where="--endpoint",
            expected=f"{parts.scheme}://{parts.hostname}{parts.path}",
            found="a user, a password or a query",
            next_step=f"put the key into {KEY}",
        )
    return (url or "").rstrip("/")


def _models(address: str) -> list[str] | None:
    """The names that the endpoint lists; None where it keeps no list."""
    request = urllib.request.Request(f"{address}/models")
    if key := os.environ.get(KEY):
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            listed = json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            raise EndpointError(
                "the endpoint refuses the key",
                where=address,
                expected=f"a key that it knows, in {KEY}",
                found=f"HTTP {error.code}; {KEY} is {'set' if key else 'not set'}",
                next_step=f"export {KEY}=...",
            ) from None
        if error.code in (404, 405, 501):
            return None
        raise EndpointError(
            "the endpoint does not answer as it should",
            where=address,
            expected="a list of models",
            found=f"HTTP {error.code}",
            next_step="look at the server's log",
        ) from None
    except (OSError, ValueError) as error:
        raise EndpointError(
            "the endpoint cannot be reached",
            where=address,
            expected="an answer to GET /models",
            found=hide_keys(str(getattr(error, "reason", error))),
            next_step="check the address, and that the server runs",
        ) from error
    models = listed.get("data") if isinstance(listed, dict) else None
    return [str(one.get("id")) for one in models if isinstance(one, dict)] if isinstance(models, list) else None


def _tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(name)
    except Exception as error:  # of many types, for a directory or an id that is none
        raise UsageError(
            "the tokenizer of the served model cannot be loaded",
            where=f"--tokenizer {name}",
            found=str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__,
            next_step="give a directory with the tokenizer, or a Hub id",
        ) from error
