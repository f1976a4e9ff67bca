"""completions.jsonl: a few of a PPO run's sampled responses as they came, so that a run can be read and not only drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from training.records import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from training.rollout import Experience

FILE = "completions.jsonl"


def first_completions(
    tokenizer: PreTrainedTokenizerBase, experience: Experience, kl: Tensor, count: int
) -> list[dict[str, Any]]:
    """The first `count` episodes of a rollout as texts: the prompt as the model read it, the response, reward and KL.

    kl `(B, T)` per token, 0 off the response; what is told is its sum, in nats a response. The reward is the unscaled one.
    """
    responses = experience.responses
    prompt_width = responses.input_ids.shape[1] - responses.length
    prompts = [
        ids[mask.bool()].tolist()
        for ids, mask in zip(
            responses.input_ids[:count, :prompt_width], responses.attention_mask[:count, :prompt_width], strict=True
        )
    ]
    return [
        {
            "prompt": tokenizer.decode(prompt),
            "response": tokenizer.decode(answer, skip_special_tokens=True),
            "ended": bool(ended),
            "reward": round(float(score), 5),
            "kl": round(float(distance), 5),
        }
        for prompt, answer, ended, score, distance in zip(
            prompts,
            responses.tokens()[:count],
            responses.ended[:count],
            experience.scores[:count],
            kl[:count].sum(dim=1),
            strict=True,
        )
    ]


def write_completions(run: Path, step: int, rows: Sequence[dict[str, Any]]) -> None:
    """Append the rows of an update."""
    with (run / FILE).open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps({"step": step, **row}) + "\n" for row in rows))


def read_completions(run: Path) -> list[dict[str, Any]]:
    """The rows of a run; none where it has none. A last line that was cut off in writing is left out."""
    file = run / FILE
    rows = []
    for line in file.read_bytes().splitlines(keepends=True) if file.is_file() else []:
        if line.endswith(b"\n"):
            rows.append(json.loads(line))
    return rows


def cut_completions(run: Path, step: int) -> None:
    """Leave out the rows of updates after `step`: a run that continues there writes them again."""
    if (run / FILE).is_file():
        kept = [row for row in read_completions(run) if row["step"] <= step]
        write_atomically(run / FILE, "".join(json.dumps(row) + "\n" for row in kept).encode())
