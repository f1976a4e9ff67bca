"""`python -m release verify`: hold what stands on a Hub against its promise, a release or the GGUF files of one.

python -m release verify org/name@v1.0.0 --key slipway.pub --rescore 8
python -m release verify org/name-GGUF --remeasure
"""

from __future__ import annotations

import argparse
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from release.signing_options import add_trust_options, must_have_signed
from training.command import Parser, Result, log, quiet_libraries
from training.errors import UsageError

if TYPE_CHECKING:
    from release.hub_client import HubClient
    from release.rescoring import Rescoring

_DESCRIPTION = """Download a release, hash it, load it, compare it with its promise.

Of a repository of GGUF files: hash them, and hold the figures of the card against the samples that stand there. With
--remeasure llama.cpp runs each file again beside the released model that it is of."""


def add_verify_command(parser: Parser) -> None:
    """Add `verify` to `python -m release`. Imports nothing heavy."""
    verify = parser.command("verify", "Download a release, hash it, load it, compare it with its promise.", run_verify)
    verify.description = _DESCRIPTION
    verify.add_argument("target", metavar="ORG/NAME[@REVISION]", help="default revision: the receipt's tag, else main")
    promise = verify.add_mutually_exclusive_group()
    promise.add_argument("--receipt", type=Path, metavar="FILE", help="hold it against this receipt")
    promise.add_argument(
        "--run", dest="run_directory", type=Path, metavar="DIR", help="hold it against DIR/receipt.json"
    )
    add_trust_options(verify)
    verify.add_argument("--rescore", type=int, metavar="N", help="compute the scores of N items of each task again")
    verify.add_argument("--seed", type=int, help="which items --rescore draws (default: others each time, and said)")
    verify.add_argument(
        "--suite", metavar="FILE", help="with --rescore or --remeasure: the suite, if none of Slipway's own"
    )
    verify.add_argument("--remeasure", action="store_true", help="of GGUF files: what each loses, measured again")
    verify.add_argument("--out", type=Path, metavar="FILE", help="write every finding there as JSON")


def run_verify(args: argparse.Namespace) -> Result:
    """`verify`: exit 4 naming what does not agree."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # the bars of libraries that re-score
    from release.exports.verify import is_export
    from release.hub_client import HubClient
    from release.records import Receipt
    from release.rescoring import require_rescored
    from release.verification_summary import summary
    from release.verify import parse_target, require_true, verify

    quiet_libraries()
    rescoring = _rescoring(args)
    trust = must_have_signed(args)
    repo_id, revision = parse_target(args.target)
    path = args.receipt or (args.run_directory / "receipt.json" if args.run_directory else None)
    hub = HubClient.connect()
    if trust is None and args.run_directory is None and is_export(hub, repo_id, revision):
        return _verify_export(hub, repo_id, revision, args)
    if args.remeasure:
        raise UsageError(
            "--remeasure is for a repository of GGUF files",
            found=f"{repo_id} is none",
            next_step="of a release: --rescore N",
        )
    verification = verify(hub, repo_id, revision, Receipt.read(path) if path else None, trust, rescoring)
    if args.out:
        verification.write(args.out)
    require_true(verification, hub.endpoint)
    if rescoring is not None:
        require_rescored(verification, hub.endpoint)
    against = f"the receipt {path}" if path else "the plan.json in the repository itself"
    return {"summary": summary(verification, against), **verification.model_dump(mode="json")}


def _verify_export(hub: HubClient, repo_id: str, revision: str | None, args: argparse.Namespace) -> Result:
    """The same of GGUF files."""
    from release.exports.record import EXPORT, ExportReceipt
    from release.exports.verify import summary, verify_export
    from release.verify import require_true

    if args.rescore is not None:
        raise UsageError(
            "--rescore is for a release",
            found=f"{repo_id} holds GGUF files",
            next_step="of GGUF files: --remeasure; the difference of their scores is held against its samples in any case",
        )
    receipt = ExportReceipt.read(args.receipt) if args.receipt else None
    verification = verify_export(hub, repo_id, revision, receipt, remeasure=args.remeasure, suite=args.suite)
    if args.out:
        verification.write(args.out)
    require_true(verification, hub.endpoint, "do not use this revision; its owner can export it again with --repo")
    against = f"the receipt {args.receipt}" if args.receipt else f"its commit's message and {EXPORT}"
    return {"summary": summary(verification, against), **verification.model_dump(mode="json")}


def _rescoring(args: argparse.Namespace) -> Rescoring | None:
    """What --rescore, --seed and --suite ask for. Raises UsageError where they do not go together."""
    from release.rescoring import Rescoring

    if args.rescore is not None and args.rescore < 1:
        raise UsageError("--rescore needs at least one item of each task", found=str(args.rescore))
    for option in ("suite", "seed"):
        read = args.rescore is not None or (option == "suite" and args.remeasure)
        if getattr(args, option) is not None and not read:
            raise UsageError(
                f"--{option} is what --rescore reads", next_step=f"give --rescore N too, or leave --{option} out"
            )
    if args.rescore is None:
        return None
    seed = secrets.randbelow(2**31) if args.seed is None else args.seed  # nobody can know beforehand what is looked at
    log(f"re-scoring {args.rescore} items of each task, drawn by --seed {seed}")
    return Rescoring(args.rescore, seed, args.suite)
