"""`python -m training feedback-exchange`: pairs and votes to and from the files of Argilla 2 and Label Studio.

    python -m training feedback-exchange export runs/pairs/pairs.jsonl --format argilla --out records.json
    python -m training feedback-exchange import records.json --format argilla --consent firm-2026 --salt SECRET --out votes.jsonl

Argilla's file is that of `dataset.records.to_json`, Label Studio's its JSON export. An exported record has its sides: A stands in
`answer_a`. What made the answers, and the votes that there were already, travel as one text in `slipway`, out of the labellers'
sight: an exported vote comes back as itself, not as another one by somebody else.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import hashlib
import hmac
import json
import random
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training.command import Result
from training.errors import UsageError
from training.feedback_pairs import Pair
from training.records import canonical_json, write_atomically
from training.run_record import now
from training.votes import Answer, Turn, Vote

FORMATS = ("argilla", "label-studio")
CHOICES = ("a", "b", "tie", "both_bad")
QUESTIONS = ("reason", "better_answer")  # beside `preference`
CARRIED = ("vote_id", "labeller", "labeller_kind", "consent", "voted_at", "decision_seconds", "choice", *QUESTIONS)
OWN_DOMAIN = "@labeller.invalid"  # of the addresses that labellers get in Label Studio
LABEL_CONFIG = """<View>
  <Text name="prompt" value="$prompt"/>
  <View style="display: grid; grid-template-columns: 1fr 1fr; gap: 1em">
    <Text name="answer_a" value="$answer_a"/>
    <Text name="answer_b" value="$answer_b"/>
  </View>
  <Choices name="preference" toName="prompt" choice="single" required="true">
    <Choice value="a" alias="a"/><Choice value="b" alias="b"/><Choice value="tie"/><Choice value="both_bad"/>
  </Choices>
  <TextArea name="reason" toName="prompt"/>
  <TextArea name="better_answer" toName="prompt"/>
</View>
"""


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


@dataclass(frozen=True)
class Circumstances:
    """What an imported file does not say of its votes."""

    salt: str
    consent: str
    kind: str  # "person" | "script"
    imported_at: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m training feedback-exchange`."""
    parser.add_argument("action", choices=("export", "import"))
    parser.add_argument("file", type=Path, help="export: pairs or votes (.jsonl); import: the other tool's JSON")
    parser.add_argument("--format", choices=FORMATS, required=True)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--seed", type=int, default=0, help="of the sides on which exported pairs stand")
    parser.add_argument("--salt", help="import: a secret that user ids are hashed with; the same one each time")
    parser.add_argument("--consent", help="import: the notice that the labellers agreed to")
    parser.add_argument("--labeller-kind", choices=("person", "script"), default="person", help="import (%(default)s)")


def run_feedback_exchange(args: argparse.Namespace) -> Result:
    """`python -m training feedback-exchange`."""
    if not args.file.is_file():
        raise UsageError("there is no such file", where=str(args.file))
    if args.action == "export":
        shown = read_slipway(args.file, args.seed)
        write_atomically(
            args.out, canonical_json(to_argilla(shown) if args.format == "argilla" else to_label_studio(shown))
        )
        files = [str(args.out)]
        if args.format == "label-studio":
            config = args.out.with_suffix(".xml")
            write_atomically(config, LABEL_CONFIG.encode())
            files.append(str(config))
        votes = sum(len(one.judgements) for one in shown)
        return {
            "records": len(shown),
            "votes": votes,
            "files": files,
            "summary": f"{' and '.join(files)}: {len(shown)} records with {votes} votes",
        }
    if not args.salt or not args.consent:
        raise UsageError(
            "an import needs a salt, for user ids are kept as hashes only, and the notice that labellers agreed to",
            expected="--salt SECRET --consent NAME",
        )
    try:
        value = json.loads(args.file.read_text(encoding="utf-8"))
    except ValueError as error:  # of json, or of text that is not UTF-8
        raise UsageError("not valid JSON", where=str(args.file), found=str(error)) from error
    reader = from_argilla if args.format == "argilla" else from_label_studio
    circumstances = Circumstances(args.salt, args.consent, args.labeller_kind, now())
    votes_read = to_votes(reader(value, str(args.file)), circumstances)
    if not votes_read:
        raise UsageError("no record of this file was judged", where=str(args.file))
    lines = "".join(json.dumps(vote.model_dump(mode="json"), ensure_ascii=False) + "\n" for vote in votes_read)
    write_atomically(args.out, lines.encode())
    return {"votes": len(votes_read), "files": [str(args.out)], "summary": f"{args.out}: {len(votes_read)} votes"}


def read_slipway(file: Path, seed: int) -> list[Shown]:
    """Pairs, on sides drawn by the seed, or votes, gathered by the pair and its sides."""
    drawn = random.Random(seed)
    found: dict[str, Shown] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        try:
            if "choice" in json.loads(line):
                vote = Vote.model_validate_json(line)
                one = Shown(vote.prompt, vote.a, vote.b, vote.gold_id, vote.gold_choice, [])
                said = (vote.reason, vote.better_answer, vote.decision_seconds, vote.voted_at)
                kept = found.setdefault(one.key, one)
                kept.judgements.append(Judgement(vote.labeller, vote.choice, *said))
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


def to_argilla(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """Records as Argilla's `to_json` writes them; its user ids are UUIDs, here made of the labellers' hashes."""
    return [
        {
            "id": one.key,
            "fields": _fields(one),
            "metadata": {"slipway": _facts(one)},
            "suggestions": {},
            "responses": {
                name: values
                for name, values in (
                    ("preference", [_response(judged, judged.choice) for judged in one.judgements]),
                    ("reason", [_response(judged, judged.reason) for judged in one.judgements if judged.reason]),
                    (
                        "better_answer",
                        [_response(judged, judged.better_answer) for judged in one.judgements if judged.better_answer],
                    ),
                )
                if values
            },
            "vectors": {},
            "_server_id": None,
        }
        for one in shown
    ]


def from_argilla(value: Any, where: str) -> Iterator[Shown]:
    """The records of an Argilla file. Raises UsageError naming the first that has not our fields and questions."""
    for number, record in enumerate(_rows(value, where), 1):
        place = f"{where}, record {number}"
        with _named(place):
            shown = _shown(
                record.get("fields"), (record.get("metadata") or {}).get("slipway"), _argilla_judgements(record), place
            )
        yield shown


def _argilla_judgements(record: dict[str, Any]) -> list[Judgement]:
    responses = record.get("responses") or {}
    others = {
        name: {str(given.get("user_id")): _said(given.get("value")) for given in responses.get(name) or []}
        for name in QUESTIONS
    }
    judgements = []
    for given in responses.get("preference") or []:
        who = _known(given.get("user_id"), "user_id")
        texts = others["reason"].get(who), others["better_answer"].get(who)
        judgements.append(Judgement(who, str(given.get("value")), *texts, None, None))
    return judgements


def to_label_studio(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """Tasks as Label Studio takes and gives them; judgements as annotations."""
    return [
        {
            "data": {**_fields(one), "slipway": _facts(one)},
            "annotations": [
                {
                    "completed_by": {"email": f"{judged.who[:32]}{OWN_DOMAIN}"},
                    "result": [
                        _result("preference", "choices", {"choices": [judged.choice]}),
                        *(
                            _result(name, "textarea", {"text": [text]})
                            for name, text in (("reason", judged.reason), ("better_answer", judged.better_answer))
                            if text
                        ),
                    ],
                    "lead_time": judged.seconds,
                    "created_at": judged.when,
                    "was_cancelled": False,
                }
                for judged in one.judgements
            ],
        }
        for one in shown
    ]


def from_label_studio(value: Any, where: str) -> Iterator[Shown]:
    """The tasks of a Label Studio export; cancelled annotations are left out. `Pairwise` regions are read as A or B."""
    for number, task in enumerate(_rows(value, where), 1):
        place = f"{where}, task {number}"
        with _named(place):
            data = task.get("data") or {}
            found = [_annotation(annotation) for annotation in task.get("annotations") or []]
            shown = _shown(data, data.get("slipway"), [judged for judged in found if judged is not None], place)
        yield shown


def _annotation(annotation: dict[str, Any]) -> Judgement | None:
    """One annotation of Label Studio; None where it was cancelled or chooses nothing."""
    given = {str(one.get("from_name")): one.get("value") or {} for one in annotation.get("result") or []}
    selected = next((one["selected"] for one in given.values() if "selected" in one), None)
    choices = given.get("preference", {}).get("choices") or [{"left": "a", "right": "b"}.get(str(selected))]
    if annotation.get("was_cancelled") or choices[0] is None:
        return None
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        who = who.get("email") or who.get("id")
    reason, better = (_said(given.get(name, {}).get("text")) for name in QUESTIONS)
    return Judgement(
        _known(who, "completed_by"),
        str(choices[0]),
        reason,
        better,
        annotation.get("lead_time"),
        _utc(annotation.get("created_at")),
    )


def to_votes(shown: Iterator[Shown], circumstances: Circumstances) -> list[Vote]:
    """Votes under ids that depend on record and user only, so a file that is imported twice adds nothing.

    A vote that we exported keeps its id, labeller and circumstances; where it was changed since, its labeller only.
    """
    votes = []
    for one in shown:
        with _named(one.where):
            left = list(one.votes)
            for judged in one.judgements:
                votes.append(_vote(one, judged, left, circumstances))
    return votes


def _vote(one: Shown, judged: Judgement, left: list[dict[str, Any]], circumstances: Circumstances) -> Vote:
    """One judgement as a vote; an exported vote that it is leaves `left`."""
    own = judged.who.removesuffix(OWN_DOMAIN).replace("-", "")
    theirs = [vote for vote in left if vote["labeller"][:32] == own]
    said = {"choice": judged.choice, "reason": judged.reason, "better_answer": judged.better_answer}
    same = next((vote for vote in theirs if all(vote[name] == text for name, text in said.items())), None)
    if same is not None:
        left.remove(same)
    hashed = hmac.new(circumstances.salt.encode(), judged.who.encode(), hashlib.sha256).hexdigest()
    labeller = theirs[0]["labeller"] if theirs else hashed
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


def _fields(one: Shown) -> dict[str, str]:
    last = one.prompt[-1].content
    whole = last if len(one.prompt) == 1 else "\n\n".join(f"{turn.role}: {turn.content}" for turn in one.prompt)
    return {"prompt": whole, "answer_a": one.a.text, "answer_b": one.b.text}


def _facts(one: Shown) -> str:
    facts = {name: getattr(one, name).model_dump(exclude={"text"}) for name in ("a", "b")}
    gold = {"gold_id": one.gold_id, "gold_choice": one.gold_choice}
    return json.dumps({"prompt": [turn.model_dump() for turn in one.prompt], **facts, **gold, "votes": one.votes})


def _shown(fields: Any, facts: Any, judgements: list[Judgement], where: str) -> Shown:
    """A pair from another tool. Without `slipway` it was not exported by us, and who wrote the answers is not known."""
    names = ("prompt", "answer_a", "answer_b")
    if not isinstance(fields, dict) or not all(isinstance(fields.get(name), str) for name in names):
        found = ", ".join(fields) if isinstance(fields, dict) else repr(fields)
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
def _named(where: str) -> Iterator[None]:
    """Whatever of a record is not as its tool writes it ends in a UsageError that names the record."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        found = f"{'.'.join(map(str, first['loc']))}: {first['msg']}, {first['input']!r}"
        raise UsageError("the record makes no vote", where=where, found=found[:300]) from error
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise UsageError("the record is not as the tool writes it", where=where, found=str(error)[:300]) from error


def _known(who: Any, name: str) -> str:
    """The user of a judgement. Raises ValueError where there is none: nobody's votes would all be one labeller's."""
    if who is None or who == "":
        raise ValueError(f"`{name}` does not say who judged")
    return str(who)


def _said(value: Any) -> str | None:
    """A text of a labeller, which Label Studio gives as a list of lines or as one text. Raises ValueError for anything else."""
    lines = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(line, str) for line in lines):
        raise ValueError(f"a text was expected, not {value!r}")
    return "\n".join(lines) or None


def _utc(when: Any) -> str | None:
    """A time as votes have it, in UTC; one without an offset is taken as UTC. Raises ValueError where it is no time."""
    if when is None:
        return None
    parsed = datetime.datetime.fromisoformat(str(when))
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=datetime.UTC)
    return parsed.astimezone(datetime.UTC).isoformat()


def _rows(value: Any, where: str) -> list[dict[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise UsageError("the file must be a list of records", where=where)
    return value


def _response(judged: Judgement, value: str | None) -> dict[str, str | None]:
    return {"value": value, "user_id": str(uuid.UUID(judged.who[:32]))}


def _result(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": "prompt", "type": kind, "value": value}
