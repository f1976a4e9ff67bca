"""What `release plan`, `check` and `publish` are asked for: their options, and the request that these make.

require_names(args)               # before anything is copied
run = run_to_release(args)        # of --run, or made of --checkpoint
request = as_request(args, run)
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from release.signing_options import sign_with
from training.command import log
from training.errors import UsageError

if TYPE_CHECKING:
    from release.request import Request
    from release.space_flavour import Asked, SpaceFlavour


def add_request_options(command: argparse.ArgumentParser, *, repo_required: bool) -> None:
    command.add_argument("--run", dest="run_directory", type=Path, metavar="DIR", help="runs/ID")
    command.add_argument("--repo", required=repo_required, default="owner/name", metavar="ORG/NAME")
    command.add_argument("--tag", default="v1.0.0", help="the release's name; never reused (default: v1.0.0)")
    command.add_argument(
        "--policy", metavar="NAME|FILE", help="which gates (default: default; external for what was trained elsewhere)"
    )
    command.add_argument(
        "--waive",
        action="append",
        default=[],
        metavar="GATE=REASON",
        help="accept a gate's refusal; it goes on the card",
    )
    command.add_argument("--private", action="store_true", help="the repository is and stays private")
    command.add_argument(
        "--gated",
        choices=("auto", "manual", "no"),
        help="who may read it: who agrees to the card's terms (auto), whom you let in (manual), anyone (no); default: as it is",
    )
    command.add_argument(
        "--space",
        nargs="?",
        const="",
        metavar="FLAVOUR|ORG/NAME",
        help="a chat Space too; FLAVOUR is cpu (llama.cpp on a published GGUF, else transformers), zerogpu, endpoint or tgi",
    )
    command.add_argument("--space-id", metavar="ORG/NAME", help="the Space's id (default: that of --repo and -chat)")
    command.add_argument("--space-url", metavar="URL", help="the server of the flavours endpoint and tgi")
    command.add_argument(
        "--space-hardware",
        metavar="NAME",
        help="what the model has to fit, and you choose on the Hub (default: cpu-basic)",
    )
    command.add_argument(
        "--space-precision",
        metavar="NAME",
        help="what answers: for cpu a published GGUF's, such as Q8_0 (default: the largest that fits); float32 or bfloat16",
    )


def add_checkpoint_options(command: argparse.ArgumentParser) -> None:
    """A checkpoint that was trained elsewhere, in place of a run."""
    command.add_argument(
        "--checkpoint",
        metavar="DIR|ID",
        help="a checkpoint from elsewhere: copied to --run (default: runs/NAME-TAG)",
    )
    command.add_argument(
        "--license",
        metavar="ID",
        help="the licence of the --checkpoint, or of what the --run was made from, where no card or record has it",
    )
    command.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="PATTERN",
        help="with --checkpoint: files beside the model that are not released, e.g. '*.log'",
    )


def require_names(args: argparse.Namespace) -> None:
    """Raises UsageError where the ids or the tag are not such."""
    from release.request import Request

    Request(args.repo, args.tag, space=_space_id(args)).check()


def run_to_release(args: argparse.Namespace) -> Path:
    """The run that --run names, or that is made of --checkpoint."""
    from release.elsewhere import name_licence, run_for

    if args.checkpoint is not None:
        if args.space and "/" not in args.space:  # told before the checkpoint is copied
            from release.space_flavour import check_asked

            check_asked(args.space, _asked(args))
        return run_for(args.checkpoint, args.run_directory, args.repo, args.tag, args.license, args.leave_out)
    if args.leave_out:
        raise UsageError("--leave-out is of a --checkpoint", next_step="remove the files from the run's checkpoint/")
    if args.run_directory is None:
        raise UsageError(
            "nothing to release is named",
            expected="--run runs/ID, or --checkpoint DIR for a checkpoint that was trained elsewhere",
        )
    run: Path = args.run_directory
    if args.license is not None:
        name_licence(run, args.license)
    return run


def as_request(args: argparse.Namespace, run: Path | None) -> Request:
    """The request. `run` is what a flavour of the Space has to fit; without one none can be asked for."""
    from release.elsewhere import POLICY
    from release.request import Request

    return Request(
        args.repo,
        args.tag,
        args.policy or (POLICY if getattr(args, "checkpoint", None) else "default"),
        args.private,
        _space_id(args),
        _flavour(args, run),
        sign=sign_with(args),
        gated=args.gated,
        waive=dict(_waiver(words) for words in args.waive),
    )


def _waiver(words: str) -> tuple[str, str]:
    gate, equals, reason = words.partition("=")
    if not equals:
        raise UsageError("a waiver needs a reason", expected="--waive GATE=REASON", found=words)
    return gate.strip(), reason.strip()


def _space_id(args: argparse.Namespace) -> str | None:
    """The Space's id; None where no Space was asked for."""
    options = ("space_id", "space_url", "space_hardware", "space_precision")
    beside = [f"--{name.replace('_', '-')}" for name in options if getattr(args, name)]
    if args.space is None:
        if beside:
            raise UsageError(f"{beside[0]} without --space", next_step="give --space FLAVOUR too")
        return None
    named = args.space if "/" in args.space else None
    return str(args.space_id or named or f"{args.repo}-chat")


def _asked(args: argparse.Namespace) -> Asked:
    from release.space_flavour import Asked

    return Asked(args.space_url, args.space_hardware, args.space_precision)


def _flavour(args: argparse.Namespace, run: Path | None) -> SpaceFlavour | None:
    """The flavour that --space names; None where it names none."""
    from release.space_flavour import choose_flavour

    if not args.space or "/" in args.space:
        if args.space_precision:
            raise UsageError("--space-precision is of a flavour", next_step="give --space cpu, or --space zerogpu")
        return None
    if run is None:
        raise UsageError("a flavour of the Space is chosen for a run", next_step="leave --space out, or give --run")
    flavour = choose_flavour(args.space, run, _asked(args))
    if flavour.memory:
        log(f"Space: {flavour.backend} in {flavour.precision}: {flavour.memory}")
    return flavour
