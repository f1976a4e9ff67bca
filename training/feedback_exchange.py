"""`python -m training feedback-exchange`: pairs and votes to and from the files of Argilla 2 and Label Studio.

    python -m training feedback-exchange export runs/pairs/pairs.jsonl --format argilla --out records.json
    python -m training feedback-exchange import records.json --format argilla --consent firm-2026 --salt SECRET --out votes.jsonl

Argilla's file is that of `dataset.records.to_json`, Label Studio's its JSON export. An exported record has its sides: A stands in
`answer_a`. What made the answers, and the votes that there were already, travel as one text in `slipway`, out of the labellers'
sight: an exported vote comes back as itself, not as another one by somebody else.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from training.command import Result
from training.counted import counted
from training.errors import UsageError
from training.exchange_formats import LABEL_CONFIG, from_argilla, from_label_studio, to_argilla, to_label_studio
from training.exchange_records import Circumstances, read_slipway, to_votes
from training.records import canonical_json, write_atomically
from training.run_record import now

FORMATS = ("argilla", "label-studio")


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
        raise UsageError("there is no such file", where=str(args.file), next_step="name a file; --help says of what")
    if args.action == "export":
        shown = read_slipway(args.file, args.seed)
        if not shown:
            raise UsageError(
                "there is nothing to export",
                where=str(args.file),
                expected="pairs or votes, one a line",
                found="an empty file",
                next_step="make pairs (python -m training feedback-pairs), or name a file of votes",
            )
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
            "summary": f"{' and '.join(files)}: {counted(len(shown), 'record')} with {counted(votes, 'vote')}",
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
        raise UsageError(
            "no record of this file was judged",
            where=str(args.file),
            expected="answers to the question `preference`",
            found=f"{counted(len(value), 'record')} without one",
            next_step="export the file again once there are judgements",
        )
    lines = "".join(json.dumps(vote.model_dump(mode="json"), ensure_ascii=False) + "\n" for vote in votes_read)
    write_atomically(args.out, lines.encode())
    return {
        "votes": len(votes_read),
        "files": [str(args.out)],
        "summary": f"{args.out}: {counted(len(votes_read), 'vote')}",
    }
