"""hh-rlhf's text, "\\n\\nHuman: ... \\n\\nAssistant: ...", as messages.

hh_messages("\\n\\nHuman: Hi\\n\\nAssistant: Hello!")        # [{"role": "user", ...}, {"role": "assistant", ...}]
hh_prompt("\\n\\nHuman: Hi\\n\\nAssistant:")               # [{"role": "user", "content": "Hi"}]
"""

from __future__ import annotations

import re

HH_TURN = re.compile(r"\n\n(Human|Assistant):")
HH_ROLES = {"Human": "user", "Assistant": "assistant"}


def hh_messages(text: str) -> list[dict[str, str]] | None:
    """The text as messages, or None where it is not that. Two turns of one role in a row are joined, as it has."""
    parts = HH_TURN.split(text)
    if len(parts) < 3 or parts[0].strip():
        return None
    messages: list[dict[str, str]] = []
    for role, content in zip(parts[1::2], parts[2::2], strict=True):
        if messages and messages[-1]["role"] == HH_ROLES[role]:
            messages[-1]["content"] += "\n\n" + content.strip()
        else:
            messages.append({"role": HH_ROLES[role], "content": content.strip()})
    return messages


def hh_prompt(text: str) -> list[dict[str, str]] | None:
    """A dialogue whose assistant is about to speak, as Dahoas' and so trlX's sets have their prompts; None for any other text."""
    if not text.rstrip().endswith("Assistant:"):
        return None
    messages = hh_messages(text if text.startswith("\n\n") else "\n\n" + text.lstrip())
    if messages is None or len(messages) < 2 or messages[-1] != {"role": "assistant", "content": ""}:
        return None
    return messages[:-1]
