"""The directory that an evaluation writes to: whether it can, and whether it may.

writable(Path("runs/base"))
require_no_other_model(Path("runs/base"), "runs/base/checkpoint", digest)
require_no_other_suite(request, named, digest)     # a directory has one scorecard, and so one suite
require_judges(card, named, request)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from evals.human_votes import TASK as VOTES
from evals.scorecard import Scorecard
from training.checkpoint import Checkpoint
from training.counted import shortened
from training.errors import UsageError

if TYPE_CHECKING:
    from evals.run import Request
    from evals.suite import NamedSuite


def writable(out: Path) -> None:
    """Raise UsageError where `out` cannot be written to, before anything is computed."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        probe = out / f".writable-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except (FileExistsError, NotADirectoryError) as error:
        raise UsageError(
            "the output directory is a file", where=str(out), next_step="choose another directory with --out"
        ) from error


def require_no_other_model(out: Path, source: str, digest: str) -> None:
    """Raise UsageError where `out` is of another model: its scorecard and samples would be replaced without a word.

    The run directory of a checkpoint is that checkpoint's, and one of the same `source` is its own: it was trained anew.
    """
    card = out / "scorecard.json"
    if (out / "checkpoint").is_dir():
        found, what = Checkpoint.open(out / "checkpoint").digest, "checkpoint"
    elif card.is_file():
        try:
            scored = Scorecard.read(card).model
        except UsageError:  # damaged, or of another version: nothing is lost
            return
        found, what = digest if scored.name == source else scored.digest, "scorecard"
    else:
        return
    if found != digest:
        raise UsageError(
            f"the directory holds the {what} of another model",
            where=str(out),
            expected=digest,
            found=found,
            next_step="choose another directory with --out" + (f", or move {card} away" if what == "scorecard" else ""),
        )


def require_no_other_suite(request: Request, named: NamedSuite, digest: str) -> None:
    """Raise UsageError where OUT has figures of the same checkpoint that the new scorecard would not have.

    The scorecard is replaced as a whole: a task that the suite lacks, or one that nobody is named to judge, would be gone from it.
    """
    file = request.out / "scorecard.json"
    if not file.is_file():
        return
    try:
        card = Scorecard.read(file)
    except UsageError:  # damaged, or of another version: there is nothing to keep
        return
    if card.model.digest != digest:
        return
    tasks = {task.task for task in named.suite.tasks}
    gone = list(dict.fromkeys(score.task for score in card.scores if score.task not in tasks | {VOTES}))
    if gone:
        own = request.out.with_name(f"{request.out.name}-{named.name}")
        raise UsageError(
            "the directory holds scores of another suite, which this one would replace",
            where=str(file),
            expected=f"a suite that has the tasks of {card.settings.suite} too, or another directory",
            found=f"the suite {named.name} without {shortened(gone)}",
            next_step=f"--out {own} for a scorecard of its own; or --suite FILE with the tasks of both for one scorecard: "
            "what was answered is kept, and is not answered again",
        )
    require_judges(card, named, request)


def require_judges(card: Scorecard, named: NamedSuite, request: Request) -> None:
    """Raise UsageError where figures would be lost, for whoever judged them, or whom they are against, is not named."""
    judged = {task.task for task in named.suite.tasks if task.scoring == "judge"}
    judge = bool(request.judge or request.judge_endpoint)
    lost = [
        (f"{score.task}/{score.metric}", option)
        for score in card.scores
        for option, needed in (
            ("--votes", score.task == VOTES and not request.votes),
            ("--judge or --judge-endpoint", score.task in judged and score.scorer is not None and not judge),
            ("--baseline", score.task in judged and score.against is not None and request.baseline is None),
        )
        if needed
    ]
    if lost:
        options = sorted({option for _, option in lost})
        raise UsageError(
            "figures of the scorecard would be lost",
            where="the command line",
            expected=" and ".join(options),
            found="; ".join(
                f"no {one} for {', '.join(name for name, option in lost if option == one)}" for one in options
            ),
            next_step="name who judged them, and against whom, as `evals run` was told; or move scorecard.json away",
        )
