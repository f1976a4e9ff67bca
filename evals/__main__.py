"""python -m evals: score a checkpoint, compare two, show many.

python -m evals run runs/base/checkpoint --suite starter --out runs/base
python -m evals run runs/ppo/checkpoint --suite starter --out runs/ppo --baseline runs/base --judge runs/reward/checkpoint
python -m evals rescore runs/ppo --suite mine.yaml
python -m evals compare runs/base runs/ppo
python -m evals beside runs/ppo runs/smollm2-360m runs/qwen-0.5b
python -m evals leaderboard runs/base runs/ppo --out leaderboard
python -m evals train-scorer toxicity --data labeled_data.csv --test perspective.jsonl@0.9 --out runs/scorer
python -m evals calibrate detoxify --test labeled_data.csv perspective.jsonl@0.9 --out runs/detoxify
python -m evals contamination runs/ppo --data preferences.jsonl
python -m evals tax runs/base runs/ppo --tasks gsm8k hellaswag
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.run_options import add_rescore_options, add_run_options
from training.allocator import keep_freed_memory
from training.command import Parser, Result, log, quiet_libraries
from training.energy import add_arguments as add_energy_arguments
from training.energy import circumstances, measuring

if TYPE_CHECKING:
    from evals.scorecard import Scorecard


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser("python -m evals", "Score checkpoints: numbers pinned to the digest of what was measured.")
    run = parser.command(
        "run", "Evaluate a checkpoint with a suite; write OUT/scorecard.json and OUT/samples/.", run_suite
    )
    add_run_options(run)
    add_energy_arguments(run)
    rescore = parser.command(
        "rescore",
        "Score a run's kept answers again, without the model's weights; write RUN/scorecard.json.",
        run_rescore,
    )
    add_rescore_options(rescore)
    _side_by_side(parser)
    _scorers(parser)
    _against_training(parser)
    return parser.run(argv)


def _side_by_side(parser: Parser) -> None:
    """The commands that show several scorecards together."""
    compare = parser.command("compare", "Paired differences B - A with intervals and Holm-corrected p.", run_compare)
    compare.add_argument("a", metavar="A", type=Path, help="a run's directory or its scorecard.json: before")
    compare.add_argument("b", metavar="B", type=Path, help="the same: after")
    beside = parser.command(
        "beside",
        "Put other models' scorecards beside a run's, for its card; without OTHER, take them away.",
        run_beside,
    )
    beside.add_argument("directory", metavar="RUN", type=Path, help="the run whose card is to show them")
    beside.add_argument("others", metavar="OTHER", nargs="*", type=Path, help="runs of other models, scored alike")
    leaderboard = parser.command("leaderboard", "Pages of many scorecards: HTML, markdown, JSON.", run_leaderboard)
    leaderboard.add_argument(
        "runs", metavar="RUN", nargs="+", type=Path, help="run directories or scorecard.json files"
    )
    leaderboard.add_argument("--out", required=True, type=Path, help="the folder to write to")


def _scorers(parser: Parser) -> None:
    """The commands that make and measure scorers."""
    scorer = parser.command(
        "train-scorer",
        "Train an offline scorer on labelled data; write it with its calibration card.",
        run_train_scorer,
    )
    scorer.add_argument("kind", choices=["toxicity", "hate", "truthful", "informative"], help="what it is to tell")
    scorer.add_argument("--data", required=True, nargs="+", metavar="FILE[@T]", help="labelled texts to train on")
    scorer.add_argument(
        "--test", default=[], nargs="+", metavar="FILE[@T]", help="labelled texts to measure on and never to train on"
    )
    scorer.add_argument("--out", required=True, type=Path, help="the folder to write to, e.g. runs/scorer")
    scorer.add_argument("--name", default="mine", help="stands in the metric; default mine")
    scorer.add_argument("--version", default="1", help="stands in the metric; default 1")
    scorer.add_argument(
        "--encoder",
        default="sentence-transformers/all-MiniLM-L6-v2@c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        metavar="DIR_OR_ID",
        help="for hate: a BERT sentence encoder, a directory or a Hub id@commit; default: all-MiniLM-L6-v2 at a commit",
    )
    calibration = parser.command(
        "calibrate", "How well a scorer of texts tells toxic ones on labelled sets; write its card.", run_calibrate
    )
    calibration.add_argument(
        "scorer",
        metavar="SCORER",
        help="profanity, ngram, detoxify, roberta-hate-speech, moderation:MODEL@URL, perspective, or a scorer's folder",
    )
    calibration.add_argument(
        "--test", required=True, nargs="+", metavar="FILE[@T]", help="labelled texts to measure on"
    )
    calibration.add_argument("--out", required=True, type=Path, help="the folder to write to, e.g. runs/detoxify")


def _against_training(parser: Parser) -> None:
    """The commands that hold scores against what training did."""
    contamination = parser.command(
        "contamination",
        "Which evaluated items stand in the training data, and the scores without them; write RUN/contamination.json.",
        run_contamination,
    )
    contamination.add_argument("directory", metavar="RUN", type=Path, help="a run's directory with scorecard.json")
    contamination.add_argument(
        "--data", default=[], nargs="+", metavar="DATA", help="files or Hub ids beside the data that run.json names"
    )
    contamination.add_argument("--split", default="train", help="of --data; default train")
    contamination.add_argument("--config", help="of --data on the Hub, e.g. main")
    tax = parser.command("tax", "The alignment tax: paired changes on tasks that alignment was not for.", run_tax)
    tax.add_argument("parent", metavar="PARENT", type=Path, help="the run before alignment")
    tax.add_argument("child", metavar="CHILD", type=Path, help="the run after it")
    tax.add_argument("--tasks", nargs="+", default=[], metavar="TASK", help="default: all of the group other")


def run_suite(args: argparse.Namespace) -> Result:
    quiet_libraries()
    keep_freed_memory()
    os.environ.setdefault("TQDM_DISABLE", "1")  # our own bars, on a terminal only
    if not sys.stderr.isatty():
        os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from evals.run import evaluate
    from evals.run_options import as_request
    from evals.show import scorecard_table

    request = as_request(args)
    with measuring(circumstances(args)):
        card = evaluate(request)
    summary, more = scorecard_table(card, args.out), dict[str, Any]()
    if args.sensitivity:
        from evals.sensitivity import sensitivity, sensitivity_table

        found = sensitivity(request)
        summary += "\n\n" + sensitivity_table(found, args.out)
        more = {"sensitivity": found.model_dump(mode="json")}
    return _told(card, args.out, summary, more)


def run_rescore(args: argparse.Namespace) -> Result:
    quiet_libraries()
    from evals.kept_run import rescore_run
    from evals.run_options import judges
    from evals.show import scorecard_table

    card = rescore_run(args.directory, args.suite, **judges(args))
    return _told(card, args.directory, scorecard_table(card, args.directory), {})


def _told(card: Scorecard, out: Path, summary: str, more: dict[str, Any]) -> Result:
    """What a command that scored says; the exit code of a failure where a task failed."""
    from evals.run import failure

    if card.failed_tasks:  # the others' scores are written and shown, and still the suite was not scored
        error = failure(card, out, list(card.failed_tasks), "scores of every task")
        log(f"error: {error.render()}")
        more |= {"error": error.as_dict(), "exit_code": error.exit_code}
    return {"summary": summary, "scorecard": str(out / "scorecard.json"), **_short(card), **more}


def run_compare(args: argparse.Namespace) -> Result:
    from evals.compare import compare
    from evals.show import comparison_table

    comparison = compare(args.a, args.b)
    return {"summary": comparison_table(comparison), **comparison.model_dump(mode="json")}


def run_beside(args: argparse.Namespace) -> Result:
    from evals.beside import run_beside

    return run_beside(args.directory, args.others)


def run_leaderboard(args: argparse.Namespace) -> Result:
    from evals.leaderboard import write

    return dict(write(args.runs, args.out))


def run_train_scorer(args: argparse.Namespace) -> Result:
    quiet_libraries()
    from evals.train_scorer import train_hate, train_judge, train_toxicity

    if args.kind == "hate":
        return train_hate(args.data, args.test, args.out, args.name, args.version, args.encoder)
    if args.kind != "toxicity":
        return train_judge(args.kind, args.data, args.test, args.out)
    return train_toxicity(args.data, args.test, args.out, args.name, args.version)


def run_calibrate(args: argparse.Namespace) -> Result:
    quiet_libraries()
    from evals.calibration import calibrate
    from evals.train_scorer import labelled

    return calibrate(args.scorer, [labelled(word) for word in args.test], args.out)


def run_contamination(args: argparse.Namespace) -> Result:
    quiet_libraries()
    from evals.contamination import run_contamination

    return run_contamination(args.directory, args.data, args.split, args.config)


def run_tax(args: argparse.Namespace) -> Result:
    from evals.alignment_tax import run_tax

    return run_tax(args.parent, args.child, args.tasks)


def _short(card: Any) -> dict[str, Any]:
    return {
        "digest": card.model.digest,
        "scores": {f"{score.task}/{score.metric}": score.value for score in card.scores},
        "failed_tasks": card.failed_tasks,
        "seconds": card.seconds,
    }


if __name__ == "__main__":
    raise SystemExit(main())
