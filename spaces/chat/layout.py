"""The page's parts and what happens in them: header, conversation, composer, settings, model and scores; and the API.

build(answers).launch(...)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import about
import gradio as gr
import limits
from answers import Answers
from display import COPY_PLAIN, show_literally

if TYPE_CHECKING:
    from thumbs import Thumbs

EXAMPLES = [
    "What is the capital of France?",
    "Explain why the sky is blue, for a child of eight.",
    "Write a short, polite email that moves a meeting to Thursday.",
    "What should I check before I trust a benchmark score?",
]
RATED = ["Like", "Dislike"]
PLACEHOLDER = "Type a message"
# gradio takes the composer's placeholder away when a message is sent, and never brings it back.
RESTORE_PLACEHOLDER = f"() => ({{__type__: 'update', placeholder: '{PLACEHOLDER}'}})"


def build(answers: Answers) -> gr.Blocks:
    """The page and its API."""
    blocks = gr.Blocks(title=answers.space["title"], analytics_enabled=False, fill_width=True)
    with blocks:
        header = gr.HTML(about.header(answers.space, answers.model), padding=False, elem_id="header")
        alert = gr.HTML(padding=False, visible=False)
        note_line = gr.Markdown("", label="note", elem_id="note", render=False)
        with gr.Accordion("Settings", open=False, render=False, elem_id="settings") as settings:
            inputs = _settings()
        with gr.Row(elem_id="page", equal_height=False):
            with gr.Column(elem_id="talk", min_width=0):
                chat = _chat(answers, inputs, note_line)
                note_line.render()  # type: ignore[no-untyped-call]
            with gr.Column(elem_id="side", min_width=0):
                settings.render()
                if answers.thumbs is not None:
                    _add_thumbs(answers.thumbs, chat.chatbot)
                details = gr.HTML(about.details(answers.space, answers.model), padding=False, elem_id="details")
        _add_api(answers, chat, inputs)
        note_line.change(None, None, chat.textbox, js=RESTORE_PLACEHOLDER)
        for forgets in (chat.chatbot.clear, chat.chatbot.undo):
            forgets(lambda: "", None, note_line, queue=False, api_visibility="undocumented")

        def facts() -> tuple[str, Any, str]:
            missing = gr.update(value=about.unavailable(answers.reason), visible=answers.model is None)
            return about.header(answers.space, answers.model), missing, about.details(answers.space, answers.model)

        blocks.load(None, None, None, js=COPY_PLAIN)
        # Asked at each visit, because a model that could not be loaded may have been loaded since.
        quiet: dict[str, Any] = {
            "api_visibility": "undocumented",
            "show_progress": "hidden",
        }  # else they are greyed meanwhile
        blocks.load(facts, None, [header, alert, details], queue=False, **quiet)

        async def gone(request: gr.Request) -> None:  # on the event loop, to which the sessions belong
            answers.sessions.leave(request.session_hash or "")

        blocks.unload(gone)
    blocks.queue(max_size=limits.EVENTS_QUEUED)
    return blocks


def _chat(answers: Answers, inputs: list[str | gr.components.Component], note_line: gr.Markdown) -> gr.ChatInterface:
    return gr.ChatInterface(
        answers.on_page,
        chatbot=show_literally(_conversation(answers.space)),
        textbox=gr.Textbox(
            placeholder=PLACEHOLDER,
            label="Message",
            container=False,
            autofocus=True,
            max_length=limits.MESSAGE_CHARACTERS,
            submit_btn=True,
            stop_btn=True,
            elem_id="message",
            scale=7,
        ),
        additional_inputs=inputs,
        additional_outputs=[note_line],
        examples=[[example] for example in EXAMPLES],
        editable=True,
        flagging_mode="never",
        cache_examples=False,
        show_progress="hidden",
        concurrency_limit=None,  # the gate decides, for page and API together
        api_visibility="private",  # it never fails: _add_api has what callers are given
        analytics_enabled=False,
    )


def _conversation(space: dict[str, Any]) -> gr.Chatbot:
    return gr.Chatbot(
        label="Conversation",
        show_label=False,
        elem_id="conversation",
        height="100%",  # of what page.css gives it
        placeholder=f"**Ask {space['model_id']}**\n\nIts answers can be wrong: check what matters.",
        buttons=["copy", "copy_all"],
        editable="user",
        feedback_options=[],  # until the visitor agrees to their being kept
        sanitize_html=True,
        allow_file_downloads=False,
        layout="bubble",
    )


def _settings() -> list[str | gr.components.Component]:
    return [
        gr.Textbox("", label="System prompt", lines=2, max_length=limits.SYSTEM_CHARACTERS),
        gr.Slider(
            0,
            limits.TEMPERATURE_MOST,
            limits.TEMPERATURE_DEFAULT,
            step=0.05,
            label="Temperature",
            info="0: always the likeliest token",
        ),
        gr.Slider(limits.TOP_P_LEAST, 1, 0.9, step=0.05, label="Top-p"),
        gr.Slider(
            limits.NEW_TOKENS_LEAST,
            limits.NEW_TOKENS_MOST,
            limits.NEW_TOKENS_DEFAULT,
            step=16,
            label="Longest answer, in tokens",
        ),
    ]


def _add_thumbs(thumbs: Thumbs, chatbot: gr.Chatbot) -> None:
    """The notice and the visitor's choice beside the conversation, and what a click on a thumb does."""
    with gr.Accordion("Thumbs: help the next model", open=False, elem_id="thumbs"):
        gr.Markdown(thumbs.notice)
        kind = gr.Radio(
            thumbs.choices,
            value="",
            label="Your thumbs",
            elem_id="thumbs-kept",
        )
        said = gr.Markdown("", elem_id="thumbs-said")

    def like(history: list[dict[str, Any]], kind: str, data: gr.LikeData, request: gr.Request) -> str:
        # gradio says True, False, or an empty text where a thumb is taken back.
        label = data.liked if isinstance(data.liked, bool) else None
        try:
            message, answer = answer_at(history, data.index)
            labeller = thumbs.rate(request.session_hash or "", kind, message, answer, label)
        except limits.Refused as refusal:
            raise gr.Error(str(refusal), title="Not kept", duration=10, print_exception=False) from refusal
        except OSError as error:
            raise gr.Error(f"Your thumb could not be written: {error.strerror}.", title="Not kept") from error
        kept = "Thumb taken back." if label is None else "Thank you, your thumb was kept."
        return f"{kept} Your labeller id: `{labeller}`"

    def offered(kind: str) -> dict[str, Any]:
        # gradio goes on drawing a thumb that was refused (6.31), so there is none that would have to be.
        return gr.update(feedback_options=RATED if kind else [])

    kind.change(offered, kind, chatbot, queue=False, api_visibility="undocumented", show_progress="hidden")
    chatbot.like(like, [chatbot, kind], [said], api_visibility="undocumented", show_progress="hidden")


def answer_at(history: list[dict[str, Any]], index: object) -> tuple[str, str]:
    """The user's message before the answer at this place of the conversation, and the answer. Raises limits.Refused."""
    place = index[0] if isinstance(index, (list, tuple)) else index
    if not isinstance(place, int) or not 0 < place < len(history):
        raise limits.Refused("There is no answer at this place.")
    texts = []
    for entry in history[place - 1 : place + 1]:
        content = entry["content"]
        parts = content if isinstance(content, list) else [{"text": content}]
        texts.append("\n".join(str(part.get("text", "")) for part in parts))
    return texts[0], texts[1]


def _add_api(answers: Answers, chat: gr.ChatInterface, inputs: list[str | gr.components.Component]) -> None:
    """`/chat`, which returns the answer alone, and `/chat_with_note`. Nothing on the page calls them."""
    history, answer = gr.State([]), gr.Textbox(visible=False, label="Answer")
    note = gr.Textbox(visible=False, label="Note")
    for function, outputs in ((answers.chat, [answer, history]), (answers.chat_with_note, [answer, note, history])):
        gr.Button(visible=False).click(
            function,
            [chat.textbox, history, *inputs],
            outputs,
            api_name=function.__name__,
            concurrency_limit=None,
        )
