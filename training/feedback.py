"""`python -m training feedback`: from votes to a report, preference and KTO data with a held-out split, and a record of it.

    python -m training feedback org/name-votes@main --out runs/feedback
    python -m training feedback runs/votes/*.jsonl --out runs/feedback
    python -m training feedback org/name-votes --forget LABELLER_HASH --runs runs
    python -m training reward --recipe reward-starter --out runs/reward \\
        data.source=runs/feedback/preferences data.heldout_split=test

Writes report.md, report.json, exclusions.jsonl, preferences/{train,test}.jsonl, kto/{train,test}.jsonl and, last, feedback.json,
which names every input and output by its hash.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.command import Result, seed
from training.counted import counted
from training.errors import UsageError
from training.feedback_record import RECORD, FeedbackRecord, InputFile, Labeller, OutputFile
from training.feedback_report import Report, analyse, markdown, who_voted
from training.records import write_atomically
from training.vote_checks import Exclusion, Rules, by_labeller, screen
from training.vote_preferences import held_out_prompts, marked_rows, preference_rows, split_by_prompt
from training.votes import VotesRead, read_votes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `python -m training feedback`."""
    rules = Rules()
    parser.add_argument("votes", nargs="+", help="dataset repositories org/name[@revision], .jsonl files or folders")
    parser.add_argument("--out", type=Path, help="where report, data and record are written")
    parser.add_argument("--cap", type=int, default=rules.cap, help="votes of one labeller that count (%(default)s)")
    parser.add_argument(
        "--gold-accuracy",
        type=float,
        default=rules.gold_accuracy,
        help="the least share of gold items that a labeller must answer as known (%(default)s)",
    )
    parser.add_argument(
        "--min-seconds",
        type=float,
        default=rules.min_seconds,
        help="a person's vote that took less does not count (%(default)s)",
    )
    parser.add_argument(
        "--heldout-fraction", type=float, default=0.2, help="of the prompts, for test.jsonl (%(default)s)"
    )
    parser.add_argument("--seed", type=seed, default=0, help="of the split and the intervals")
    parser.add_argument(
        "--forget", metavar="LABELLER_HASH", help="a deletion request: take this labeller's votes out, instead of --out"
    )
    parser.add_argument(
        "--runs",
        type=Path,
        action="append",
        default=[],
        metavar="DIR",
        help="with --forget: name what was trained on them under DIR",
    )


def run_feedback(args: argparse.Namespace) -> Result:
    """`python -m training feedback`."""
    if args.forget is not None:
        return _forget(args)
    if args.out is None:
        raise UsageError("say where the report goes", expected="--out DIR")
    if not 0 <= args.heldout_fraction < 1:
        raise UsageError("--heldout-fraction must be at least 0 and below 1", found=str(args.heldout_fraction))
    if args.cap < 1 or not 0 <= args.gold_accuracy <= 1 or args.min_seconds < 0:
        raise UsageError(
            "a rule is out of its bounds",
            expected="--cap from 1, --gold-accuracy from 0 to 1, --min-seconds from 0",
            found=f"--cap {args.cap} --gold-accuracy {args.gold_accuracy:g} --min-seconds {args.min_seconds:g}",
        )
    rules = Rules(cap=args.cap, gold_accuracy=args.gold_accuracy, min_seconds=args.min_seconds)
    record = write_feedback(read_votes(args.votes), args.out, rules, args.heldout_fraction, args.seed)
    return {**record.model_dump(mode="json"), "out": str(args.out), "summary": summary(record, args.out)}


def _forget(args: argparse.Namespace) -> Result:
    """`--forget`: the deletion, and everything downstream of it."""
    from training.feedback_forget import NOT_READ, downstream, forget_in_dataset, forget_in_folder

    if args.out is not None:
        raise UsageError("--forget takes votes out and writes no report", next_step="leave --out away, then run again")
    if not re.fullmatch(r"[0-9a-f]{64}", args.forget):
        raise UsageError("this is no labeller's hash", expected="64 hexadecimal digits", found=args.forget)
    for source in args.votes:
        if Path(source).expanduser().is_file():
            raise UsageError("a deletion needs the folder, for its list of forgotten labellers", where=source)
    # Before anything is deleted: what would stop the search must not stop it half-way.
    found = downstream(args.runs, args.forget)
    used = [one for one in found if one.what != NOT_READ]
    unread = [one for one in found if one.what == NOT_READ]
    removed: dict[str, int] = {}
    commits: dict[str, str] = {}
    for source in args.votes:
        path = Path(source).expanduser()
        if path.is_dir():
            removed[source] = forget_in_folder(path, args.forget)
        else:
            removed[source], commits[source] = forget_in_dataset(source, args.forget)
    none = ": no vote by this labeller is there; they are on its list now, so that none will count"
    told = {source: f": {counted(count, 'vote')} removed" if count else none for source, count in removed.items()}
    lines = [f"{source}{what}" for source, what in told.items()]
    lines += [f"  in commit {commit}; earlier revisions still hold them" for commit in commits.values()]
    lines += [f"  used by {one.path}: {one.what}, {one.digest}, {one.how}" for one in used]
    lines += [f"  not looked into: {one.path}: {one.how}" for one in unread]
    if args.runs and not used:
        lines.append("  nothing under " + ", ".join(map(str, args.runs)) + " was made from them")
    if not args.runs:
        lines.append("  what was trained on them was not looked for: --runs DIR names it")
    result = {"labeller": args.forget, "removed": removed, "commits": commits, "used_by": [vars(one) for one in used]}
    result["not_read"] = [{"path": one.path, "why": one.how} for one in unread]
    return {**result, "summary": "\n".join(lines)}


def write_feedback(read: VotesRead, out: Path, rules: Rules, heldout_fraction: float, seed: int) -> FeedbackRecord:
    """Analyse and write; where `out` holds the same already, nothing is done.

    Where no pair of answers is decided there are a report and perhaps rows for KTO. Raises UsageError where `out` holds another
    analysis, or where no vote counts.
    """
    votes, exclusions = screen(read.votes, read.forgotten, rules)
    exclusions += [Exclusion(where, "", "line cut off by a kill") for where in read.torn]
    (rows, undecided), marked = preference_rows(votes), marked_rows(votes)
    if not votes:
        raise UsageError(
            "no vote counts, so there is nothing to report",
            where=", ".join(file.name for file in read.files)[:300],
            found=f"{counted(len(read.votes), 'vote')} read"
            + "".join(f"\n            {count} {why}" for why, count in _reasons(exclusions).items()),
            next_step="collect more votes, or change the rules (see --help)",
        )
    held = held_out_prompts(rows or marked, heldout_fraction, seed)
    report = analyse(votes, exclusions, seed)
    contents: dict[str, tuple[bytes, int | None]] = {
        "report.json": (report.to_json(), None),
        "report.md": (markdown(report, [file.name for file in read.files]).encode(), None),
        "exclusions.jsonl": _lines([vars(exclusion) for exclusion in exclusions]),
    }
    for folder, found in (("preferences", rows), ("kto", marked)):
        train, test = split_by_prompt(found, held)
        # A file without rows is none: readers of a folder refuse an empty one.
        contents |= {
            f"{folder}/{name}.jsonl": _lines(part) for name, part in (("train", train), ("test", test)) if part
        }
    record = _record(read, report, contents, rules=rules, heldout_fraction=heldout_fraction, seed=seed)
    record = record.model_copy(
        update={
            "pairs_undecided": undecided,
            "labellers": {
                name: Labeller(kind=own[0].labeller_kind, votes=len(own)) for name, own in by_labeller(votes).items()
            },
        }
    )
    if (out / RECORD).is_file():
        return _same(FeedbackRecord.read(out / RECORD), record, out)
    for path, (content, _) in contents.items():
        write_atomically(out / path, content)
    record.write(out / RECORD)
    return record


def _record(
    read: VotesRead, report: Report, contents: dict[str, tuple[bytes, int | None]], **settings: Any
) -> FeedbackRecord:
    return FeedbackRecord(
        inputs=[InputFile(**vars(file)) for file in read.files],
        forgotten=len(read.forgotten),
        votes_read=len(read.votes),
        votes=report.votes,
        gold_votes=report.gold_votes,
        why_excluded=report.why_excluded,
        labellers={},
        alpha=report.nominal.alpha,
        alpha_low=report.nominal.low,
        alpha_high=report.nominal.high,
        pairs=report.pairs,
        pairs_undecided={},
        outputs=[
            OutputFile(path=path, sha256=hashlib.sha256(content).hexdigest(), rows=rows)
            for path, (content, rows) in sorted(contents.items())
        ],
        **settings,
    )


def _same(there: FeedbackRecord, wanted: FeedbackRecord, out: Path) -> FeedbackRecord:
    if there == wanted:
        return there
    before, after = there.model_dump(mode="json"), wanted.model_dump(mode="json")
    raise UsageError(
        "this folder holds another analysis",
        where=str(out),
        found="different " + ", ".join(key for key in before if before[key] != after[key]),
        next_step="choose another --out; keep this one, by which a deletion request finds what learned from its votes",
    )


def summary(record: FeedbackRecord, out: Path) -> str:
    """The record for a terminal."""
    rows = {file.path: file.rows for file in record.outputs}
    alpha = "not defined, the report says why" if record.alpha is None else f"{record.alpha:.3f}"
    interval = "" if record.alpha_low is None else f" ({record.alpha_low:.3f} to {record.alpha_high:.3f})"
    excluded = sum(record.why_excluded.values())
    lines = [
        f"{out / 'report.md'}",
        f"  votes        {record.votes} on {counted(record.pairs, 'pair')}, {record.gold_votes} on gold items, {excluded} excluded",
        f"  labellers    {who_voted(record.people, record.scripts)}",
        f"  alpha        {alpha}{interval}",
        f"  preferences  {rows.get('preferences/train.jsonl', 0)} to train on, {rows.get('preferences/test.jsonl', 0)} held out",
        f"  kto          {rows.get('kto/train.jsonl', 0)} to train on, {rows.get('kto/test.jsonl', 0)} held out",
        *(f"  excluded     {count}: {reason}" for reason, count in record.why_excluded.items()),
        f"next: {_next(rows, out)}",
    ]
    return "\n".join(lines)


def _next(rows: Mapping[str, int | None], out: Path) -> str:
    """What can be learned from what there is."""
    for folder, method in (("preferences", "reward"), ("kto", "kto")):
        if rows.get(f"{folder}/train.jsonl"):
            held = "data.heldout_split=test" if rows.get(f"{folder}/test.jsonl") else "data.heldout_fraction=0"
            words = f"--recipe {method}-starter --out runs/{method} data.source={out / folder} {held}"
            return f"python -m training {method} {words}"
    return "collect more votes, or change the rules (see --help); no pair of answers is decided"


def _reasons(exclusions: Sequence[Exclusion]) -> dict[str, int]:
    return dict(sorted(Counter(exclusion.reason for exclusion in exclusions).items()))


def _lines(rows: Sequence[dict[str, Any]]) -> tuple[bytes, int]:
    return "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows).encode(), len(rows)
