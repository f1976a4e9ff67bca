"""From votes that count to rows to train on: TRL's preference pairs and KTO's marked answers, split by prompt; pure functions.

    rows = preference_rows(votes);  train, test = split_by_prompt(rows, held_out_prompts(rows, 0.2, seed=0))

A pair of answers becomes one row where more votes prefer one answer than the other. Ties and "both bad" decide no pair; they
count in ratings and agreement. A labeller's own better answer is preferred to both that were shown.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

from training.votes import Turn, Vote

Row = dict[str, Any]


def pairs_of(votes: Sequence[Vote]) -> dict[str, list[Vote]]:
    """The votes on each pair, gold items left out, in the order of the pairs' ids."""
    groups: dict[str, list[Vote]] = {}
    for vote in votes:
        if vote.gold_id is None:
            groups.setdefault(vote.pair_id, []).append(vote)
    return dict(sorted(groups.items()))


def preference_rows(votes: Sequence[Vote]) -> tuple[list[Row], dict[str, int]]:
    """Rows {prompt, chosen, rejected} as messages, with the votes behind each; and how many pairs gave none, and why."""
    rows: list[Row] = []
    undecided: Counter[str] = Counter()
    for name, own in pairs_of(votes).items():
        counts = Counter(vote.verdict for vote in own)
        answers = own[0].ordered
        if counts["first"] != counts["second"]:
            better = 0 if counts["first"] > counts["second"] else 1
            rows.append(_row(own[0].prompt, answers[better].text, answers[1 - better].text, name, dict(counts)))
        elif counts["first"]:
            undecided["as many votes for one answer as for the other"] += 1
        else:
            undecided["only ties and both bad"] += 1
        for text in better_answers(own):
            rows += [_row(own[0].prompt, text, shown.text, name, {"better_answer": 1}) for shown in answers]
    return rows, dict(undecided)


def marked_rows(votes: Sequence[Vote]) -> list[Row]:
    """Rows {prompt, completion, label} for KTO: preferred and better answers are good, the others and both bad are not."""
    rows: list[Row] = []
    for own in pairs_of(votes).values():
        counts = Counter(vote.verdict for vote in own)
        answers = own[0].ordered
        labels: tuple[bool, bool] | None = None
        if counts["both_bad"] > len(own) / 2:
            labels = (False, False)
        elif counts["first"] != counts["second"]:
            labels = (counts["first"] > counts["second"], counts["second"] > counts["first"])
        if labels is not None:
            rows += [_marked(own[0].prompt, answer.text, label) for answer, label in zip(answers, labels, strict=True)]
        rows += [_marked(own[0].prompt, text, True) for text in better_answers(own)]
    return rows


def better_answers(votes: Sequence[Vote]) -> list[str]:
    """What labellers wrote instead, each text once, where it differs from what was shown."""
    shown = {text.strip() for vote in votes for text in (vote.a.text, vote.b.text)}
    written = [vote.better_answer.strip() for vote in votes if vote.better_answer]
    return [text for text in dict.fromkeys(written) if text and text not in shown]


def held_out_prompts(rows: Sequence[Row], fraction: float, seed: int) -> set[str]:
    """The prompts to hold out, in the order of a hash, so that few change sides when others are added.

    At least one where there are two and `fraction` is not 0, and never all.
    """
    prompts = {prompt_key(row): hashlib.sha256(f"{seed}|{prompt_key(row)}".encode()).hexdigest() for row in rows}
    count = round(len(prompts) * fraction)
    if fraction > 0 and len(prompts) > 1:
        count = min(max(count, 1), len(prompts) - 1)
    return set(sorted(prompts, key=prompts.__getitem__)[:count])


def split_by_prompt(rows: Sequence[Row], held_out: set[str]) -> tuple[list[Row], list[Row]]:
    """Rows to train on and rows held out; all rows of a prompt are on one side."""
    train = [row for row in rows if prompt_key(row) not in held_out]
    return train, [row for row in rows if prompt_key(row) in held_out]


def prompt_key(row: Row) -> str:
    """The row's conversation as one text."""
    return "\0".join(f"{turn['role']}\1{turn['content']}" for turn in row["prompt"])


def _row(prompt: Sequence[Turn], chosen: str, rejected: str, pair: str, votes: dict[str, int]) -> Row:
    return {
        "prompt": [turn.model_dump() for turn in prompt],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "pair_id": pair,
        # Every row has every key: readers of JSON lines take the columns of the first.
        "votes": {name: votes.get(name, 0) for name in ("first", "second", "tie", "both_bad", "better_answer")},
    }


def _marked(prompt: Sequence[Turn], completion: str, label: bool) -> Row:
    return {
        "prompt": [turn.model_dump() for turn in prompt],
        "completion": [{"role": "assistant", "content": completion}],
        "label": label,
    }
