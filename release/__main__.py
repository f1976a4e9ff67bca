"""`python -m release`: plan, publish, verify, roll back; and the embedded Hub to do it on.

    python -m release hub --root .slipway/hub --port 8484
    python -m release check   runs/a | CHECKPOINT | org/name[@revision]
    python -m release plan    --run runs/a --repo org/name --tag v1.0.0
    python -m release publish --run runs/a --repo org/name --tag v1.0.0 [--sign KEY [--sign-cert CERT] | --keyless] [--private]
                              [--space FLAVOUR [--no-boot REASON]] [--replace-files] [--dry-run]
    python -m release last-release --run runs/a --repo org/name
    python -m release resume  --run runs/a [--no-boot REASON] [--replace-files]
    python -m release verify  org/name@v1.0.0 [--key slipway.pub | --cert-root root.pem | --identity NAME --identity-provider URL]
                              [--receipt runs/a/receipt.json] [--rescore N]
    python -m release verify  org/name-GGUF [--remeasure]
    python -m release rollback --run runs/a
    python -m release keygen  --out slipway.key
    python -m release export  --run runs/a --gguf F16 Q8_0 [--repo org/name-GGUF]
    python -m release family  org/name --title "Name and what runs it"
    python -m release supersede org/old --by org/new
    python -m release leaderboard-space --repo org/leaderboard --author org
    python -m release demo    --out runs/demo
    python -m release feedback-space --pairs runs/pairs/pairs.jsonl --space org/feedback --votes org/feedback-votes

HF_ENDPOINT chooses the Hub, HF_TOKEN (or the token file of `hf auth login`) says who publishes.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from release.demo import add_demo_command
from release.exports.command import add_export_command
from release.family import add_family_commands
from release.feedback_bundle import add_feedback_command
from release.hub_command import add_hub_command
from release.last_release import add_last_release_command
from release.leaderboard_space import add_leaderboard_command
from release.request_options import (
    add_checkpoint_options,
    add_request_options,
    as_request,
    require_names,
    run_to_release,
)
from release.signing_options import add_keygen_command, add_signing_options
from release.verify_command import add_verify_command
from training.command import Parser, Result, log, quiet_libraries
from training.counted import counted
from training.errors import EXIT_GATE, GateRefused, UsageError

if TYPE_CHECKING:
    from release.hub_client import HubClient
    from release.records import ReleasePlan, Verdict
    from release.request import Request


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    parser = Parser("python -m release", "Plan, gate, publish and verify the release of a checkpoint.")
    plan = parser.command("plan", "Build the bundle, ask the gates, write plan.json; needs no network.", run_plan)
    publish = parser.command("publish", "Publish a run: plan, stage, check, promote, tag; safe to repeat.", run_publish)
    for command in (plan, publish):
        add_request_options(command, repo_required=True)
        add_checkpoint_options(command)
        add_signing_options(command)
    publish.add_argument("--dry-run", action="store_true", help="plan only; send nothing to the Hub")
    resume = parser.command("resume", "Continue a publication that was interrupted.", run_resume)
    resume.add_argument("--run", dest="run_directory", type=Path, required=True, metavar="DIR")
    for command in (publish, resume):
        command.add_argument(
            "--no-boot",
            metavar="REASON",
            help="show the Space without having run and asked it; the reason goes into receipt.json",
        )
        command.add_argument(
            "--replace-files",
            action="store_true",
            help="replace and remove the files on main that no release of Slipway put there (without it they are named, and "
            "nothing is sent)",
        )
    add_verify_command(parser)
    rollback = parser.command("rollback", "Return main to an earlier release, in one commit.", run_rollback)
    which = rollback.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "--run",
        dest="run_directory",
        type=Path,
        metavar="DIR",
        help="undo what this run published, however far it came",
    )
    which.add_argument("--repo", metavar="ORG/NAME", help="the repository, together with --to")
    rollback.add_argument("--to", metavar="TAG", help="the release to return to (default: the one before)")
    rollback.add_argument(
        "--keep-private", action="store_true", help="with --to: do not show again what is private now"
    )
    add_keygen_command(parser)
    check = parser.command(
        "check", "Ask the gates about a run, or about anyone's checkpoint; writes nothing.", run_check
    )
    check.add_argument("target", nargs="?", metavar="RUN|CHECKPOINT|ORG/NAME[@REVISION]", help="instead of --run")
    add_request_options(check, repo_required=False)
    check.set_defaults(policy=None)
    add_hub_command(parser)
    add_demo_command(parser)
    add_last_release_command(parser)
    add_export_command(parser)
    add_family_commands(parser)
    add_leaderboard_command(parser)
    add_feedback_command(parser)
    return parser.run(argv)


def run_plan(args: argparse.Namespace) -> Result:
    """`plan`: exit 3 where a gate refused."""
    from release.plan import make_plan
    from release.readers import require_choice

    quiet_libraries()
    require_names(args)
    run = run_to_release(args)
    request = as_request(args, run)
    require_choice(run, request, None)
    return _planned(make_plan(run, request), run, request)


def run_check(args: argparse.Namespace) -> Result:
    """`check`: the gates without a plan; of a run by the default policy, of anyone's checkpoint by `external`."""
    from release.base_licences import ask
    from release.downloaded import fresh_download
    from release.elsewhere import require_whole
    from release.hub_client import HubClient
    from release.plan import check_files, check_run
    from release.verify import parse_target

    if (args.target is None) == (args.run_directory is None):
        raise UsageError(
            "check takes one thing to look at", next_step="python -m release check RUN|CHECKPOINT|ORG/NAME"
        )
    quiet_libraries()
    place = args.run_directory or Path(args.target)
    is_run = args.run_directory is not None or (place / "checkpoint").is_dir()
    args.policy = args.policy or ("default" if is_run else "external")
    subject = f"{place} under policy {args.policy}"
    if is_run:
        return _judged(check_run(place, as_request(args, place)), subject, checked_only=True)
    if place.is_dir():
        require_whole(place)
        return _judged(check_files(place, as_request(args, None)), subject, checked_only=True)
    args.repo, revision = parse_target(args.target)
    hub = HubClient.connect()
    with fresh_download(hub, args.repo, hub.resolve(args.repo, revision or "main")) as snapshot:
        lineage = ask(hub, snapshot / "README.md")
        return _judged(check_files(snapshot, as_request(args, None), lineage), subject, checked_only=True)


def run_publish(args: argparse.Namespace) -> Result:
    """`publish`: plans where no plan stands for this request, then publishes it."""
    from release.hub_client import HubClient
    from release.plan import plan_for
    from release.policy_told import standing_policy
    from release.readers import require_choice, warning

    quiet_libraries()
    require_names(args)
    run = run_to_release(args)
    if args.policy is None and (standing := standing_policy(run)) is not None:
        args.policy = standing
        log(f"by the policy of the plan that stands ({standing})")
    request = as_request(args, run)
    hub = None if args.dry_run else HubClient.connect()
    require_choice(run, request, hub)
    if hub is not None and (run / "checkpoint").is_dir():
        _look(hub, run, request)
    plan = plan_for(run, request)
    if args.dry_run or plan.refused:
        return _planned(plan, run, request)
    if (told := warning(plan, run / "bundle" / "README.md")) is not None:
        log(told)
    return _publish(run, args)


def _look(hub: HubClient, run: Path, request: Request) -> None:
    """What a plan has to know of the Hub, before one is made: the last release, and the licences of the bases."""
    from release import base_licences, last_release

    if not (run / "journal.jsonl").is_file() and base_licences.look(hub, run):
        (run / "plan.json").unlink(missing_ok=True)  # it says that they are not known
    last_release.look(hub, run, request)


def run_resume(args: argparse.Namespace) -> Result:
    """`resume`: the same as the publish command that was interrupted."""
    run: Path = args.run_directory
    if not (run / "journal.jsonl").is_file():
        raise UsageError(
            "no publication of this run has begun",
            where=str(run),
            next_step=f"python -m release publish --run {run} --repo OWNER/NAME",
        )
    quiet_libraries()
    return _publish(run, args)


def run_rollback(args: argparse.Namespace) -> Result:
    """`rollback`: to --to, or to what stood before the run was published."""
    from dataclasses import asdict

    from release.exports.publish import exports_left
    from release.hub_client import HubClient
    from release.publication_summary import rolled_back
    from release.rollback import roll_back, roll_back_run

    if args.repo and not args.to:
        raise UsageError("--repo needs --to TAG", next_step=f"python -m release rollback --repo {args.repo} --to TAG")
    if args.keep_private and not args.to:
        raise UsageError("--keep-private without --to", next_step="leave it out: without --to nothing is shown again")
    if args.run_directory is not None and not args.run_directory.is_dir():
        raise UsageError(
            "there is no such run", where=str(args.run_directory), next_step="give the --run that was published"
        )
    quiet_libraries()
    hub = HubClient.connect()
    how = {"to": args.to, "keep_private": args.keep_private}
    done = roll_back(hub, args.repo, **how) if args.repo else roll_back_run(hub, args.run_directory, **how)
    left = exports_left(hub, args.run_directory / "gguf") if args.run_directory else []
    return {"summary": "\n".join([*rolled_back(done), *left]), **asdict(done)}


def _publish(run: Path, args: argparse.Namespace) -> Result:
    from release.hub_client import HubClient
    from release.plan import read_plan
    from release.publication_summary import released
    from release.publish import publish
    from release.signed_before import signed_before

    hub, plan = HubClient.connect(), read_plan(run)
    if plan.endpoint == hub.endpoint and (told := signed_before(hub, plan)) is not None:
        log(f"warning: {told}")
    receipt, already = publish(run, hub, no_boot=args.no_boot, replace_files=args.replace_files)
    return {
        "summary": released(receipt, plan, already),
        "already_released": already,
        **receipt.model_dump(mode="json"),
    }


def _planned(plan: ReleasePlan, run: Path, request: Request) -> Result:
    from release.publication_summary import space_options
    from release.readers import warning

    size = sum(entry.size for entry in plan.files)
    subject = (
        f"{plan.repo_id} {plan.tag}: {counted(len(plan.files), 'file')}, {size / 1e6:,.1f} MB, {plan.checkpoint_digest}"
    )
    result = _judged(plan.verdicts, subject)
    if (told := warning(plan, run / "bundle" / "README.md")) is not None:
        result["summary"] += f"\n  {told}"
    if not plan.refused:
        private = (" --private" if plan.private else "") + (f" --gated {plan.gated}" if plan.gated else "")
        policy = "" if request.policy == "default" else f" --policy {shlex.quote(request.policy)}"
        waived = "".join(f" --waive {shlex.quote(f'{gate}={reason}')}" for gate, reason in plan.waivers.items())
        command = (
            f"publish --run {run} --repo {plan.repo_id} --tag {plan.tag}{policy}{private}{space_options(plan)}{waived}"
        )
        result["summary"] += f"\n  next: python -m release {command}"
    return {**result, "plan": plan.model_dump(mode="json")}


def _judged(verdicts: list[Verdict], subject: str, *, checked_only: bool = False) -> Result:
    """The verdicts as a result; the exit code of a refusal where there is one."""
    from release.plan import describe, refusal

    result: Result = {
        "summary": f"{subject}\n{describe(verdicts)}",
        "verdicts": [verdict.model_dump(mode="json") for verdict in verdicts],
    }
    error: GateRefused | None = refusal(verdicts, subject, checked_only=checked_only)
    if error is not None:
        log(f"error: {error.render()}")
        result |= {"error": error.as_dict(), "exit_code": EXIT_GATE}
    return result


if __name__ == "__main__":
    sys.exit(main())
