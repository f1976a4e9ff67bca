"""Votes for tests: `vote(1, "a", labeller="ann")` on pair 1, where the good answer says "blue" and the bad one "red"."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from training.votes import Answer, Maker, Sampling, Turn, Vote

NEW = Maker(repo_id="org/new", revision="a" * 40, digest=f"sha256:{'1' * 64}")
OLD = Maker(repo_id="org/old", revision="b" * 40, digest=f"sha256:{'2' * 64}")


def labeller(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


def answer(text: str, maker: Maker | None = NEW) -> Answer:
    sampling = Sampling(temperature=0.0, top_p=1.0, max_new_tokens=32) if maker else None
    return Answer(text=text, maker=maker, sampling=sampling, seed=0, runtime="transformers", seconds=0.5)


def vote(pair: int, choice: str, labeller_name: str = "ann", *, swapped: bool = False, **changes: Any) -> Vote:
    """`choice` is for the sides as shown: A is the good answer unless `swapped`."""
    good, bad = answer(f"blue {pair}", NEW), answer(f"red {pair}", OLD)
    number = changes.pop("number", pair)
    values: dict[str, Any] = {
        "vote_id": f"{labeller_name}-{number:05}-vote",
        "prompt": [Turn(role="user", content=f"Colour {pair}?")],
        "a": bad if swapped else good,
        "b": good if swapped else bad,
        "choice": choice,
        "labeller": labeller(labeller_name),
        "labeller_kind": "person",
        "consent": "notice-1",
        "voted_at": f"2026-11-25T08:{number // 60 % 60:02}:{number % 60:02}+00:00",
        "decision_seconds": 9.0,
    }
    return Vote(**{**values, **changes})


def gold_vote(item: int, choice: str, labeller_name: str = "ann", known: str = "a") -> Vote:
    return vote(
        900 + item,
        choice,
        labeller_name,
        a=answer("four", None),
        b=answer("five", None),
        gold_id=f"gold-{item}",
        gold_choice=known,
    )


def write(file: Path, votes: Iterable[Vote]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(one.model_dump(mode="json")) + "\n" for one in votes))
    return file
