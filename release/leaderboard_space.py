"""The leaderboard Space: one static page of the scorecards that stand in a Hub's repositories, made again by command.

    python -m release leaderboard-space --repo org/leaderboard --models org/a@v1.0.0 org/b
    python -m release leaderboard-space --repo org/leaderboard --author org
    python -m release leaderboard-space --repo org/leaderboard --author org --listen 7870     at each of the Hub's webhooks

The page is the one that `evals leaderboard` writes. Every model is pinned to the commit that its revision stood for, and
sources.json says which; equal repositories give an equal Space, so a second run makes no commit. Static Spaces run nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evals.saved import SavedRun
from release.hub_client import HubClient, check_repo_id
from release.hub_errors import HubFailure
from release.hub_files import LocalFile
from release.space_commit import commit_space
from training.command import Parser, Result, log, port, quiet_libraries
from training.errors import UsageError
from training.records import canonical_json, write_atomically

SCORECARD = "scorecard.json"
SCORES = "Scores of "  # how the title of each of its commits begins
WITHHELD = (401, 403, 404)  # what a Hub answers for what is gated, private or gone
EMPTY = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Leaderboard: no models</title>
</head>
<body style="font-family: system-ui, sans-serif; margin: 3rem auto; max-width: 40rem; padding: 0 1rem">
<h1>Leaderboard</h1>
<p>No model has a scorecard here that anybody may read.</p>
</body>
</html>
"""


@dataclass(frozen=True)
class Source:
    """A scorecard on the Hub, at one commit; `folder` holds it with its samples."""

    repo_id: str
    revision: str
    commit: str
    digest: str
    folder: Path

    @property
    def name(self) -> str:
        return self.repo_id if self.revision == "main" else f"{self.repo_id}@{self.revision}"

    def as_dict(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("repo_id", "revision", "commit", "digest")}


def add_leaderboard_command(parser: Parser) -> None:
    """Add `leaderboard-space` to `python -m release`. Imports nothing heavy."""
    board = parser.command(
        "leaderboard-space", "Build a static Space from the scorecards in a Hub's repositories, and push it.", run_board
    )
    board.add_argument("--repo", required=True, metavar="ORG/NAME", help="the Space")
    board.add_argument("--models", nargs="+", default=[], metavar="ORG/NAME[@REV]", help="default revision: main")
    board.add_argument(
        "--author",
        metavar="ORG",
        help="every model of this owner that has a scorecard, private ones with --private only",
    )
    board.add_argument("--title", default="Leaderboard", help="of the Space (default: Leaderboard)")
    board.add_argument("--private", action="store_true", help="the Space is and stays private")
    board.add_argument("--out", type=Path, metavar="DIR", help="write the Space's files there too")
    board.add_argument(
        "--listen", type=port, metavar="PORT", help="stay, and refresh at the Hub's webhooks (WEBHOOK_SECRET)"
    )
    board.add_argument("--host", default="127.0.0.1", help="of --listen (default: 127.0.0.1)")
    board.add_argument("--dry-run", action="store_true", help="build only; send nothing")


def run_board(args: argparse.Namespace) -> Result:
    """`leaderboard-space`: the Space's commit, and whether anything had changed."""
    check_repo_id(args.repo)
    if not args.models and not args.author:
        raise UsageError("no models are named", next_step="give --models ORG/NAME[@REV] ..., or --author ORG")
    quiet_libraries()
    if args.listen is not None:
        from release.leaderboard_webhook import listen

        if args.dry_run:
            raise UsageError("--listen sends what it builds", next_step="leave --dry-run out")
        listen(lambda: str(refresh(args)["summary"]), args.models, args.author, args.host, args.listen)
        return {"summary": "the receiver has stopped"}
    return refresh(args)


def refresh(args: argparse.Namespace) -> Result:
    """Build the Space from the scorecards as they stand, and push it where anything has changed."""
    hub = HubClient.connect()
    names = [*args.models, *(hub.models_of(args.author, private=args.private) if args.author else [])]
    with tempfile.TemporaryDirectory(prefix="slipway-leaderboard-") as scratch:
        sources, left_out = fetch_scorecards(hub, names, Path(scratch), asked=set(args.models))
        if not sources and hub.repository(args.repo, "space") is None:
            raise UsageError(
                "none of these models has a scorecard that can be shown",
                where=hub.endpoint,
                found=", ".join(names) or "no model",
            )
        files = space_files(sources, Path(scratch) / "board", args.title)
    if args.out:
        for name, content in files.items():
            write_atomically(args.out / name, content)
    listed = f"{_models(len(sources))} from {hub.endpoint}"
    told: dict[str, Any] = {
        "sources": [source.as_dict() for source in sources],
        "left_out": left_out,
        "files": sorted(files),
    }
    if args.dry_run:
        return {"summary": f"{listed}; nothing was sent", **told}
    commit, changed = push(hub, args.repo, files, len(sources), private=args.private)
    state = "updated" if changed else "is as it should be"
    return {
        "summary": f"{hub.endpoint}/spaces/{args.repo} {state}: {listed}, commit {commit}",
        "commit": commit,
        "changed": changed,
        **told,
    }


def fetch_scorecards(
    hub: HubClient, names: Sequence[str], folder: Path, *, asked: set[str]
) -> tuple[list[Source], dict[str, str]]:
    """Download the scorecards with the samples that they name; and of those that are left out, why.

    A model of `asked` must have one that can be shown: raises UsageError where it has not, HubError where the Hub does not give
    it. Others are left out, gated ones too, for a repository of somebody else's must not take the whole page down.
    """
    sources, left_out = [], {}
    for name in dict.fromkeys(names):
        repo_id, _, revision = name.partition("@")
        try:
            sources.append(_fetch(hub, repo_id, revision or "main", folder))
        except (UsageError, HubFailure) as error:
            if name in asked or (isinstance(error, HubFailure) and error.status not in WITHHELD):
                raise
            left_out[repo_id] = error.what
            log(f"{repo_id} is left out: {error.what}")
    return sources, left_out


def _fetch(hub: HubClient, repo_id: str, revision: str, folder: Path) -> Source:
    """One scorecard. Raises UsageError where there is none, or none whose figures are what its samples give, and HubError."""
    from evals.regenerate import unchecked  # by scipy

    commit = hub.resolve(repo_id, revision)
    try:
        if SCORECARD not in hub.tree(repo_id, commit):
            raise UsageError("this repository has no scorecard", expected=SCORECARD)
        there = hub.download(repo_id, commit, folder / "cache", patterns=[SCORECARD, "samples/*"])
        run = SavedRun.open(there, repo_id)
        unchecked(run)
    except UsageError as error:
        raise UsageError(
            error.what,
            where=f"{hub.endpoint}/{repo_id} at {commit}",
            expected=error.expected,
            found=error.found,
            next_step="release it with its scores, or leave it out",
        ) from error
    return Source(repo_id, revision, commit, run.scorecard.model.digest, there)


def space_files(sources: Sequence[Source], out: Path, title: str) -> dict[str, bytes]:
    """Path -> bytes of the static Space; the page is written to `out` first. Without sources it says that there are none."""
    from evals.leaderboard import write  # it makes every figure again, by scipy

    if sources:
        write([source.folder for source in sources], out, [source.name for source in sources])
    else:  # what was the last one is private now, or gone, and must not go on standing there
        write_atomically(out / "index.html", EMPTY.encode())
    pages = sorted(file for file in out.rglob("*") if file.is_file())
    files = {file.relative_to(out).as_posix(): file.read_bytes() for file in pages}
    files["sources.json"] = canonical_json([source.as_dict() for source in sources])
    files["README.md"] = _readme(sources, title).encode()
    return files


def _models(count: int) -> str:
    return f"{count} model{'s' if count != 1 else ''}"


def push(hub: HubClient, repo_id: str, files: dict[str, bytes], models: int, *, private: bool) -> tuple[str, bool]:
    """One commit with exactly these files; its id, and whether it was needed."""
    head, changed = commit_space(
        hub,
        repo_id,
        {name: LocalFile.of(content) for name, content in files.items()},
        sdk="static",
        title=f"{SCORES}{_models(models)}",
        ours=SCORES,
        message=f"sources {hashlib.sha256(files['sources.json']).hexdigest()}",
    )
    hub.set_private(repo_id, private, "space")
    return head, changed


def _readme(sources: Sequence[Source], title: str) -> str:
    models = "".join(f"  - {json.dumps(name)}\n" for name in dict.fromkeys(source.repo_id for source in sources))
    rows = "".join(
        f"| [{source.repo_id}](/{source.repo_id}) | [`{source.commit}`](/{source.repo_id}/tree/{source.commit}) "
        f"| `{source.digest}` |\n"
        for source in sources
    )
    return (
        f"---\ntitle: {json.dumps(title)}\nemoji: 📊\ncolorFrom: blue\ncolorTo: indigo\nsdk: static\napp_file: index.html\n"
        f"pinned: false\nmodels:\n{models}---\n\n# {title}\n\nMade of the scorecards in these repositories. Scores share a table "
        "only where everything that moves them is equal.\n\n| model | commit | checkpoint digest |\n|---|---|---|\n"
        + rows
    )
