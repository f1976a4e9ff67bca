"""A conversation as the model's prompt, by the checkpoint's own chat template and tokenizer, without transformers.

    template = ChatTemplate(folder)          # FILES of a checkpoint
    template.text(messages)                  # what is sent to a server that completes texts
    template.ids(messages)                   # token ids, the same that transformers makes

Templates come from a repository, so they are rendered in jinja2's sandbox, with the same settings as in transformers.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from chat_model import Unavailable
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment
from limits import Message, Refused
from tokenizers import Tokenizer, normalizers, pre_tokenizers

FILES = ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json"]


class ChatTemplate:
    """The template and the tokenizer of one checkpoint. Raises Unavailable where a file is missing or broken."""

    def __init__(self, folder: Path) -> None:
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:
            raise Unavailable(f"tokenizer.json cannot be read: {error}") from error
        try:
            settings: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
            config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            file = folder / "chat_template.jinja"
            source = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
        except (OSError, ValueError) as error:
            raise Unavailable(f"The tokenizer's settings cannot be read: {error}") from error
        if not isinstance(source, str):
            raise Unavailable("The model has no chat template, so it cannot hold a conversation.")
        if config.get("model_type") == "llama" and settings.get("legacy") is False:
            _read_as_not_legacy(self._tokenizer)
        environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
        environment.filters["tojson"] = _to_json
        environment.globals |= {"raise_exception": _raise, "strftime_now": datetime.now().strftime}
        self._template = environment.from_string(source)
        self._special = {name: _text(settings[name]) for name in settings if name.endswith("_token") and settings[name]}

    @property
    def special_tokens(self) -> list[str]:
        """The texts that the tokenizer takes for special tokens, wherever they stand."""
        return [token.content for token in self._tokenizer.get_added_tokens_decoder().values() if token.special]

    def text(self, messages: list[Message]) -> str:
        """The conversation up to where the answer begins. Raises Refused where the template does not take it."""
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._special)
        except jinja2.TemplateError as error:
            raise Refused(f"The model's chat template does not take this conversation: {error}") from error

    def ids(self, messages: list[Message]) -> list[int]:
        """Its token ids."""
        return list(self._tokenizer.encode(self.text(messages), add_special_tokens=False).ids)

    def text_for_a_server(self, messages: list[Message]) -> str:
        """The text without the special tokens that a server's tokenizer puts before every text, so that none comes twice."""
        text = self.text(messages)
        for token in self._tokenizer.encode("", add_special_tokens=True).tokens:
            text = text.removeprefix(token)
        return text


def _read_as_not_legacy(tokenizer: Tokenizer) -> None:
    """Spaces as transformers 5 reads them: it builds a Llama tokenizer by `legacy`, whatever an older tokenizer.json says.

    There a space was put before each text between special tokens; here before the first only.
    """
    if isinstance(tokenizer.normalizer, normalizers.Sequence) and tokenizer.pre_tokenizer is None:
        tokenizer.normalizer = normalizers.Sequence([])
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)


def _text(token: Any) -> str:
    return str(token["content"]) if isinstance(token, dict) else str(token)


def _to_json(value: Any, indent: int | None = None) -> str:
    """As transformers does it: jinja2's own would escape HTML."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
