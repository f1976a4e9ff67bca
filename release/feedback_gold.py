"""Gold items of a team's own for the feedback Space: pairs with known answers, which show who judges with care.

    content = read_gold(Path("gold.jsonl"))     # {"prompt": "..." or messages, "better": "...", "worse": "..."} a line

Those that come with Slipway stand in its repository, so whoever wants to can know them.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator, model_validator

from training.errors import UsageError
from training.records import Record
from training.votes import Turn

Words = Annotated[str, Field(min_length=1, max_length=8_000)]


class GoldItem(Record):
    """A pair of which one answer is better beyond doubt."""

    gold_id: str = ""
    prompt: list[Turn]
    better: Words
    worse: Words

    @field_validator("prompt", mode="before")
    @classmethod
    def _messages(cls, value: object) -> object:
        return [{"role": "user", "content": value}] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _differ(self) -> GoldItem:
        if self.better.strip() == self.worse.strip():
            raise ValueError("better and worse are the same text")
        if not self.prompt or self.prompt[-1].role != "user":
            raise ValueError("the prompt must end with the user's turn")
        return self


def read_gold(file: Path) -> bytes:
    """The items as the Space reads them, each under an id of its content where it has none. Raises UsageError."""
    try:
        lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("the gold items cannot be read", where=str(file), found=str(error)) from error
    items: dict[str, GoldItem] = {}
    for number, line in enumerate(lines, 1):
        try:
            item = GoldItem.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(
                "this line is no gold item",
                where=f"{file}, line {number}, field {'.'.join(map(str, first['loc'])) or '(line)'}",
                expected='{"prompt": text or messages, "better": text, "worse": text}',
                found=first["msg"],
            ) from error
        content = json.dumps(item.model_dump(exclude={"gold_id"}), sort_keys=True)
        name = item.gold_id or f"gold-{hashlib.sha256(content.encode()).hexdigest()[:16]}"
        if name in items:
            raise UsageError("this gold item stands there twice", where=f"{file}, line {number}", found=name)
        items[name] = item.model_copy(update={"gold_id": name})
    if not items:
        raise UsageError("the file has no gold items", where=str(file))
    return b"".join(
        json.dumps(item.model_dump(mode="json"), ensure_ascii=False).encode() + b"\n" for item in items.values()
    )
