"""Text Generation Inference behind the page, through its own client: `generate_stream` of the package text-generation.

space.json names the server's address (or the environment variable TGI_URL); its key is TGI_TOKEN. The conversation is rendered
here, by the checkpoint's template: the client's own `chat` cannot stream. This package needs huggingface_hub below 1, so this
flavour has pins of its own (requirements-tgi.txt).
"""

from __future__ import annotations

import importlib.metadata
import json
import os

from chat_model import ChatModel, ModelSettings, Prompt, Run, Unavailable
from download import check_hashes, fetch
from limits import Message, Refused, Sampling
from requests import RequestException
from template import FILES, ChatTemplate
from text_generation import Client
from text_generation.errors import NotFoundError, OverloadedError, RateLimitExceededError, ValidationError

ANSWERS_AT_ONCE = 4
SECONDS_TO_WAIT = 60


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
        try:
            stream = self._client.generate_stream(
                self._template.text_for_a_server(prompt.messages),
                do_sample=drawn,
                max_new_tokens=sampling.max_new_tokens,
                temperature=sampling.temperature if drawn else None,
                top_p=sampling.top_p if drawn and sampling.top_p < 1 else None,  # 1 is refused by the server
            )
            for response in stream:
                if run.stopped:
                    break
                run.count_token()
                if not response.token.special:
                    run.put(response.token.text)
                if response.details is not None:
                    run.cut = response.details.finish_reason == "length"
            stream.close()  # lets go of the connection, at which the server stops working
        except (RateLimitExceededError, OverloadedError) as error:
            raise Refused("The server that answers is busy. Try again in a minute.") from error
        except ValidationError as error:
            raise Refused(f"The server does not take this conversation: {error}") from error
        except NotFoundError as error:
            raise Refused("The server that answers is not Text Generation Inference, or has no model.") from error
        except RequestException as error:
            raise Refused("The server that answers cannot be reached. Try again in a minute.") from error
