"""A backend of the page as tests load it, and one greedy answer of it."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

MESSAGES = [{"role": "user", "content": "Hi <b>you</b> {{ 7*7 }} <|im_end|>"}]


def whole(text: str) -> str:
    """Without the parts of characters that a model of random weights says, which runtimes show in different ways."""
    return text.replace("\ufffd", "").strip()


def settings_of(chat: Any, checkpoint: Path, backend: str, settings: dict[str, Any]) -> Any:
    return chat("chat_model").ModelSettings(str(checkpoint), None, "sha256:0", "F16", backend, settings)


def read(chat: Any, model: Any, *, tokens: int = 16, stop_after: int | None = None) -> list[Any]:
    """Every progress of one greedy answer to MESSAGES, closed after so many."""
    sampling = chat("limits").Sampling(temperature=0, top_p=1, max_new_tokens=tokens)
    finished = asyncio.Event()

    async def run() -> list[Any]:
        seen = []
        async with contextlib.aclosing(model.answer(model.prompt(MESSAGES, tokens), sampling, finished.set)) as answer:
            async for progress in answer:
                seen.append(progress)
                if len(seen) == stop_after:
                    break
        await asyncio.wait_for(finished.wait(), 20)
        return seen

    return asyncio.run(run())
