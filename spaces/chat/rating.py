"""Thumbs on the page: the notice, the visitor's choice, and what a click does. What is drawn is what was kept.

add_thumbs(thumbs, chatbot)     # within gr.Blocks
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gradio as gr
import limits

if TYPE_CHECKING:
    from thumbs import Thumbs

RATED = ["Like", "Dislike"]
NO_THUMB = "not kept"  # draws neither
NOT_PUSHED = " It is on this page's disk; the dataset cannot be written to now, and that is tried again."


def add_thumbs(thumbs: Thumbs, chatbot: gr.Chatbot) -> None:
    """Place notice and choice here, and listen to the thumbs of the conversation."""
    with gr.Accordion("Thumbs: help the next model", open=False, elem_id="thumbs"):
        gr.Markdown(thumbs.notice)
        kind = gr.Radio(thumbs.choices, value="", label="Your thumbs", elem_id="thumbs-kept")
        said = gr.Markdown("", elem_id="thumbs-said")

    def like(
        history: list[dict[str, Any]], kind: str, data: gr.LikeData, request: gr.Request
    ) -> tuple[str, dict[str, Any]]:
        # gradio says True, False, or an empty text where a thumb is taken back.
        label = data.liked if isinstance(data.liked, bool) else None
        session, asked = request.session_hash or "", ("", "")
        try:
            asked = answer_at(history, data.index)
            labeller = thumbs.rate(session, kind, *asked, label)
        except limits.Refused as refusal:
            why = str(refusal)
        except OSError as error:
            why = f"Your thumb could not be written: {error.strerror}."
        else:
            kept = "Thumb taken back." if label is None else "Thank you, your thumb was kept."
            later = NOT_PUSHED if thumbs.log.problem else ""
            return f"{kept}{later} Your labeller id: `{labeller}`", gr.skip()
        if thumbs.kept(session, *asked) is not None:
            why += " The one that you gave before still counts."
        gr.Warning(why, duration=10)
        values, place = drawn(thumbs, session, history), len(drawn(thumbs, session, history, data.index))
        return f"**Not kept.** {why}", _draw([*values[:place], NO_THUMB, *values[place + 1 :]])

    def as_kept(history: list[dict[str, Any]], request: gr.Request) -> dict[str, Any]:
        return _draw(drawn(thumbs, request.session_hash or "", history))

    def cut(history: list[dict[str, Any]], data: gr.EventData, request: gr.Request) -> dict[str, Any]:
        return _draw(drawn(thumbs, request.session_hash or "", history, data.index))

    def offered(kind: str) -> dict[str, Any]:
        return gr.update(feedback_options=RATED if kind else [])

    quiet: dict[str, Any] = {"api_visibility": "undocumented", "show_progress": "hidden"}
    kind.change(offered, kind, chatbot, queue=False, **quiet)
    # In two steps, for gradio draws what was clicked until it is told of another value than before for that answer.
    liked = chatbot.like(like, [chatbot, kind], [said, chatbot], **quiet)
    liked.then(as_kept, chatbot, chatbot, queue=False, **quiet)
    for begins_anew in (chatbot.retry, chatbot.undo, chatbot.edit):
        begins_anew(cut, chatbot, chatbot, queue=False, **quiet)
    chatbot.clear(lambda: _draw([]), None, chatbot, queue=False, **quiet)


def drawn(thumbs: Thumbs, session: str, history: list[dict[str, Any]], before: object = None) -> list[str | None]:
    """The thumb that counts of each answer of the conversation, or of those before this place."""
    names = {True: "Like", False: "Dislike", None: None}
    places = [place for place, entry in enumerate(history[: _place(before)]) if place and entry["role"] == "assistant"]
    return [names[thumbs.kept(session, *answer_at(history, place))] for place in places]


def _draw(values: list[str | None]) -> dict[str, Any]:
    return dict(gr.update(feedback_value=values))


def answer_at(history: list[dict[str, Any]], index: object) -> tuple[str, str]:
    """The user's message before the answer at this place of the conversation, and the answer. Raises limits.Refused."""
    place = _place(index)
    if place is None or not 0 < place < len(history):
        raise limits.Refused("There is no answer at this place.")
    texts = []
    for entry in history[place - 1 : place + 1]:
        content = entry["content"]
        parts = content if isinstance(content, list) else [{"text": content}]
        texts.append("\n".join(str(part.get("text", "")) for part in parts))
    return texts[0], texts[1]


def _place(index: object) -> int | None:
    place = index[0] if isinstance(index, (list, tuple)) else index
    return place if isinstance(place, int) else None
