"""A message's text as the page shows it: HTML in it is shown as text, pictures are not fetched, diagrams not drawn.

    plain(shown("Use <b> for bold"))  ==  "Use <b> for bold"

The page renders Markdown, which lets HTML through (sanitised by gradio). Here an invisible character is put after each `<` that
could begin a tag, between the `!` and `[` of a picture, and into the name of a diagram's language, so that none is one any more:
visitors read what was written. In code too, where Markdown shows everything literally: where code begins and ends is read
differently by every reader (a table's cell, a formula or an address may end it), and a text that is code here and none on the
page would be a page's worth of HTML. `plain` takes the characters out again before the model or a caller of the API sees the
text, and COPY_PLAIN before somebody's clipboard does. gradio's sanitiser and the content policy of limits.py stand behind it.
"""

from __future__ import annotations

import re
from abc import ABCMeta
from typing import Any, cast

import gradio as gr

JOINER = "\u2060"  # word joiner: no width, no line break
_DRAWN = re.compile(r"<(?=[A-Za-z/!?])|!(?=\[)|(?<=[`~]{3})[ \t]*[Mm](?=ermaid)")
_LITERAL = re.compile(rf"(<|!(?={JOINER}\[)|[Mm](?={JOINER}ermaid)){JOINER}")

# What visitors copy, by gradio's buttons or by hand, has no such character in it.
COPY_PLAIN = """
() => {
  if (window.slipwayCopies) return;
  window.slipwayCopies = true;
  const plain = (text) => text.replaceAll('\\u2060', '');
  if (navigator.clipboard) {
    const write = navigator.clipboard.writeText.bind(navigator.clipboard);
    navigator.clipboard.writeText = (text) => write(plain(text));
  }
  document.addEventListener('copy', (event) => {
    const text = String(window.getSelection());
    if (!text.includes('\\u2060')) return;
    event.clipboardData.setData('text/plain', plain(text));
    event.preventDefault();
  });
}
"""


def shown(text: str) -> str:
    """The text with every tag, picture and diagram made literal."""
    return _DRAWN.sub(lambda found: found[0] + JOINER, text)


def plain(text: str) -> str:
    """The inverse of `shown`."""
    return _LITERAL.sub(lambda found: found[1], text)


class _Literal:
    """The part of `LiteralChatbot` that is ours."""

    def postprocess(self, value: Any) -> Any:
        data = super().postprocess(value)  # type: ignore[misc]
        for message in data.root:
            for part in message.content:
                if part.type == "text":
                    part.text = shown(part.text)
        return data

    def preprocess(self, payload: Any) -> Any:
        messages = super().preprocess(payload)  # type: ignore[misc]
        for message in messages:
            for part in message["content"]:
                if part["type"] == "text":
                    part["text"] = plain(part["text"])
        return messages


# gr.Chatbot, showing `shown` text and handing out `plain` text. A class, because gradio makes the component anew, by its class,
# for each visitor for whom one of its settings is updated. Not by gradio's own metaclass, which would write a .pyi file beside
# this one at every start; and by the name and module by which gradio finds what draws it.
LiteralChatbot = cast(
    "type[gr.Chatbot]",
    ABCMeta.__new__(type(gr.Chatbot), "Chatbot", (_Literal, gr.Chatbot), {"__module__": gr.Chatbot.__module__}),
)
