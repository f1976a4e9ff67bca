"""What `python -m evals run` takes on the command line, and the evaluation that it asks for.

add_run_options(parser)
evaluate(as_request(parser.parse_args()))
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import UsageError

if TYPE_CHECKING:
    from evals.run import Request
    from evals.suite import TruthJudges


def add_run_options(run: argparse.ArgumentParser) -> None:
    _add_subject(run)
    _add_settings(run)
    _add_backend(run)


def _add_subject(run: argparse.ArgumentParser) -> None:
    """What is evaluated, and who judges it."""
    run.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="a checkpoint or run directory, or a Hub id[@revision]; the model's name at an endpoint",
    )
    run.add_argument(
        "--suite", required=True, help="starter, official, truthfulness, helpfulness, or the path of a YAML file"
    )
    run.add_argument("--out", required=True, type=Path, help="the run's directory, e.g. runs/base")
    _add_judges(run)


def _add_judges(run: argparse.ArgumentParser) -> None:
    """Who judges answers, and against whose."""
    run.add_argument(
        "--baseline", type=Path, metavar="RUN", help="the parent's run: copied to OUT/baseline, and won against"
    )
    run.add_argument(
        "--judge", type=Path, metavar="CHECKPOINT", help="a reward model that judges answers for the win rate"
    )
    run.add_argument(
        "--judge-endpoint",
        metavar="URL",
        help="a judge that compares answers, http://HOST:PORT/v1 of OpenAI's protocol; key in OPENAI_API_KEY",
    )
    run.add_argument("--judge-model", metavar="NAME", help="the judge's name there; name a dated version")
    run.add_argument(
        "--truth-judges",
        nargs="+",
        default=[],
        metavar="ASPECT=JUDGE",
        help="truthful=DIR_OR_ID informative=DIR_OR_ID: who judges generated answers of scoring: truthfulness",
    )
    run.add_argument(
        "--votes", nargs="+", default=[], metavar="SOURCE", help="votes on its answers, for a win rate by people"
    )


def _add_settings(run: argparse.ArgumentParser) -> None:
    """How much is evaluated, and in what precision."""
    run.add_argument("--limit", type=int, metavar="N", help="a seeded sample of N items of each task")
    run.add_argument(
        "--dtype",
        choices=["auto", "bfloat16", "float32"],
        default="auto",
        help="default: bfloat16 where the hardware multiplies it, else float32; two scorecards compare in one only",
    )
    run.add_argument("--batch-size", type=int, metavar="N", help="default: what the suite says of each task")
    run.add_argument("--device", help="default: cuda where there is one, else cpu")
    run.add_argument("--seed", type=int, default=0, help="of sampled texts, items and intervals; default 0")


def _add_backend(run: argparse.ArgumentParser) -> None:
    """Who answers, and what stands around a prompt."""
    run.add_argument(
        "--backend",
        choices=["slipway", "hf", "vllm", "openai-endpoint"],
        default="slipway",
        help="slipway (default) computes each distinct token once; the others are lm-eval's own",
    )
    run.add_argument(
        "--endpoint", metavar="URL", help="for openai-endpoint: http://HOST:PORT/v1; key in OPENAI_API_KEY"
    )
    run.add_argument("--tokenizer", metavar="DIR_OR_ID", help="for openai-endpoint: of the served model")
    run.add_argument(
        "--chat-template",
        choices=["on", "off"],
        help="for all tasks; default: what the suite says of each. A stated setting: scores compare within one only",
    )
    run.add_argument(
        "--bos",
        choices=["tokenizer", "added", "none"],
        default="tokenizer",
        help="the token that begins a text: as the tokenizer has it (default), put before prompts that lack it, or left out",
    )
    run.add_argument(
        "--sensitivity",
        action="store_true",
        help="then evaluate again with the chat template on and off, BOS, and the other precision: OUT/sensitivity.json",
    )


def add_rescore_options(rescore: argparse.ArgumentParser) -> None:
    """What `python -m evals rescore` takes: who judges may be named anew, what decides answers stands in the scorecard."""
    rescore.add_argument("directory", metavar="RUN", type=Path, help="a run's directory with scorecard.json and .evals")
    rescore.add_argument("--suite", help="default: the scorecard's; another may score the same tasks in another way")
    _add_judges(rescore)


def judges(args: argparse.Namespace) -> dict[str, Any]:
    """Who judges, as fields of Request."""
    names = ("baseline", "judge", "judge_endpoint", "judge_model")
    named = {name: getattr(args, name) for name in names}
    return {**named, "votes": tuple(args.votes), "truth_judges": _truth_judges(args.truth_judges)}


def _truth_judges(words: Sequence[str]) -> TruthJudges | None:
    """Both judges of truthfulness. Raises UsageError where one is missing, or is named twice."""
    from evals.suite import TruthJudges

    if not words:
        return None
    named = dict(word.partition("=")[::2] for word in words)
    if len(words) != 2 or named.keys() != {"truthful", "informative"} or not all(named.values()):
        raise UsageError(
            "answers are judged true and informative by a judge of each",
            where="--truth-judges",
            expected="truthful=DIR_OR_ID informative=DIR_OR_ID",
            found=" ".join(words),
            next_step="python -m evals train-scorer truthful --data FILE --out DIR makes one, and the same for informative",
        )
    return TruthJudges(**named)


def as_request(args: argparse.Namespace) -> Request:
    """The evaluation that the command line asks for."""
    from evals.run import Request

    return Request(
        source=args.checkpoint,
        suite=args.suite,
        out=args.out,
        limit=args.limit,
        dtype=args.dtype,
        batch_size=args.batch_size,
        device=args.device,
        seed=args.seed,
        backend=args.backend,
        endpoint=args.endpoint,
        tokenizer=args.tokenizer,
        chat_template={"on": True, "off": False}.get(args.chat_template),
        bos=args.bos,
        **judges(args),
    )
