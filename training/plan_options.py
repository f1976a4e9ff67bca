"""The options of `python -m training plan`, each number checked where it is read."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
from collections.abc import Callable
from pathlib import Path

from training.compute_plan import GPUS, SCALING_LAWS, PostTraining
from training.errors import UsageError

MOST_DIGITS = 12  # of a count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    what = parser.add_argument_group("what there is, exactly one of these")
    what.add_argument("--flops", type=_number("--flops", most=1e35), metavar="C", help="a budget of FLOPs, e.g. 1e21")
    what.add_argument(
        "--parameters", type=_number("--parameters", most=1e20), metavar="N", help="a model's size, e.g. 1.35e8"
    )
    what.add_argument("--hours", type=_number("--hours", most=1e9), metavar="H", help="hours on --gpus of --gpu")
    on = parser.add_argument_group("where it runs")
    on.add_argument("--gpus", type=_count("--gpus"), metavar="N", help="how many GPUs (1 if left out)")
    on.add_argument("--gpu", type=_gpu, metavar="NAME", help=f"one of {', '.join(GPUS)}")
    on.add_argument(
        "--utilisation",
        type=_number("--utilisation", most=1.0),
        default=0.4,
        help="share of the peak that the model's FLOPs reach (0.4)",
    )
    on.add_argument("--micro-batch", type=_count("--micro-batch"), default=1, help="sequences at once on a GPU (1)")
    on.add_argument("--context", type=_count("--context"), default=2048, help="tokens of a sequence (2048)")
    model = parser.add_argument_group("the model")
    model.add_argument("--fit", choices=sorted(SCALING_LAWS), default="besiroglu", help="the scaling law (besiroglu)")
    model.add_argument("--vocabulary", type=_count("--vocabulary"), default=32_768, help="tokens known (32768)")
    after = parser.add_argument_group("what follows pretraining (InstructGPT's amounts)")
    for field in dataclasses.fields(PostTraining):
        name = f"--{field.name.replace('_', '-')}"
        # A prompt and an answer of which the recipes take halves need a few tokens each.
        parse = _count(name, least=16 if field.name == "example_tokens" else 1)
        after.add_argument(name, type=parse, default=field.default, help=f"({field.default})")
    parser.add_argument("--out", type=Path, help="write plan.json, config.json, isoflop.png and recipes here")


def _number(option: str, most: float = math.inf) -> Callable[[str], float]:
    """A parser of positive finite numbers that says which option was wrong."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not (0 < value < math.inf and value <= most):
            raise UsageError(
                f"{option} is not a number that a plan can be made of",
                where="python -m training plan",
                expected="a number above 0" + (f" and at most {most:g}" if most < math.inf else ""),
                found=text,
                next_step=f"give {option} such a number, e.g. {option} {0.4 if most <= 1 else '1e9'}",
            )
        return value

    return parse


def _count(option: str, least: int = 1) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or len(text) > MOST_DIGITS or int(text) < least:
            raise UsageError(
                f"{option} is not a count that a plan can be made of",
                where="python -m training plan",
                expected=f"a whole number of at least {least} and at most {MOST_DIGITS} digits",
                found=text[:60],
                next_step=f"give {option} such a number, e.g. {option} {8 * least}",
            )
        return int(text)

    return parse


def _gpu(name: str) -> str:
    if name not in GPUS:
        close = difflib.get_close_matches(name, GPUS, n=1)
        raise UsageError(
            "unknown GPU",
            where="--gpu",
            expected="one of " + ", ".join(GPUS),
            found=name,
            next_step=f"--gpu {close[0]}" if close else "give --flops instead: peak FLOP/s x seconds x utilisation",
        )
    return name
