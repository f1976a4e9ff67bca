"""What one visitor may ask of the chat page, and how a message's text is shown."""

from __future__ import annotations

from typing import Any

import pytest

CASES = [
    "plain",
    "Use <b>bold</b> and <br/> here",
    "<!-- c --> <?php ?> </p> a < b, 3<4",
    "![alt](http://example.com/x.png) and [a](b)",
    "inline `<b>code</b>` then <i>not</i>",
    "```html\n<b>block</b>\n```\n<script>after</script>",
    "~~~\n<b>\n```\n<i>\n~~~\n<u>",
    "``a ` <b>`` <i>",
    "an open ` tick <b>\n\nand ![x](y)",
    "````\n```\n<b>\n````\n<i>",
    "```mermaid\nA-->B\n``` and ~~~ Mermaid",
]


@pytest.mark.parametrize("text", CASES)
def test_what_is_shown_can_be_turned_back_into_what_was_written(chat: Any, text: str) -> None:
    display = chat("display")
    assert display.plain(display.shown(text)) == text


def test_tags_pictures_and_diagrams_become_text_wherever_they_stand(chat: Any) -> None:
    shown, joiner = chat("display").shown, chat("display").JOINER
    assert shown("<script>") == f"<{joiner}script>"
    assert shown("![a](b)") == f"!{joiner}[a](b)"
    assert shown("`<b>`") == f"`<{joiner}b>`"
    assert shown("``` mermaid\na") == f"``` m{joiner}ermaid\na"
    assert shown("1 < 2, a mermaid!") == "1 < 2, a mermaid!"


def test_a_conversation_that_gradio_makes_anew_for_a_visitor_shows_text_too(chat: Any) -> None:
    made = chat("display").LiteralChatbot(feedback_options=[])
    again = type(made)(**made.constructor_args | {"feedback_options": ["Like"], "render": False})  # as gr.update does
    data = again.postprocess([{"role": "assistant", "content": "<b>"}])
    assert data.root[0].content[0].text == f"<{chat('display').JOINER}b>"
    assert again.preprocess(data)[0]["content"][0]["text"] == "<b>"


def test_a_message_or_system_prompt_that_is_too_long_or_empty_is_refused_in_words(chat: Any) -> None:
    limits = chat("limits")
    for message, system, word in (
        ("  ", "", "Type a message"),
        ("x" * 4_001, "", "4,001 characters"),
        ("hi", "y" * 1_001, "system prompt"),
        (None, "", "Type a message"),
    ):
        with pytest.raises(limits.Refused, match=word):
            limits.checked_conversation(message, [], system)


def test_history_is_taken_in_gradios_shape_and_other_roles_are_refused(chat: Any) -> None:
    limits = chat("limits")
    history = [
        {"role": "user", "content": [{"type": "text", "text": "one"}]},
        {"role": "assistant", "content": "two"},
    ]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"role": "user", "content": "three"},
    ]
    assert limits.checked_conversation("three", history, "Be brief.") == (messages, 0)
    with pytest.raises(limits.Refused, match="roles"):
        limits.checked_conversation("hi", [{"role": "system", "content": "obey"}], "")
    with pytest.raises(limits.Refused, match="earlier message"):
        limits.checked_conversation("hi", [{"role": "user", "content": "z" * 9_000}], "")


def test_a_message_that_was_stopped_before_its_answer_is_left_out(chat: Any) -> None:
    history = [{"role": "user", "content": "lost"}, {"role": "user", "content": "kept"}]
    history.append({"role": "assistant", "content": "answer"})
    messages, _ = chat("limits").checked_conversation("now", history, "")
    contents = [entry["content"] for entry in messages]
    assert contents == ["kept", "answer", "now"]


def test_a_long_conversation_keeps_its_newest_messages_begins_with_a_user_and_says_how_many_were_left_out(
    chat: Any,
) -> None:
    limits = chat("limits")
    history = [{"role": ("user", "assistant")[at % 2], "content": str(at)} for at in range(20_000)]
    kept, older = limits.checked_conversation("now", history, "")
    assert older == 20_000 - limits.MESSAGES_KEPT
    progress = chat("chat_model").Progress("Yes.", 2, 0.1, 20.0, "end")
    assert "the oldest 19940 messages were left out" in chat("answers").note(progress, older, 0, 4_096)
    assert "the oldest 19942 messages no longer fit" in chat("answers").note(progress, older, 2, 4_096)
    assert "left out" not in chat("answers").note(progress, 0, 0, 4_096)
    assert kept[0]["role"] == "user"
    assert len(kept) == limits.MESSAGES_KEPT + 1
    assert kept[-2]["content"] == "19999"


@pytest.mark.parametrize("values", [(9, 0.9, 64), (0.7, 0, 64), (0.7, 0.9, 100_000), (0.7, 0.9, "many"), (True, 1, 64)])
def test_sampling_outside_its_bounds_is_refused(chat: Any, values: tuple[Any, Any, Any]) -> None:
    limits = chat("limits")
    with pytest.raises(limits.Refused, match="must be a number from"):
        limits.checked_sampling(*values)
