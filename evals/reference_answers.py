"""Answers of a baseline that is no run of ours, from a file: text-davinci-003's on self-instruct's instructions, say.

    reference = read_reference(Path("davinci.jsonl"), requests, turns, count)
    reference.samples[0].response

A row is {"prompt": ..., "answer": ...}, as self-instruct publishes answers {"instruction": ..., "input": ..., "prediction":
...}, or of a conversation {"turns": [...], "answers": [...]}, which answers its first turn as well as its second. A row belongs
to the request whose user says the same, whatever its spaces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.scorecard import Sample
from evals.second_turn import BEFORE
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.harness import Request


@dataclass(frozen=True)
class Reference:
    """A baseline's answers to the requests of a task, in their order."""

    name: str
    sha256: str  # of the file
    samples: list[Sample]

    @property
    def against(self) -> str:
        return f"against {self.name} sha256:{self.sha256[:12]}"


def user_oriented_prompt(document: dict[str, Any]) -> str:
    """What the user of a self-instruct item says: the instruction, and its input after an empty line where it has one.

    `instances` is a list of {input, output} in the published file, and a dictionary of lists as `datasets` reads its parquet.
    """
    instances = document["instances"]
    given = instances["input"][0] if isinstance(instances, dict) else instances[0]["input"]
    return said(str(document["instruction"]), str(given))


def said(instruction: str, given: str) -> str:
    return "\n\n".join(part.strip() for part in (instruction, given) if part.strip())


def read_reference(
    path: Path, requests: Sequence[Request], turns: Sequence[tuple[str, ...]], count: Callable[[str], int]
) -> Reference:
    """The answers to these requests, whose users say `turns`, the question itself last; `count` gives an answer's length in tokens.

    Raises UsageError for a missing file, a broken row, or a request that no row answers.
    """
    if not path.is_file():
        raise UsageError("there is no file of a baseline's answers here", where=str(path))
    content = path.read_bytes()
    answers: dict[tuple[str, ...], list[str]] = {}
    for number, line in enumerate(content.decode("utf-8").split("\n"), 1):
        if line.strip():
            asked, answered = _row(line, f"{path}, line {number}")
            for length in range(1, len(asked) + 1):
                answers[_plain(asked[:length])] = [answer.strip() for answer in answered[:length]]
    missing = [r.item for r, asked in zip(requests, turns, strict=True) if _plain(asked) not in answers]
    if missing:
        raise UsageError(
            "the baseline's answers lack requests of the task",
            where=str(path),
            expected=f"an answer to each of {len(requests)}",
            found=f"{len(missing)} are missing, e.g. item {missing[0]}",
            next_step="add them, or make the task smaller with limit",
        )
    samples = []
    for request, said_by_user in zip(requests, turns, strict=True):
        *before, answer = answers[_plain(said_by_user)]
        detail: dict[str, Any] = {"response_tokens": count(answer)}
        if before:
            detail[BEFORE] = [list(turn) for turn in zip(said_by_user, before, strict=False)]
        samples.append(Sample(item=request.item, prompt=request.prompt, response=answer, values={}, detail=detail))
    return Reference(path.name, hashlib.sha256(content).hexdigest(), samples)


def _row(line: str, where: str) -> tuple[list[str], list[str]]:
    """What the users of a conversation said, and the answers."""
    try:
        row = json.loads(line)
        if "instruction" in row:
            return [said(str(row["instruction"]), str(row.get("input") or ""))], [str(row["prediction"])]
        if "turns" not in row:
            return [str(row["prompt"])], [str(row["answer"])]
        asked, answered = [str(text) for text in row["turns"]], [str(text) for text in row["answers"]]
        if len(asked) != len(answered):
            raise ValueError("as many answers as turns")
        return asked, answered
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            "a baseline's answer cannot be read",
            where=where,
            expected='{"prompt": ..., "answer": ...}, {"instruction": ..., "input": ..., "prediction": ...} or '
            '{"turns": [...], "answers": [...]} of one length',
            found=line[:80],
        ) from error


def _plain(turns: Sequence[str]) -> tuple[str, ...]:
    return tuple(" ".join(text.split()) for text in turns)
