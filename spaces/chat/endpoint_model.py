"""Any OpenAI-compatible server behind the page, through huggingface_hub's InferenceClient.

space.json names the server's address (or the environment variable ENDPOINT_URL, a secret or variable of the Space); its key is
ENDPOINT_TOKEN. HF_TOKEN is for the Hub, and is never sent to the server. The template and tokenizer of the checkpoint are used
here only to count what fits: the server renders the conversation itself.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from typing import Any

from chat_model import ChatModel, ModelSettings, Prompt, Run, Unavailable
from download import check_hashes, fetch
from httpx2 import HTTPError as TransportError
from huggingface_hub import InferenceClient, constants
from huggingface_hub.errors import HfHubHTTPError, InferenceTimeoutError, TextGenerationError
from limits import Message, Sampling
from server_answer import (
    BROKEN_OFF,
    NOT_REACHED,
    SECONDS_TO_WAIT,
    TOO_LATE,
    check_end,
    events,
    refused,
    take,
    words,
    words_in_stream,
)
from template import FILES, ChatTemplate

ANSWERS_AT_ONCE = 4
NO_MODEL = "The server has no such model, or no chat completions."
NO_PROTOCOL = "What answers at this page's address does not speak OpenAI's protocol. Its owner has to mend the address."


def load(settings: ModelSettings) -> EndpointModel:
    """Fetch the tokenizer's files and name the server; it is asked for the first time by a visitor. Raises Unavailable."""
    checkpoint = fetch(settings.model_id, settings.revision, FILES)
    check_hashes(checkpoint, settings.settings["files"])
    url = os.environ.get("ENDPOINT_URL") or settings.settings.get("url")
    if not url:
        raise Unavailable("No server is named: set ENDPOINT_URL as a variable of the Space.")
    if constants.HF_HUB_OFFLINE:
        raise Unavailable(
            "HF_HUB_OFFLINE is set, under which huggingface_hub asks no server, this one included: unset it."
        )
    own = json.loads((checkpoint / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    key = os.environ.get("ENDPOINT_TOKEN") or "none"  # without one the client would send the Hub's token
    client = InferenceClient(base_url=url, token=key, timeout=SECONDS_TO_WAIT)
    return EndpointModel(client, ChatTemplate(checkpoint), own, settings.settings.get("model") or settings.model_id)


class EndpointModel(ChatModel):
    """A server that speaks OpenAI's chat completions."""

    device = "a server"
    precision = "the server's"
    checked = None
    answers_at_once = ANSWERS_AT_ONCE
    works_elsewhere = True

    def __init__(self, client: InferenceClient, template: ChatTemplate, context: int | None, model: str) -> None:
        super().__init__(context)
        self._client, self._template, self._model = client, template, model
        self.runtime = f"an OpenAI-compatible server, huggingface_hub {importlib.metadata.version('huggingface_hub')}"

    def token_ids(self, messages: list[Message]) -> list[int]:
        return self._template.ids(messages)

    def special_tokens(self) -> list[str]:
        return self._template.special_tokens

    def generate(self, prompt: Prompt, sampling: Sampling, run: Run) -> None:
        asked: dict[str, Any] = {"max_tokens": sampling.max_new_tokens, "temperature": sampling.temperature}
        if sampling.temperature > 0:
            asked["top_p"] = sampling.top_p
        if sampling.seed is not None:
            asked["seed"] = sampling.seed
        said = False
        try:
            stream = self._client.chat_completion(prompt.messages, model=self._model, stream=True, **asked)
            try:
                for event in events(stream, NO_PROTOCOL):
                    if run.stopped:
                        return
                    text, reason = _said(event)
                    said = said or text is not None or reason is not None
                    if text and not take(run, sampling, text):
                        return
                    if reason is not None:
                        run.cut = reason == "length"
            finally:
                stream.close()  # closes the connection, at which a server stops working
        except InferenceTimeoutError as error:
            raise refused(TOO_LATE, "no answer in time") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            raise refused(words(status, error.response.text, "ENDPOINT_TOKEN", NO_MODEL), f"status {status}") from error
        except TextGenerationError as error:  # said in the stream, after a status of 200
            raise refused(words_in_stream(str(error)), "an error in its answer") from error
        except (OSError, TransportError) as error:
            raise refused(BROKEN_OFF if said else NOT_REACHED, type(error).__name__) from error
        check_end(run, NO_PROTOCOL, said=said)


def _said(event: Any) -> tuple[str | None, str | None]:
    """The event's text, and why the answer ended; None where it has none, as one that only keeps a connection alive."""
    choices = getattr(event, "choices", None)
    choice = choices[0] if isinstance(choices, list) and choices else None
    text, reason = getattr(getattr(choice, "delta", None), "content", None), getattr(choice, "finish_reason", None)
    return text if isinstance(text, str) else None, reason if isinstance(reason, str) else None
