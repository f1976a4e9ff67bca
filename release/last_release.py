"""The last release of a repository: its scores, fetched beside a run, so that the next release is held against them.

    python -m release last-release --run runs/b --repo org/name    # writes runs/b/last_release/
    held = read(Path("runs/b"), "org/name")                        # None where nobody has looked

`publish` looks by itself before it sends anything. The gate `no_regression_since_release` compares.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from release.bundle import PLAN
from release.hub_client import HubClient, check_repo_id
from release.journal import Journal
from release.records import ReleasePlan
from release.releases_there import plan_at
from release.request import Request
from training.command import Parser, Result, log, quiet_libraries
from training.errors import UsageError, VerificationMismatch
from training.records import Record, sha256_of_file

FOLDER, FILE = "last_release", "last_release.json"
PATTERNS = [PLAN, "scorecard.json", "samples/*"]


class LastRelease(Record):
    """Which release main holds; no tag where it holds none. The scores lie beside this file, if the release has any."""

    schema_version: int = 1
    endpoint: str
    repo_id: str
    tag: str | None
    commit: str | None
    checkpoint_digest: str | None
    hidden: bool = False  # it was released for everybody, and is private now


def fetch(hub: HubClient, repo_id: str, run: Path) -> LastRelease:
    """Write `run/last_release/`: which release main holds, its scorecard and its samples, each file as its plan hashes it.

    Raises HubError, and VerificationMismatch where the Hub gives back other bytes than were released.
    """
    check_repo_id(repo_id)
    if not run.is_dir():
        raise UsageError("there is no such run", where=str(run), next_step="give the --run that is to be released next")
    repository = hub.repository(repo_id)
    files = hub.tree(repo_id, repository.main) if repository else {}
    with tempfile.TemporaryDirectory(dir=run, prefix=".last-release-") as scratch:
        made = Path(scratch) / FOLDER
        made.mkdir()
        found = LastRelease(endpoint=hub.endpoint, repo_id=repo_id, tag=None, commit=None, checkpoint_digest=None)
        if repository is not None and PLAN in files:
            snapshot = hub.download(repo_id, repository.main, Path(scratch) / "cache", patterns=PATTERNS)
            plan = ReleasePlan.read(snapshot / PLAN)
            for entry in plan.files:
                if entry.path == "scorecard.json" or entry.path.startswith("samples/"):
                    _take(snapshot / entry.path, made / entry.path, entry.sha256, f"{hub.endpoint}/{repo_id}")
            found = found.model_copy(
                update={
                    "tag": plan.tag,
                    "commit": repository.main,
                    "checkpoint_digest": plan.checkpoint_digest,
                    "hidden": repository.private and not plan.private,
                }
            )
        found.write(made / FILE)
        target = run / FOLDER
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
    return found


def read(run: Path, repo_id: str) -> LastRelease | None:
    """What was fetched for this repository; None where nothing was."""
    path = run / FOLDER / FILE
    found = LastRelease.read(path) if path.is_file() else None
    return found if found is not None and found.repo_id == repo_id else None


def _take(source: Path, target: Path, expected: str, where: str) -> None:
    found = sha256_of_file(source) if source.is_file() else "no such file"
    if found != expected:
        raise VerificationMismatch(
            f"{target.name} of the last release is not what was released",
            where=where,
            expected=f"sha256 {expected}",
            found=found,
            next_step="python -m release verify; then publish its files again, or roll back",
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def add_last_release_command(parser: Parser) -> None:
    """Add `last-release` to `python -m release`."""
    command = parser.command(
        "last-release", "Fetch the scores of a repository's last release, to hold the next against.", run_last_release
    )
    command.add_argument("--run", dest="run_directory", type=Path, required=True, metavar="DIR", help="runs/ID")
    command.add_argument("--repo", required=True, metavar="ORG/NAME")


def run_last_release(args: argparse.Namespace) -> Result:
    """The command."""
    quiet_libraries()
    found = fetch(HubClient.connect(), args.repo, args.run_directory)
    return {"summary": describe(found), **found.model_dump(mode="json")}


def describe(found: LastRelease) -> str:
    if found.tag is None:
        return f"{found.repo_id} has no release on {found.endpoint}"
    said = f"the last release of {found.repo_id} is {found.tag}, {found.checkpoint_digest}"
    if not found.hidden:
        return said
    return (
        f"{said}; it was rolled back, or hidden by hand: it is private, and was released for everybody. The next one is held "
        f"against its scores all the same\n  python -m release rollback --repo {found.repo_id} --to {found.tag} shows it again"
    )


def look(hub: HubClient, run: Path, request: Request) -> None:
    """Fetch it for a publication that is about to begin, and say what was found.

    A plan whose gate saw another release, or none, goes: it is made anew. Raises UsageError where that would lose a signature
    that was made elsewhere. A publication that has begun is left alone, and so is a plan that another machine is publishing or has
    published: held against itself it would be another one.
    """
    file = run / PLAN
    plan = ReleasePlan.read(file) if file.is_file() else None
    asked = plan is not None and (plan.endpoint, plan.repo_id, plan.tag) == (hub.endpoint, request.repo_id, request.tag)
    if plan is not None and asked and Journal(run / "journal.jsonl", plan.content_digest(), hub.endpoint).lines():
        return
    before = read(run, request.repo_id)
    with tempfile.TemporaryDirectory(dir=run, prefix=".last-release-") as scratch:
        kept = Path(scratch) / FOLDER
        if (run / FOLDER).is_dir():
            shutil.copytree(run / FOLDER, kept)
        found = fetch(hub, request.repo_id, run)
        if plan is not None and asked and _stands(hub, plan):  # asked last: it may have come while this looked
            shutil.rmtree(run / FOLDER)
            if kept.is_dir():
                kept.rename(run / FOLDER)
            return
    log(describe(found))
    seen = (before.tag, before.checkpoint_digest) if before is not None else (None, None)
    if plan is None or not asked or seen == (found.tag, found.checkpoint_digest):
        return
    if plan.signer is not None and request.sign is None:
        raise UsageError(
            "the plan was signed before anybody looked at the release that it follows",
            where=f"{hub.endpoint}/{request.repo_id}",
            expected=f"a plan that was held against {found.tag}",
            found=seen[0] or "none",
            next_step=f"where the key is: python -m release last-release --run {run} --repo {request.repo_id}, then plan again",
        )
    log(f"the plan was not held against {found.tag or 'what is there now'}: planning anew")
    file.unlink()


def _stands(hub: HubClient, plan: ReleasePlan) -> bool:
    """Whether the Hub has this very plan, on main or under its tag."""
    repository = hub.repository(plan.repo_id)
    if repository is None:
        return False
    there = [
        plan_at(hub, plan.repo_id, commit) for commit in {repository.main, repository.tags.get(plan.tag)} if commit
    ]
    return any(found is not None and found.content_digest() == plan.content_digest() for found in there)
