"""Text Generation Inference behind the page, through its own client: `generate_stream` of the package text-generation.

space.json names the server's address (or the environment variable TGI_URL); its key is TGI_TOKEN. The conversation is rendered
here, by the checkpoint's template: the client's own `chat` cannot stream. This package needs huggingface_hub below 1, so this
flavour has pins of its own (requirements-tgi.txt).
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from typing import Any

import requests
import text_generation.client
from chat_model import ChatModel, ModelSettings, Prompt, Run, Unavailable
from download import check_hashes, fetch
from limits import Message, Sampling
from requests import RequestException, Timeout
from server_answer import (
    BROKEN_OFF,
    BUSY,
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
from text_generation import Client
from text_generation.errors import (
    BadRequestError,
    GenerationError,
    IncompleteGenerationError,
    NotFoundError,
    OverloadedError,
    RateLimitExceededError,
    ShardNotReadyError,
    ShardTimeoutError,
    UnknownError,
    ValidationError,
)

ANSWERS_AT_ONCE = 4
NO_PROTOCOL = (
    "The server that answers is not Text Generation Inference, or has no model. Its owner has to mend the address."
)
# What the client makes of an event that reports an error; they have no base of their own.
TOLD_IN_STREAM = (
    BadRequestError,
    GenerationError,
    IncompleteGenerationError,
    NotFoundError,
    OverloadedError,
    RateLimitExceededError,
    ShardNotReadyError,
    ShardTimeoutError,
    UnknownError,
    ValidationError,
)


def load(settings: ModelSettings) -> TgiModel:
    """Fetch the tokenizer's files and name the server; it is asked for the first time by a visitor. Raises Unavailable."""
    checkpoint = fetch(settings.model_id, settings.revision, FILES)
    check_hashes(checkpoint, settings.settings["files"])
    url = os.environ.get("TGI_URL") or settings.settings.get("url")
    if not url:
        raise Unavailable("No server is named: set TGI_URL as a variable of the Space.")
    token = os.environ.get("TGI_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else None
    own = json.loads((checkpoint / "config.json").read_text(encoding="utf-8")).get("max_position_embeddings")
    return TgiModel(Client(url, headers=headers, timeout=SECONDS_TO_WAIT), ChatTemplate(checkpoint), own)


class TgiModel(ChatModel):
    """A Text Generation Inference server."""

    device = "a server"
    precision = "the server's"
    checked = None
    answers_at_once = ANSWERS_AT_ONCE
    works_elsewhere = True

    def __init__(self, client: Client, template: ChatTemplate, context: int | None) -> None:
        super().__init__(context)
        self._client, self._template = client, template
        version = importlib.metadata.version("text-generation")
        self.runtime = f"Text Generation Inference, text-generation {version}"

    def token_ids(self, messages: list[Message]) -> list[int]:
        return self._template.ids(messages)

    def special_tokens(self) -> list[str]:
        return self._template.special_tokens

    def generate(self, prompt: Prompt, sampling: Sampling, run: Run) -> None:
        drawn = sampling.temperature > 0
        said = False
        try:
            stream = self._client.generate_stream(
                self._template.text_for_a_server(prompt.messages),
                do_sample=drawn,
                max_new_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature if drawn else None,
                top_p=sampling.top_p if drawn and sampling.top_p < 1 else None,  # 1 is refused by the server
            )
            try:
                for response in events(stream, NO_PROTOCOL):
                    if run.stopped:
                        return
                    said = True
                    if not take(run, sampling, None if response.token.special else response.token.text):
                        return
                    if response.details is not None:
                        run.cut = response.details.finish_reason == "length"
            finally:
                stream.close()  # lets go of the connection, at which the server stops working
        except Status as error:
            raise refused(
                words(error.status, error.body, "TGI_TOKEN", NO_PROTOCOL), f"status {error.status}"
            ) from error
        except Timeout as error:
            raise refused(TOO_LATE, "no answer in time") from error
        except RequestException as error:
            raise refused(BROKEN_OFF if said else NOT_REACHED, type(error).__name__) from error
        except TOLD_IN_STREAM as error:
            told = BUSY if isinstance(error, OverloadedError) else words_in_stream(str(error))
            raise refused(told, f"an error in its answer ({type(error).__name__})") from error
        check_end(run, NO_PROTOCOL, said=said)


class Status(Exception):
    """The server refused with this HTTP status."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"status {status}")
        self.status, self.body = status, body


class _Requests:
    """Stands for `requests` in the client, which forgets the status of what it cannot parse (a page of a proxy, a plain 401)."""

    @staticmethod
    def post(*asked: Any, **settings: Any) -> requests.Response:
        response = requests.post(*asked, **settings)
        if response.status_code != 200:
            raise Status(response.status_code, response.text)
        return response


text_generation.client.requests = _Requests
