"""Columns that people have, brought to those that data.py reads, and the name of the format that a row is in.

    in_known_columns({"question": "2 + 2?", "answer": "4"})     # ("GSM8K {question, answer}", {"prompt": ..., "completion": ...})
    native_format({"prompt": "Hi", "chosen": "Hello!", "rejected": "No."})      # "{prompt, chosen, rejected} as text"

Known beside TRL's own and hh-rlhf's: UltraFeedback with rated completions, Argilla's {instruction, chosen_response,
rejected_response}, distilabel's rated generations, {system, question, chosen, rejected} as the Orca pairs have it, Alpaca's
{instruction, input, output}, GSM8K's {question, answer}, and ShareGPT's conversations. Of rated answers the best and the worst
are the pair.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

from training.transcripts import hh_prompt

FOREIGN_FORMATS = "the columns of UltraFeedback, Argilla, distilabel, the Orca pairs, Alpaca, GSM8K or ShareGPT"
RATED_ALIKE = "all answers have the same rating"
TOO_FEW = "fewer than two rated answers"

_HH_TEXT = re.compile(r"\s*Human:")
_SHAREGPT_ROLES = {"system": "system", "human": "user", "user": "user", "gpt": "assistant", "assistant": "assistant"}
_READ = ("prompt", "chosen", "rejected", "messages", "completion", "label", "response", "reward", "text")
_ASKED = ("instruction", "question", "input", "prompt")  # under which of these a text was asked

Row = dict[str, Any]


def native_format(row: Row) -> str:
    """What a row that data.py reads as it is is called: its columns, and whether they are text or messages."""
    chosen = row.get("chosen")
    if isinstance(chosen, str) and row.get("prompt") is None and _HH_TEXT.match(chosen):
        return "hh-rlhf transcripts {chosen, rejected}"
    if isinstance(row.get("prompt"), str) and hh_prompt(row["prompt"]) is not None:
        return (
            f"hh-rlhf transcripts as prompts {{{', '.join(column for column in _READ if row.get(column) is not None)}}}"
        )
    columns = [column for column in _READ if row.get(column) is not None]
    kind = "messages" if any(isinstance(row[column], list) for column in columns) else "text"
    return f"{{{', '.join(columns)}}} as {kind}"


def in_known_columns(row: Row) -> tuple[str, Row | str] | None:
    """The format's name, and the row in TRL's columns or, as a str, why nothing can be made of it; None for no known format."""
    for name, convert in _FOREIGN:
        found = convert(row)
        if found is not None:
            return name, found
    return None


def best_and_worst(answers: Sequence[str], ratings: Sequence[float]) -> tuple[str, str] | str:
    """The answer with the highest and the one with the lowest rating, the first of equals; a str says why there are none."""
    rated = [(rating, answer) for answer, rating in zip(answers, ratings, strict=True) if math.isfinite(rating)]
    if len(rated) < 2:
        return TOO_FEW
    best, worst = max(rated, key=lambda each: each[0]), min(rated, key=lambda each: each[0])
    return RATED_ALIKE if best[0] == worst[0] else (best[1], worst[1])


def _ultrafeedback(row: Row) -> Row | str | None:
    """openbmb/UltraFeedback: an instruction and completions, each with four aspects rated from 1 to 5.

    An answer is worth the mean of its aspects. Many an `overall_score` contradicts its own critique, for which Argilla made its
    binarized sets from the aspects.
    """
    instruction, completions = row.get("instruction"), row.get("completions")
    if not (isinstance(instruction, str) and isinstance(completions, list)):
        return None
    if not all(isinstance(each, dict) and isinstance(each.get("response"), str) for each in completions):
        return None
    answers = [each["response"] for each in completions]
    return _rated(instruction, None, answers, [_mean_rating(each.get("annotations")) for each in completions])


def _generations(row: Row) -> Row | str | None:
    """distilabel: what was asked, generations, and as many ratings."""
    asked, generations, ratings = _asked(row), row.get("generations"), row.get("ratings", row.get("rating"))
    if asked is None or not isinstance(generations, list) or not isinstance(ratings, list):
        return None
    if not all(isinstance(each, str) for each in generations) or len(ratings) != len(generations):
        return None
    return _rated(asked, row.get("system"), generations, [_number(each) for each in ratings])


def _responses(row: Row) -> Row | None:
    """Argilla: {instruction, chosen_response, rejected_response}."""
    asked, chosen, rejected = _asked(row), row.get("chosen_response"), row.get("rejected_response")
    if asked is None or not isinstance(chosen, str) or not isinstance(rejected, str):
        return None
    return _pair(asked, row.get("system"), chosen, rejected)


def _orca_pairs(row: Row) -> Row | None:
    """Intel/orca_dpo_pairs {system, question, chosen, rejected}, and distilabel's {system, input, chosen, rejected}."""
    asked, chosen, rejected = _asked(row), row.get("chosen"), row.get("rejected")
    if asked is None or not isinstance(chosen, str) or not isinstance(rejected, str):
        return None
    return _pair(asked, row.get("system"), chosen, rejected)


def _alpaca(row: Row) -> Row | None:
    """{instruction, input, output}: what is worked on stands below the instruction, where there is something."""
    instruction, output = row.get("instruction"), row.get("output")
    if not isinstance(instruction, str) or not isinstance(output, str):
        return None
    given = row.get("input")
    asked = f"{instruction}\n\n{given}" if isinstance(given, str) and given.strip() else instruction
    return {"prompt": asked, "completion": output}


def _question_answer(row: Row) -> Row | None:
    """GSM8K and its like."""
    question, answer = row.get("question"), row.get("answer")
    if isinstance(question, str) and isinstance(answer, int | float) and not isinstance(answer, bool):
        answer = str(answer)  # as a JSON file has numbers
    return {"prompt": question, "completion": answer} if isinstance(question, str) and isinstance(answer, str) else None


def _sharegpt(row: Row) -> Row | None:
    """{conversations}: turns {from, value}."""
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, dict) for turn in turns):
        return None
    if not all(turn.get("from") in _SHAREGPT_ROLES and isinstance(turn.get("value"), str) for turn in turns):
        return None
    return {"messages": [{"role": _SHAREGPT_ROLES[turn["from"]], "content": turn["value"]} for turn in turns]}


_FOREIGN: tuple[tuple[str, Callable[[Row], Row | str | None]], ...] = (
    ("UltraFeedback {instruction, completions}", _ultrafeedback),
    ("Argilla {instruction, chosen_response, rejected_response}", _responses),
    ("distilabel {instruction, generations, ratings}", _generations),
    ("Orca pairs {system, question, chosen, rejected}", _orca_pairs),
    ("Alpaca {instruction, input, output}", _alpaca),
    ("GSM8K {question, answer}", _question_answer),
    ("ShareGPT {conversations}", _sharegpt),
)


def _rated(asked: str, system: Any, answers: Sequence[str], ratings: Sequence[float]) -> Row | str:
    pair = best_and_worst(answers, ratings)
    return pair if isinstance(pair, str) else _pair(asked, system, *pair)


def _pair(asked: str, system: Any, chosen: str, rejected: str) -> Row:
    """TRL's explicit prompt, conversational: there a system message has its place."""
    prompt = [{"role": "user", "content": asked}]
    if isinstance(system, str) and system.strip():
        prompt = [{"role": "system", "content": system}, *prompt]
    answers = {"chosen": chosen, "rejected": rejected}
    return {"prompt": prompt, **{name: [{"role": "assistant", "content": text}] for name, text in answers.items()}}


def _asked(row: Row) -> str | None:
    return next((row[column] for column in _ASKED if isinstance(row.get(column), str)), None)


def _mean_rating(annotations: Any) -> float:
    """The mean of the aspects that have a rating; NaN where none has."""
    aspects = annotations.values() if isinstance(annotations, dict) else ()
    ratings = [_number(aspect.get("Rating")) for aspect in aspects if isinstance(aspect, dict)]
    finite = [rating for rating in ratings if math.isfinite(rating)]
    return sum(finite) / len(finite) if finite else math.nan


def _number(value: Any) -> float:
    """The rating as a number; NaN for "N/A", null and whatever else is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
