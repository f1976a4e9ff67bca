"""`python -m release feedback-space`: the Space in which people judge pairs of answers; its files, and its publication.

    python -m release feedback-space --pairs runs/pairs/pairs.jsonl --out runs/pairs/space      the folder, to try it out
    python -m release feedback-space --pairs runs/pairs/pairs.jsonl --space org/feedback --votes org/feedback-votes
    python -m release feedback-space --live org/name@v2.0.0 org/name@v1.0.0 --space org/feedback --votes org/feedback-votes

With --live two revisions, or one with two temperatures, answer what a labeller asks, after the pairs where there are any. The app
is read from `spaces/feedback`, and what it shares with the chat from `spaces/chat`, by path: `spaces` must never be importable.
Pairs travel with the Space and are pinned by SHA-256: a page of them alone loads no model and starts at once.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import platform
import shutil
from pathlib import Path
from typing import Any

from release.feedback_live import add_live_arguments, live_sides
from release.hub_files import LocalFile
from training.command import Parser, Result
from training.counted import counted
from training.errors import UsageError
from training.records import canonical_json, write_atomically

SPACES = Path(__file__).resolve().parent.parent / "spaces"
FROM_CHAT = ("limits.py", "display.py", "markdown.css", "vote_dataset.py", "vote_files.py", "vote_log.py")
LIVE_FROM_CHAT = ("chat_model.py", "digest.py", "download.py", "sessions.py", "transformers_model.py", "visitors.py")
LIVE = "live.py"
TITLE = "Pairs of answers to judge"  # of each of its commits
DIRECT_REQUIREMENTS = ("gradio", "huggingface_hub")
SHORT_DESCRIPTION = "Compare two answers, train the next model"


def add_feedback_command(parser: Parser) -> None:
    """Add `feedback-space` to `python -m release`. Imports nothing heavy."""
    command = parser.command(
        "feedback-space", "Build the feedback Space from pairs of answers; publish it with --space.", run_feedback_space
    )
    command.add_argument("--pairs", type=Path, metavar="FILE", help="from training feedback-pairs")
    add_live_arguments(command)
    command.add_argument("--out", type=Path, metavar="DIR", help="write the Space's files there")
    command.add_argument("--space", metavar="ORG/NAME", help="publish it as this Space (private)")
    command.add_argument("--votes", metavar="ORG/NAME", help="the private dataset that votes are pushed to")
    command.add_argument("--title", default="Which answer is better?")
    command.add_argument("--contact", help="whom labellers ask for the deletion of their votes")
    command.add_argument("--votes-per-pair", type=int, default=3, help="labellers who judge each pair (%(default)s)")
    command.add_argument("--votes-per-labeller", type=int, default=500, help="the most of one labeller (%(default)s)")
    command.add_argument("--gold-every", type=int, default=8, help="one gold item in so many (%(default)s)")
    command.add_argument(
        "--gold", type=Path, metavar="FILE", help="gold items of your own, instead of those that come along"
    )
    command.add_argument(
        "--seconds-between-pushes", type=float, default=30.0, help="the Hub takes 128 commits an hour (%(default)s)"
    )


def run_feedback_space(args: argparse.Namespace) -> Result:
    """`python -m release feedback-space`."""
    if args.space is None and args.out is None:
        raise UsageError("say where the Space goes", expected="--out DIR, --space ORG/NAME, or both")
    from release.hub_client import check_repo_id

    for option, named in (("--space", args.space), ("--votes", args.votes)):
        if named is not None:
            check_repo_id(named, option)
    files = build_feedback_bundle(
        pairs=args.pairs,
        live=live_sides(args),
        votes_dataset=args.votes,
        title=args.title,
        contact=args.contact,
        votes_per_pair=args.votes_per_pair,
        votes_per_labeller=args.votes_per_labeller,
        gold=args.gold,
        gold_every=args.gold_every,
        seconds_between_pushes=args.seconds_between_pushes,
    )
    result: Result = {"files": sorted(files)}
    lines = []
    if args.out is not None:
        write_folder(files, args.out)
        result["out"] = str(args.out)
        lines.append(f"{args.out}: {counted(len(files), 'file')}\n  next: python spaces/serve.py {args.out}")
    if args.space is not None:
        commit, endpoint, salt = publish_feedback_space(args.space, args.votes, files)
        result |= {"space": args.space, "commit": commit, "salt": salt}
        lines.append(
            f"{endpoint}/spaces/{args.space} at {commit}\n  {salt}\n  next: python spaces/serve.py {args.space}"
        )
    return {**result, "summary": "\n".join(lines)}


def build_feedback_bundle(
    *,
    pairs: Path | None,
    live: list[dict[str, Any]] | None = None,
    votes_dataset: str | None,
    title: str,
    contact: str | None = None,
    votes_per_pair: int = 3,
    votes_per_labeller: int = 500,
    gold: Path | None = None,
    gold_every: int = 8,
    seconds_between_pushes: float = 30.0,
) -> dict[str, bytes]:
    """Path -> bytes of every file of the Space. Equal arguments on one installation give equal bytes.

    `live` are the two ways to answer, as `release.feedback_live.live_sides` gives them. Raises UsageError where there is neither
    a pair nor anything live, a number is not above 0, or the Hub would refuse the README.
    """
    numbers = {"votes-per-pair": votes_per_pair, "votes-per-labeller": votes_per_labeller, "gold-every": gold_every}
    for name, number in numbers.items():
        if number < 1:
            raise UsageError(f"--{name} must be at least 1", found=str(number))
    if not 0 < seconds_between_pushes < math.inf:  # nan is neither
        raise UsageError("--seconds-between-pushes must be a number above 0", found=f"{seconds_between_pushes:g}")
    if pairs is None and not live:
        raise UsageError("there is nothing to judge", expected="--pairs FILE, --live MODEL [MODEL], or both")
    content = _checked_pairs(pairs) if pairs else b""
    files = {file.name: file.read_bytes() for file in _app_files(live=bool(live))}
    if gold is not None:
        from release.feedback_gold import read_gold

        files["gold.jsonl"] = read_gold(gold)
    space: dict[str, Any] = {
        "schema_version": 1,
        "title": title,
        "contact": contact,
        "pairs_sha256": hashlib.sha256(content).hexdigest() if content else None,
        **({"live": live} if live else {}),
        "gold_sha256": hashlib.sha256(files["gold.jsonl"]).hexdigest(),
        "votes_dataset": votes_dataset,
        "votes_per_pair": votes_per_pair,
        "votes_per_labeller": votes_per_labeller,
        "gold_every": gold_every,
        "seconds_between_pushes": seconds_between_pushes,
    }
    from release.space_bundle import REQUIREMENTS, pinned_requirements  # it takes a moment to import

    versions = dict(pinned_requirements(REQUIREMENTS["transformers"] if live else DIRECT_REQUIREMENTS))
    readme = _render(
        SPACES / "feedback" / "README.md.jinja",
        **{"live": None, **space},
        pairs=content.count(b"\n"),
        gold=files["gold.jsonl"].count(b"\n"),
        sdk_version=versions["gradio"],
        python_version=".".join(platform.python_version_tuple()[:2]),
        short_description=SHORT_DESCRIPTION,
    )
    from release.local_hub.card_check import check_card  # it takes a moment to import

    errors, warnings = check_card(readme, "space")
    if errors or warnings:
        raise UsageError("the Hub would not take the Space's README as it is", found="; ".join([*errors, *warnings]))
    requirements = _render(SPACES / "chat" / "requirements.txt.jinja", packages=sorted(versions.items()))
    return {
        **files,
        **({"pairs.jsonl": content} if content else {}),
        "README.md": readme.encode(),
        "requirements.txt": requirements.encode(),
        "space.json": canonical_json(space),
    }


def publish_feedback_space(repo_id: str, votes_dataset: str | None, files: dict[str, bytes]) -> tuple[str, str, str]:
    """Give the Space these files in one commit, and make it and the dataset (private) where there is none.

    Returns the commit, the Hub, and what became of its salt. Does nothing where the Space holds them already. Other secrets are
    for its owner to set. Raises UsageError where the dataset is public: labellers agree to a private one.
    """
    from release.feedback_salt import ensure_salt
    from release.hub_client import HubClient
    from release.space_commit import commit_space

    hub = HubClient.connect()
    if votes_dataset is not None:
        dataset = hub.repository(votes_dataset, "dataset")
        if dataset is None:
            hub.create_repository(votes_dataset, "dataset", private=True)
        elif not dataset.private:
            raise UsageError(
                "the votes would go into a public dataset, and labellers agree to a private one",
                where=f"{hub.endpoint}/datasets/{votes_dataset}",
                next_step=f"hf repos settings {votes_dataset} --type dataset --private; or name another with --votes",
            )
    local = {path: LocalFile.of(content) for path, content in files.items()}
    commit, _ = commit_space(hub, repo_id, local, sdk="gradio", title=TITLE, message="", ours=TITLE)
    return commit, hub.endpoint, ensure_salt(hub, repo_id, votes_dataset)


def write_folder(files: dict[str, bytes], folder: Path) -> None:
    """Write the files, for `spaces/serve.py`. Votes that lie in the folder stay."""
    for path, content in files.items():
        write_atomically(folder / path, content)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)


def _checked_pairs(file: Path) -> bytes:
    from pydantic import ValidationError

    from training.feedback_pairs import Pair

    if not file.is_file():
        raise UsageError(
            "there is no such file of pairs",
            where=str(file),
            next_step="python -m training feedback-pairs RUN OTHER --out FILE",
        )
    content = file.read_bytes()
    for number, line in enumerate(content.splitlines(), 1):
        try:
            Pair.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            where = f"{file}, line {number}, field {'.'.join(str(part) for part in first['loc'])}"
            raise UsageError("this line is no pair of answers", where=where, expected=first["msg"]) from error
    if not content.strip():
        raise UsageError("the file has no pairs", where=str(file))
    return content


def _app_files(*, live: bool) -> list[Path]:
    own = SPACES / "feedback"
    files = sorted(file for file in own.glob("*") if file.suffix in (".py", ".css", ".jsonl")) if own.is_dir() else []
    files = [file for file in files if live or file.name != LIVE]
    if not any(file.name == "app.py" for file in files):
        raise UsageError(
            "the feedback Space's sources are not beside the release package",
            where=str(own),
            expected="app.py",
            found="no such file",
            next_step="run Slipway from a checkout of its repository",
        )
    return [*files, *(SPACES / "chat" / name for name in (*FROM_CHAT, *(LIVE_FROM_CHAT if live else ())))]


def _render(template: Path, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(template.read_text(encoding="utf-8")).render(**values)
