"""python -m model_cards render RUN --repo ORG/NAME --tag v1.0.0 [--out DIR]
python -m model_cards check RUN|README.md|ORG/NAME[@REV]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from training.command import Parser, Result
from training.counted import counted
from training.errors import EXIT_OK, EXIT_USAGE, UsageError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    parser = Parser("python -m model_cards", "Model cards whose every number comes from a scorecard or a run record.")
    render = parser.command("render", "Write the card of a run, its figures and its .eval_results.", run_render)
    render.add_argument("run_directory", metavar="RUN", type=Path, help="a run directory, or a checkpoint directory")
    render.add_argument("--repo", required=True, metavar="ORG/NAME", help="the repository that the card is for")
    render.add_argument("--tag", required=True, help="the release that it describes, e.g. v1.0.0")
    render.add_argument("--space", metavar="ORG/NAME", help="a Space in which people can try it")
    render.add_argument("--endpoint", metavar="URL", help="the Hub that it goes to, if not https://huggingface.co")
    render.add_argument("--language", default="en", metavar="CODE", help="ISO 639 code for the metadata (default: en)")
    render.add_argument("--out", type=Path, metavar="DIR", help="where to write to (default: RUN/bundle-preview)")
    check = parser.command("check", "Hold a card against its run; exit 2 with a list where it is wrong.", run_check)
    check.add_argument("card", metavar="RUN|README.md|ID", help="a run directory, a card, or a Hub id[@revision]")
    return parser.run(argv)


def run_render(args: argparse.Namespace) -> Result:
    from model_cards.card import render_card
    from model_cards.check import PREVIEW
    from model_cards.facts import HUB_ID
    from training.records import write_atomically

    for option, value in (("--repo", args.repo), ("--space", args.space)):
        if value is not None and not HUB_ID.match(value):
            raise UsageError(f"{option} is not the id of a repository", expected="ORG/NAME", found=value)
    bundle = render_card(
        args.run_directory,
        repo_id=args.repo,
        tag=args.tag,
        space_id=args.space,
        endpoint=args.endpoint,
        language=args.language,
    )
    out = args.out or args.run_directory / PREVIEW
    for path, content in bundle.files.items():
        write_atomically(out / path, content)
    return {
        "summary": f"wrote {out / 'README.md'} and {len(bundle.extras)} more files",
        "out": str(out),
        "files": sorted(bundle.files),
    }


def run_check(args: argparse.Namespace) -> Result:
    from model_cards.author import without_author
    from model_cards.check import check_card, find_card, read_card, run_of
    from model_cards.facts import read_facts
    from model_cards.figures_in_prose import unrecorded
    from model_cards.suggestions import suggestions
    from training.pretrained import download

    on_hub = not Path(args.card).exists() and "/" in args.card
    card = find_card(download(args.card, ["README.md"])[0] if on_hub else Path(args.card))
    problems, more = check_card(card), suggestions(read_card(card))
    if not on_hub and (run := run_of(card)) is not None and read_facts(run).digest in without_author(read_card(card)):
        problems += unrecorded(card, run)  # of a card of ours: another's may say what it likes
    if on_hub:  # the records that figures are held against were not downloaded
        problems = [problem for problem in problems if problem.check not in ("numbers", "links")]
    found = counted(len(problems), "problem") if problems else "nothing is wrong"
    lines = [f"{args.card if on_hub else card}: {found}, {counted(len(more), 'thing')} could be added"]
    lines += [f"{problem.check}: {problem.what} ({problem.where})" for problem in [*problems, *more]]
    lines += [f"its figures were not looked at: python -m release verify {args.card}"] if on_hub else []
    return {
        "summary": "\n".join(lines),
        "card": str(card),
        "problems": [problem.as_dict() for problem in problems],
        "suggestions": [problem.as_dict() for problem in more],
        "exit_code": EXIT_USAGE if problems else EXIT_OK,
    }


if __name__ == "__main__":
    sys.exit(main())
