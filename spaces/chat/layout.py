"""The page's parts and what happens in them: header, conversation, composer, settings, model and scores; and the API.

build(answers).launch(...)
"""

from __future__ import annotations

from typing import Any

import about
import gradio as gr
import limits
from answers import Answers
from display import COPY_PLAIN, LiteralChatbot
from rating import add_thumbs

EXAMPLES = [
    "What is the capital of France?",
    "Explain why the sky is blue, for a child of eight.",
    "Write a short, polite email that moves a meeting to Thursday.",
    "What should I check before I trust a benchmark score?",
]
PLACEHOLDER = "Type a message"
# gradio takes the composer's placeholder away when a message is sent, and never brings it back.
RESTORE_PLACEHOLDER = f"() => ({{__type__: 'update', placeholder: '{PLACEHOLDER}'}})"
# The composer's buttons are pictures without a name (gradio 6.31), and stand within the label that names the text box: so all
# three are named. They come and go within the composer, which no token changes.
NAME_BUTTONS = """
() => {
  const composer = document.querySelector('#message');
  if (!composer || composer.dataset.named) return;
  composer.dataset.named = 'true';
  const name = () => {
    for (const [part, said] of [['.submit-button', 'Send'], ['.stop-button', 'Stop'], ['textarea', 'Message']])
      for (const found of composer.querySelectorAll(part))
        if (found.getAttribute('aria-label') !== said) found.setAttribute('aria-label', said);
  };
  name();
  new MutationObserver(name).observe(composer, {childList: true, subtree: true});
}
"""

# Who stops an answer before its first token is not left with a note that something is awaited.
STOPPED = "(note) => (note || '').startsWith('Waiting') ? 'Stopped before the first word.' : note"


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
                    add_thumbs(answers.thumbs, chat.chatbot)
                details = gr.HTML(about.details(answers.space, answers.model), padding=False, elem_id="details")
        _add_api(answers, chat, inputs)
        note_line.change(None, None, chat.textbox, js=RESTORE_PLACEHOLDER)
        chat.textbox.stop(None, note_line, note_line, js=STOPPED, api_visibility="undocumented")
        for forgets in (chat.chatbot.clear, chat.chatbot.undo):
            forgets(lambda: "", None, note_line, queue=False, api_visibility="undocumented")

        def facts() -> tuple[str, Any, str]:
            missing = gr.update(value=about.unavailable(answers.reason), visible=answers.model is None)
            return about.header(answers.space, answers.model), missing, about.details(answers.space, answers.model)

        blocks.load(None, None, None, js=COPY_PLAIN)
        blocks.load(None, None, None, js=NAME_BUTTONS)
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
        chatbot=_conversation(answers.space),
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
    return LiteralChatbot(
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
