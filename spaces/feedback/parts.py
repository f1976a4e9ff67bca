"""What is to be seen on the page: notice and consent, a question, a pair of answers with its buttons, and the last thanks.

    consent, question, pair = Consent.place(space), Question.place(), Pair.place()     # within gr.Blocks

What happens in them is in page.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr
import limits
from labelling import BETTER_MOST, CODE_MOST, REASON_MOST
from notice import INSTRUCTIONS, notice

BUTTONS = {"a": ("A is better", "A"), "b": ("B is better", "B"), "tie": ("Tie", "T"), "both_bad": ("Both bad", "X")}


@dataclass(frozen=True)
class Consent:
    """What a labeller reads and agrees to before anything else is shown."""

    column: gr.Column
    code: gr.Textbox
    kind: gr.Radio
    agreed: gr.Checkbox
    begin: gr.Button

    @classmethod
    def place(cls, space: dict[str, Any]) -> Consent:
        with gr.Column(visible=False, elem_id="consent") as column:
            with gr.Column(min_width=0):
                gr.Markdown(notice(space), elem_id="notice", header_links=False)
                code = gr.Textbox(
                    label="Labeller code",
                    info="The one that you were given, or a word that you will remember. It is kept as a salted hash only.",
                    max_length=CODE_MOST,
                    elem_id="code",
                )
                kind = gr.Radio(
                    [("a person", "person"), ("a script that follows rules", "script")],
                    label="Who votes here?",
                    elem_id="kind",
                )
                agreed = gr.Checkbox(label="I have read this and agree to take part.", elem_id="agreed")
                begin = gr.Button("Begin", variant="primary", elem_id="begin")
            with gr.Column(min_width=0):
                gr.Markdown(f"## How to judge\n{INSTRUCTIONS}", elem_id="instructions")
        return cls(column, code, kind, agreed, begin)


@dataclass(frozen=True)
class Question:
    """Where models answer what a labeller asks."""

    column: gr.Column
    text: gr.Textbox
    ask: gr.Button
    said: gr.Markdown
    not_you: gr.Button

    @classmethod
    def place(cls) -> Question:
        with gr.Column(visible=False, elem_id="asking") as column:
            text = gr.Textbox(
                label="Ask something",
                info="Two models answer it, which takes some seconds. Then say which answer is better.",
                lines=3,
                max_length=limits.MESSAGE_CHARACTERS,
                elem_id="question",
            )
            ask = gr.Button("Ask both", variant="primary", elem_id="ask")
            said = gr.Markdown(elem_id="asked")
            other = not_you("asking")
        return cls(column, text, ask, said, other)


@dataclass(frozen=True)
class Pair:
    """A prompt, two answers, and what a labeller can say of them."""

    column: gr.Column
    prompt: gr.Markdown
    answers: tuple[gr.Markdown, gr.Markdown]
    buttons: dict[str, gr.Button]
    status: gr.Markdown
    reason: gr.Textbox
    better: gr.Textbox
    own_id: gr.Markdown
    not_you: gr.Button

    @classmethod
    def place(cls) -> Pair:
        with gr.Column(visible=False, elem_id="pair") as column:
            prompt = gr.Markdown(elem_id="prompt", line_breaks=True)
            with gr.Row(elem_id="answers", equal_height=True):
                answers = _answer("A"), _answer("B")
            with gr.Row(elem_id="votes"):
                buttons = {choice: _button(choice, *words) for choice, words in BUTTONS.items()}
            status = gr.Markdown(elem_id="status")
            with gr.Accordion("Say why, or write a better answer (optional)", open=False, elem_id="more"):
                reason = gr.Textbox(label="Why", lines=2, max_length=REASON_MOST, elem_id="reason")
                better = gr.Textbox(label="A better answer", lines=4, max_length=BETTER_MOST, elem_id="better")
            with gr.Accordion("How to judge", open=False, elem_id="how"):
                gr.Markdown(INSTRUCTIONS)
            own_id = gr.Markdown(elem_id="own-id")
            other = not_you("pair")
        return cls(column, prompt, answers, buttons, status, reason, better, own_id, other)


def not_you(where: str) -> gr.Button:
    """For whoever sits down at a browser in which another labeller voted."""
    return gr.Button("Not you? Change the labeller", size="sm", elem_id=f"not-you-{where}", min_width=0)


def _answer(name: str) -> gr.Markdown:
    with gr.Column(elem_classes="answer", min_width=0):
        gr.Markdown(f"## Answer {name}", elem_classes="side")
        return gr.Markdown(elem_id=f"answer-{name.lower()}", line_breaks=True)


def _button(choice: str, label: str, key: str) -> gr.Button:
    variant = "primary" if choice in ("a", "b") else "secondary"
    return gr.Button(f"{label} ({key})", elem_id=f"vote-{choice}", variant=variant, min_width=0)
