"""A message's text as the page shows it: HTML in it is shown as text, and pictures are not fetched.

    plain(shown("Use <b> for bold"))  ==  "Use <b> for bold"

The page renders Markdown, which lets HTML through (sanitised by gradio). Here an invisible character is put after each
`<` that could begin a tag, and between the `!` and `[` of a picture, so that neither is one any more: visitors read
what was written. Code is left as it is, for Markdown shows it literally and people copy it. `plain` takes the
characters out again, before the model or a caller of the API sees the text. If the reading of code here ever differed
from the page's, gradio's sanitiser and the content policy of limits.py would still stand behind it.
"""

from __future__ import annotations

import re
from typing import Any

import gradio as gr

JOINER = "\u2060"  # word joiner: no width, no line break
_TAG = re.compile(r"<(?=[A-Za-z/!?])")
_PICTURE = re.compile(r"!(?=\[)")
_FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)


def shown(text: str) -> str:
    """The text with every tag and picture outside of code made literal."""
    prose: list[str] = []
    result: list[str] = []
    fence = ""
    for line in text.splitlines(keepends=True):
        mark = _FENCE.match(line)
        if fence:
            result.append(line)
            closes = mark is not None and mark[1].startswith(fence) and not line.strip().strip(fence[0])
            fence = "" if closes else fence
        elif mark is not None:
            result += [_literal_prose("".join(prose)), line]
            prose, fence = [], mark[1]
        else:
            prose.append(line)
    return "".join([*result, _literal_prose("".join(prose))])


def plain(text: str) -> str:
    """The inverse of `shown`."""
    return text.replace(f"<{JOINER}", "<").replace(f"!{JOINER}[", "![")


def _literal_prose(text: str) -> str:
    parts: list[str] = []
    end = 0
    for span in _CODE_SPAN.finditer(text):
        parts += [_literal(text[end : span.start()]), span[0]]
        end = span.end()
    return "".join([*parts, _literal(text[end:])])


def _literal(text: str) -> str:
    return _PICTURE.sub(f"!{JOINER}", _TAG.sub(f"<{JOINER}", text))


def show_literally(chatbot: gr.Chatbot) -> gr.Chatbot:
    """The chatbot, showing `shown` text and handing out `plain` text."""
    # Replaced on the instance: for a subclass gradio would write a .pyi file beside this one at every start.
    to_page, from_page = chatbot.postprocess, chatbot.preprocess

    def postprocess(value: Any) -> Any:
        data = to_page(value)
        for message in data.root:
            for part in message.content:
                if part.type == "text":
                    part.text = shown(part.text)
        return data

    def preprocess(payload: Any) -> Any:
        messages = from_page(payload)
        for message in messages:
            for part in message["content"]:
                if part["type"] == "text":
                    part["text"] = plain(part["text"])
        return messages

    chatbot.postprocess = postprocess  # type: ignore[method-assign]
    chatbot.preprocess = preprocess  # type: ignore[method-assign]
    return chatbot
