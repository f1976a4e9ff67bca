"""`python -m training feedback-thumbs`: from the thumbs of a chat Space to data for `training kto`, with a record of it.

    python -m training feedback-thumbs org/name-thumbs@main --out runs/thumbs
    python -m training kto --recipe kto-starter --out runs/kto data.source=runs/thumbs/kto data.heldout_split=test

A thumb is one JSON object a line, as spaces/chat/thumbs.py writes it. Of several thumbs of one visit on one answer the last counts,
and none where it was taken back. Writes kto/{train,test}.jsonl and, last, feedback.json, so that what is trained on it names it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from training.command import Result, seed
from training.errors import UsageError
from training.feedback_record import RECORD, FeedbackRecord, InputFile, Labeller, OutputFile
from training.records import Record, write_atomically
from training.vote_checks import Rules
from training.vote_preferences import held_out_prompts, prompt_key, split_by_prompt
from training.votes import LabellerHash, Maker, Sampling, Turn, VoteFile, VotesRead, files_of_votes


class Thumb(Record):
    """One visitor's judgement of one answer."""

    schema_version: Literal[1] = 1
    vote_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
    prompt: Annotated[list[Turn], Field(min_length=1)]
    completion: Annotated[list[Turn], Field(min_length=1, max_length=1)]
    label: bool | None  # None: taken back
    maker: Maker
    sampling: Sampling
    seed: int | None
    runtime: str | None
    seconds: float | None
    labeller: LabellerHash  # of one visit
    labeller_kind: Literal["person", "script"]
    consent: str | None
    voted_at: str


@dataclass
class ThumbsRead:
    """Thumbs in the order of their files, and what was read of them."""

    thumbs: list[Thumb]
    read: VotesRead  # files, torn lines and forgotten labellers; no votes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m training feedback-thumbs`."""
    parser.add_argument("thumbs", nargs="+", help="dataset repositories org/name[@revision], .jsonl files or folders")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where data and record are written")
    parser.add_argument("--cap", type=int, default=Rules().cap, help="thumbs of one visit that count (%(default)s)")
    parser.add_argument("--heldout-fraction", type=float, default=0.2, help="of the prompts (%(default)s)")
    parser.add_argument("--seed", type=seed, default=0, help="of the split")


def run_feedback_thumbs(args: argparse.Namespace) -> Result:
    """`python -m training feedback-thumbs`; where `--out` holds the same already, it is written again, to the same bytes."""
    if not 0 <= args.heldout_fraction < 1 or args.cap < 1:
        raise UsageError(
            "a number is out of its bounds", expected="--heldout-fraction from 0 and below 1, --cap from 1"
        )
    found = read_thumbs(args.thumbs)
    counted, excluded = counting(found.thumbs, found.read.forgotten, args.cap)
    if not counted:
        raise UsageError(
            "no thumb counts, so there is nothing to learn",
            where=", ".join(args.thumbs),
            found=f"{len(found.thumbs)} read; {json.dumps(excluded)}",
        )
    rows = [_row(thumb) for thumb in counted]
    train, test = split_by_prompt(rows, held_out_prompts(rows, args.heldout_fraction, args.seed))
    contents = {f"kto/{name}.jsonl": part for name, part in (("train", train), ("test", test)) if part}
    outputs = []
    for path, part in contents.items():
        content = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in part).encode()
        write_atomically(args.out / path, content)
        outputs.append(OutputFile(path=path, sha256=hashlib.sha256(content).hexdigest(), rows=len(part)))
    record = _record(found, counted, excluded, outputs, args)
    record.write(args.out / RECORD)
    good = sum(row["label"] for row in rows)
    summary = (
        f"{args.out}: {good} thumbs up and {len(rows) - good} down by {len(record.labellers)} visits, "
        f"{len(train)} to train on, {len(test)} held out, {sum(excluded.values())} excluded\n"
        f"next: python -m training kto --recipe kto-starter --out runs/kto data.source={args.out}/kto data.heldout_split=test"
    )
    return {**record.model_dump(mode="json"), "out": str(args.out), "summary": summary}


def read_thumbs(sources: Sequence[str]) -> ThumbsRead:
    """Read files, folders and dataset repositories. Raises UsageError naming file, line and field, HubError."""
    found = ThumbsRead([], VotesRead())
    for file, name, repo_id, revision in files_of_votes(sources, found.read):
        content = file.read_bytes()
        lines = content.split(b"\n")
        before = len(found.thumbs)
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                found.thumbs.append(Thumb.model_validate_json(line))
            except ValidationError as error:
                first = error.errors()[0]
                if number == len(lines) and first["type"] == "json_invalid":  # a kill cut it off
                    found.read.torn.append(f"{name}, line {number}")
                    continue
                raise UsageError(
                    "this line is not a thumb",
                    where=f"{file}, line {number}, field {'.'.join(map(str, first['loc'])) or '(line)'}",
                    expected=first["msg"],
                    found=repr(first.get("input"))[:120],
                ) from error
        rows = len(found.thumbs) - before
        found.read.files.append(VoteFile(name, hashlib.sha256(content).hexdigest(), rows, repo_id, revision))
    return found


def counting(thumbs: Sequence[Thumb], forgotten: set[str], cap: int) -> tuple[list[Thumb], dict[str, int]]:
    """The thumbs that count, in the order in which they were given, and how many do not, by reason."""
    excluded: Counter[str] = Counter()
    latest: dict[tuple[str, str, str], Thumb] = {}
    ids: set[str] = set()
    for thumb in sorted(thumbs, key=lambda thumb: thumb.voted_at):
        if thumb.labeller in forgotten:
            excluded["the labeller asked to be forgotten"] += 1
        elif thumb.consent is None:
            excluded["no consent"] += 1
        elif thumb.vote_id in ids:
            excluded["a repeat of its id"] += 1
        else:
            ids.add(thumb.vote_id)
            key = (
                thumb.labeller,
                prompt_key({"prompt": [turn.model_dump() for turn in thumb.prompt]}),
                thumb.completion[0].content,
            )
            excluded["changed by a later one"] += key in latest
            latest.pop(key, None)
            latest[key] = thumb
    counted: list[Thumb] = []
    of_visit: Counter[str] = Counter()
    for thumb in latest.values():
        if thumb.label is None:
            excluded["taken back"] += 1
        elif of_visit[thumb.labeller] >= cap:
            excluded["beyond the cap of one visit"] += 1
        else:
            of_visit[thumb.labeller] += 1
            counted.append(thumb)
    return counted, {reason: count for reason, count in sorted(excluded.items()) if count}


def _row(thumb: Thumb) -> dict[str, Any]:
    return {
        "prompt": [turn.model_dump() for turn in thumb.prompt],
        "completion": [turn.model_dump() for turn in thumb.completion],
        "label": thumb.label,
    }


def _record(
    found: ThumbsRead,
    counted: list[Thumb],
    excluded: dict[str, int],
    outputs: list[OutputFile],
    args: argparse.Namespace,
) -> FeedbackRecord:
    by_visit = Counter((thumb.labeller, thumb.labeller_kind) for thumb in counted)
    return FeedbackRecord(
        inputs=[InputFile(**vars(file)) for file in found.read.files],
        forgotten=len(found.read.forgotten),
        rules=Rules(cap=args.cap),
        heldout_fraction=args.heldout_fraction,
        seed=args.seed,
        votes_read=len(found.thumbs),
        votes=len(counted),
        gold_votes=0,
        why_excluded=excluded | ({"line cut off by a kill": len(found.read.torn)} if found.read.torn else {}),
        labellers={name: Labeller(kind=kind, votes=votes) for (name, kind), votes in sorted(by_visit.items())},
        # Each visit rates answers of its own, so there is nothing to agree on.
        alpha=None,
        alpha_low=None,
        alpha_high=None,
        pairs=0,
        pairs_undecided={},
        outputs=outputs,
    )
