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
from limits import Message, Refused, Sampling
from template import FILES, ChatTemplate

ANSWERS_AT_ONCE = 4
SECONDS_TO_WAIT = 60
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
                for chunk in stream:
                    if run.stopped:
                        return
                    said = True
                    for choice in chunk.choices[:1]:
                        if choice.delta.content:
                            run.count_token()  # by pieces, as servers send them; the note calls them tokens
                            run.put(choice.delta.content)
                        if choice.finish_reason is not None:
                            run.cut = choice.finish_reason == "length"
            finally:
                stream.close()  # closes the connection, at which a server stops working
        except InferenceTimeoutError as error:
            raise Refused(f"The server did not answer within {SECONDS_TO_WAIT} s. Try again in a minute.") from error
        except HfHubHTTPError as error:
            raise Refused(words(error.response.status_code)) from error
        except TextGenerationError as error:  # said in the stream, after a status of 200
            raise Refused(words_in_stream(str(error))) from error
        except (OSError, TransportError) as error:
            raise Refused("The server that answers cannot be reached. Try again in a minute.") from error
        except ValueError as error:  # an event that is no JSON
            raise Refused(NO_PROTOCOL) from error
        if not said:  # a sleeping Space or a page to log in: 200, and no event
            raise Refused(NO_PROTOCOL)


def words_in_stream(error: str) -> str:
    """What a visitor is told of an error that a server reports in its answer; its own words may hold what is not theirs to see."""
    if "memory" in error.lower():
        return "The server that answers has not enough memory for this. Start a new conversation, or ask for a shorter answer."
    if "overload" in error.lower() or "busy" in error.lower():
        return "The server that answers is busy. Try again in a minute."
    return "The server that answers failed in the middle of its answer. Try again."


def words(status: int) -> str:
    """What a visitor is told of a server's refusal."""
    return {
        401: "The server that answers does not accept this page's key. Its owner has to set ENDPOINT_TOKEN.",
        402: "This page's quota at the server is used up. Try again tomorrow.",
        403: "The server that answers does not accept this page's key. Its owner has to set ENDPOINT_TOKEN.",
        404: "The server has no such model, or no chat completions.",
        429: "The server that answers is busy, or this page's quota is used up. Try again in a minute.",
        503: "The server that answers is asleep or busy. It may be waking up: try again in a minute.",
    }.get(status, f"The server that answers refused with status {status}.")
