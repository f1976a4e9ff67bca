"""A pair on its sides with what was said of it: between other tools' records and our own pairs and votes.

shown = read_slipway(Path("pairs.jsonl"), seed=0)          # [Shown(...)], to be written for another tool
votes = to_votes(iter(shown), Circumstances(...))          # what another tool's file says, as votes
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import hmac
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.errors import UsageError
from training.feedback_pairs import Pair
from training.votes import Answer, Turn, Vote

CHOICES = ("a", "b", "tie", "both_bad")
QUESTIONS = ("reason", "better_answer")  # beside `preference`
CARRIED = ("vote_id", "labeller", "labeller_kind", "consent", "voted_at", "decision_seconds", "choice", *QUESTIONS)


@dataclass(frozen=True)
class Shown:
    """A pair on its sides, and the judgements that it was given: (who, choice, reason, better answer, seconds, when)."""

    prompt: list[Turn]
    a: Answer
    b: Answer
    gold_id: str | None
    gold_choice: str | None
    judgements: list[Judgement]
    votes: list[dict[str, Any]] = field(default_factory=list)  # that were exported: what only we know of them
    where: str = ""

    @property
    def key(self) -> str:
        content = [[turn.model_dump() for turn in self.prompt], self.a.key, self.b.key]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Judgement:
    who: str
    choice: str
    reason: str | None
    better_answer: str | None
    seconds: float | None
    when: str | None
    vote_id: str | None = None  # of the exported vote that it is, or that was changed into it


@dataclass(frozen=True)
class Circumstances:
    """What an imported file does not say of its votes."""

    salt: str
    consent: str
    kind: str  # "person" | "script"
    imported_at: str


def read_slipway(file: Path, seed: int) -> list[Shown]:
    """Pairs, on sides drawn by the seed, or votes, gathered by the pair and its sides."""
    drawn = random.Random(seed)
    found: dict[str, Shown] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            if "choice" in json.loads(line):
                vote = Vote.model_validate_json(line)
                one = Shown(vote.prompt, vote.a, vote.b, vote.gold_id, vote.gold_choice, [])
                said = (vote.reason, vote.better_answer, vote.decision_seconds, vote.voted_at)
                kept = found.setdefault(one.key, one)
                kept.judgements.append(Judgement(vote.labeller, vote.choice, *said, vote.vote_id))
                kept.votes.append({name: getattr(vote, name) for name in CARRIED})
            else:
                pair = Pair.model_validate_json(line)
                sides = [pair.one, pair.other]
                drawn.shuffle(sides)
                one = Shown(pair.prompt, sides[0], sides[1], None, None, [])
                found[one.key] = one
        except ValueError as error:  # of json, of pydantic, or of text that is not UTF-8
            found_error = str(error).splitlines()[0]
            raise UsageError("neither a pair nor a vote", where=f"{file}, line {number}", found=found_error) from error
    return list(found.values())


def to_votes(shown: Iterator[Shown], circumstances: Circumstances) -> list[Vote]:
    """Votes under ids that depend on record and user only, so a file that is imported twice adds nothing.

    A vote that we exported keeps its id, labeller and circumstances; where it was changed since, its labeller only.
    """
    votes = []
    for one in shown:
        with naming(one.where):
            left = list(one.votes)
            for judged in one.judgements:
                votes.append(_vote(one, judged, left, circumstances))
    return votes


def _vote(one: Shown, judged: Judgement, left: list[dict[str, Any]], circumstances: Circumstances) -> Vote:
    """One judgement as a vote; an exported vote that it is leaves `left`."""
    own = judged.who.replace("-", "")
    theirs = [vote for vote in left if vote["vote_id"] == judged.vote_id or vote["labeller"][:32] == own]
    said = {"choice": judged.choice, "reason": judged.reason, "better_answer": judged.better_answer}
    same = next((vote for vote in theirs if all(vote[name] == text for name, text in said.items())), None)
    if same is not None:
        left.remove(same)
    labeller = theirs[0]["labeller"] if theirs else _hashed(known(judged.who, "completed_by"), circumstances.salt)
    return Vote.model_validate(
        {
            "vote_id": hashlib.sha256(f"{one.key}|{labeller}".encode()).hexdigest()[:32],
            "prompt": [turn.model_dump() for turn in one.prompt],
            "a": one.a.model_dump(),
            "b": one.b.model_dump(),
            **said,
            "labeller": labeller,
            "labeller_kind": theirs[0]["labeller_kind"] if theirs else circumstances.kind,
            "gold_id": one.gold_id,
            "gold_choice": one.gold_choice,
            "consent": circumstances.consent,
            "voted_at": judged.when or circumstances.imported_at,
            "decision_seconds": judged.seconds,
            **(same or {}),
        }
    )


def _hashed(who: str, salt: str) -> str:
    return hmac.new(salt.encode(), who.encode(), hashlib.sha256).hexdigest()


def fields_of(one: Shown) -> dict[str, str]:
    last = one.prompt[-1].content
    whole = last if len(one.prompt) == 1 else "\n\n".join(f"{turn.role}: {turn.content}" for turn in one.prompt)
    return {"prompt": whole, "answer_a": one.a.text, "answer_b": one.b.text}


def facts_of(one: Shown) -> str:
    facts = {name: getattr(one, name).model_dump(exclude={"text"}) for name in ("a", "b")}
    gold = {"gold_id": one.gold_id, "gold_choice": one.gold_choice}
    return json.dumps({"prompt": [turn.model_dump() for turn in one.prompt], **facts, **gold, "votes": one.votes})


def shown_of(fields: Any, facts: Any, judgements: list[Judgement], where: str) -> Shown:
    """A pair from another tool. Without `slipway` it was not exported by us, and who wrote the answers is not known."""
    names = ("prompt", "answer_a", "answer_b")
    if not isinstance(fields, dict) or not all(isinstance(fields.get(name), str) for name in names):
        found = ", ".join(fields or {}) or "none of them" if isinstance(fields, dict | None) else repr(fields)
        raise UsageError("the record lacks a field", where=where, expected=", ".join(names), found=found[:200])
    for judged in judgements:
        if judged.choice not in CHOICES:
            raise UsageError("no such preference", where=where, expected=", ".join(CHOICES), found=judged.choice[:80])
    try:
        known = json.loads(facts) if isinstance(facts, str) else {"a": {}, "b": {}}
        prompt = known.get("prompt") or [{"role": "user", "content": fields["prompt"]}]
        a, b = (Answer.model_validate({**known[side], "text": fields[f"answer_{side}"]}) for side in ("a", "b"))
        turns = [Turn.model_validate(turn) for turn in prompt]
        votes = [{name: vote[name] for name in CARRIED} for vote in known.get("votes") or []]
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # ValidationError is a ValueError
        raise UsageError("`slipway` is not what was exported", where=where, found=str(error).splitlines()[0]) from error
    return Shown(turns, a, b, known.get("gold_id"), known.get("gold_choice"), judgements, votes, where)


@contextlib.contextmanager
def naming(where: str) -> Iterator[None]:
    """Whatever of a record is not as its tool writes it ends in a UsageError that names the record."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}, {first['input']!r}"
        raise UsageError("the record makes no vote", where=where, found=found[:300]) from error
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise UsageError("the record is not as the tool writes it", where=where, found=str(error)[:300]) from error


def known(who: Any, name: str) -> str:
    """The user of a judgement. Raises ValueError where there is none: nobody's votes would all be one labeller's."""
    if who is None or who == "":
        raise ValueError(f"`{name}` does not say who judged")
    return str(who)


def said(value: Any) -> str | None:
    """A text of a labeller, which Label Studio gives as a list of lines or as one text. Raises ValueError for anything else."""
    lines = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(line, str) for line in lines):
        raise ValueError(f"a text was expected, not {value!r}")
    return "\n".join(lines) or None


def utc(when: Any) -> str | None:
    """A time as votes have it, in UTC; one without an offset is taken as UTC. Raises ValueError where it is no time."""
    if when is None:
        return None
    parsed = datetime.datetime.fromisoformat(str(when))
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=datetime.UTC)
    return parsed.astimezone(datetime.UTC).isoformat()


def rows_of(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise UsageError("the file must be a list of records", where=where)
    return value
