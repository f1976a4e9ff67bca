"""What the model reads of the conversation in the card's snippet: the chat template, written out.

Made here when a card is written, and again when it is checked.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from training.checkpoint import Checkpoint

MARKERS = ("<!-- prompt:begin -->", "<!-- prompt:end -->")
CONVERSATION = [{"role": "user", "content": "How do I keep basil alive on a windowsill?"}]  # that of the card's snippet
LONGEST = 4000  # characters: what writes more, as a list of tools, hides the conversation in it
TELLS_THE_DATE = "strftime_now"  # such a template writes other words tomorrow
CONFIG = "tokenizer_config.json"


def prompt_lines(run: Path) -> list[str]:
    """The text between fences, line by line; [] where there is no template, where it tells the date, does not render (a gate's
    question) or writes too much. No tokenizer is loaded: its special tokens are in its config."""
    directory = run / "checkpoint" if (run / "checkpoint").is_dir() else run
    template = Checkpoint.open(directory).chat_template
    if template is None or TELLS_THE_DATE in template or not (directory / CONFIG).is_file():
        return []
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    tokens = _special_tokens(directory / CONFIG)
    try:
        rendered, _ = render_jinja_template(
            [CONVERSATION], chat_template=template, add_generation_prompt=True, **tokens
        )
    except (TemplateError, TypeError, ValueError):
        return []
    text = str(rendered[0]).strip("\n")
    fence = "`" * (max(2, *map(len, re.findall(r"`+", text)), 2) + 1)
    return [] if not text or len(text) > LONGEST else [f"{fence}text", *text.split("\n"), fence]


def _special_tokens(file: Path) -> dict[str, str]:
    """bos_token, eos_token and the like, each a text or an object with one."""
    try:
        config: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return {}
    found = config.items() if isinstance(config, dict) else ()
    texts = {
        name: value.get("content") if isinstance(value, dict) else value
        for name, value in found
        if name.endswith("_token")
    }
    return {name: text for name, text in texts.items() if isinstance(text, str)}
