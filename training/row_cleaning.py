"""What stands in a row before its format is looked for: nulls, transcripts as prompts, names of roles, and what no text can hold.

cleaned({"prompt": "\\n\\nHuman: Hi\\n\\nAssistant:", "chosen": " Hello!", "rejected": None})
# {"prompt": [{"role": "user", "content": "Hi"}], "chosen": " Hello!"}
"""

from __future__ import annotations

from typing import Any

from training.transcripts import hh_prompt

EMPTY, TOOLS, MEDIA = "empty answer", "tool calls", "images, audio or video"
ANSWERS = ("completion", "response", "chosen", "rejected", "answer", "output")
LISTS = ("prompt", "messages", "completion", "chosen", "rejected")  # where messages may stand
# What other tools call the two who speak.
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant"}

Row = dict[str, Any]


def cleaned(row: Row) -> Row | str:
    """The row without nulls, its messages' roles by their usual names, and a transcript under `prompt` as messages.

    A str where the row says something that a text alone does not: then it would teach what was not meant.
    """
    found = {name: _renamed(value) if name in LISTS else value for name, value in row.items() if value is not None}
    if any(found.get(name) for name in ("images", "image", "audio", "audios", "video", "videos")):
        return MEDIA
    messages = [
        each for name in LISTS if isinstance(found.get(name), list) for each in found[name] if isinstance(each, dict)
    ]
    if any(each.get("tool_calls") or each.get("role") in ("tool", "function", "ipython") for each in messages):
        return TOOLS
    if any(
        isinstance(each.get("content"), list) and any(_is_media(part) for part in each["content"]) for each in messages
    ):
        return MEDIA
    if isinstance(found.get("prompt"), str) and (dialogue := hh_prompt(found["prompt"])) is not None:
        found["prompt"] = dialogue
    return found


def lacks_its_answer(row: Row) -> bool:
    """Whether a row of no known format has an answer's column with nothing in it."""
    return any(name in row and row[name] is None for name in ANSWERS)


def _renamed(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    return [
        {**each, "role": ROLES[each["role"]]} if isinstance(each, dict) and each.get("role") in ROLES else each
        for each in value
    ]


def _is_media(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") not in (None, "text")
