"""Train a checkpoint.

python -m training base smollm2-135m-instruct --out runs/base
python -m training sft --recipe sft-starter --out runs/sft
python -m training reward --recipe reward-starter --out runs/reward
python -m training dpo --recipe dpo-starter --out runs/dpo args.beta=0.2
python -m training ppo --recipe ppo-starter --out runs/ppo ppo.total_episodes=256
python -m training grpo --recipe grpo-starter --out runs/grpo
python -m training ilql --recipe ilql-starter --out runs/ilql
python -m training best-of-n --recipe best-of-n-starter --out runs/best-of-n
python -m training report runs/ppo
python -m training sweep --method ppo --recipe ppo-starter --over sweep.yaml --out runs/sweep
python -m training merge runs/lora --base runs/base --out runs/merged
python -m training plan --flops 5.76e23
python -m training feedback org/name-votes --out runs/feedback
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from training.allocator import keep_freed_memory
from training.command import Parser, Result, quiet_libraries
from training.energy import Circumstances, circumstances, measuring
from training.energy import add_arguments as add_energy_arguments
from training.feedback import add_arguments as add_feedback_arguments
from training.feedback import run_feedback
from training.feedback_exchange import add_arguments as add_exchange_arguments
from training.feedback_exchange import run_feedback_exchange
from training.feedback_pairs import add_arguments as add_pairs_arguments
from training.feedback_pairs import run_feedback_pairs
from training.ilql_recipe import ILQLRecipe
from training.plan_command import plan
from training.plan_options import add_arguments as add_plan_arguments
from training.ppo_recipe import PPORecipe
from training.processes import alone
from training.recipe import (
    BestOfNRecipe,
    DPORecipe,
    GRPORecipe,
    KTORecipe,
    RewardRecipe,
    RLOORecipe,
    SFTRecipe,
    find_recipe,
)
from training.run_record import RunRecord
from training.sweep import add_arguments as add_sweep_arguments
from training.sweep import run_sweep
from training.thumbs import add_arguments as add_thumbs_arguments
from training.thumbs import run_feedback_thumbs
from training.yaml_file import Settings, load


@dataclass(frozen=True)
class Method:
    """A way to train: its recipe, and the module and function that take it. Imported when it is asked for, with torch."""

    description: str
    recipe: type[Settings]
    module: str
    function: str


METHODS = {
    "sft": Method("Fine-tune on demonstrations (TRL's SFTTrainer).", SFTRecipe, "training.sft", "train_sft"),
    "reward": Method(
        "Train a reward model on preference pairs (TRL's RewardTrainer).",
        RewardRecipe,
        "training.reward",
        "train_reward_model",
    ),
    "ppo": Method(
        "Align a policy with PPO against a reward model, a function or a server.",
        PPORecipe,
        "training.ppo_run",
        "train_ppo",
    ),
    "rloo": Method(
        "Align a policy with RLOO against a reward model, a function or a server (TRL's RLOOTrainer).",
        RLOORecipe,
        "training.rloo",
        "train_rloo",
    ),
    "grpo": Method(
        "Align a policy with GRPO against a reward model, a function or a server (TRL's GRPOTrainer).",
        GRPORecipe,
        "training.grpo",
        "train_grpo",
    ),
    "dpo": Method(
        "Align a policy with DPO on preference pairs (TRL's DPOTrainer).", DPORecipe, "training.dpo", "train_dpo"
    ),
    "kto": Method(
        "Align a policy with KTO on answers marked good or bad (TRL's KTOTrainer).",
        KTORecipe,
        "training.kto",
        "train_kto",
    ),
    "ilql": Method(
        "Learn offline from answers with rewards (implicit language Q-learning), and steer by value.",
        ILQLRecipe,
        "training.ilql_run",
        "train_ilql",
    ),
}


NO_INTERVAL = "none, of a single value"


def main(argv: Sequence[str] | None = None) -> int:
    quiet_libraries()
    parser = Parser("python -m training", "Train a checkpoint and record how.")

    def single(name: str, description: str, run: Callable[[argparse.Namespace], Result]) -> argparse.ArgumentParser:
        return parser.command(name, description, alone(name, run))

    base = single("base", "Unpack a base model (Hub id, directory, GGUF) into a checkpoint.", _base)
    base.add_argument("source", help="a Hub id[@revision], a directory, a .gguf file, or smollm2-135m-instruct")
    base.add_argument("--out", type=Path, required=True, help="the run's directory, e.g. runs/base")
    base.add_argument(
        "--license", metavar="ID", help="the model's licence by the Hub's id, where the source names none"
    )
    add_energy_arguments(base)
    from_recipes: dict[str, tuple[str, Callable[[argparse.Namespace], Result]]] = {
        name: (method.description, partial(_train, method)) for name, method in METHODS.items()
    }
    best_of_n = "Choose the best of n sampled answers as demonstrations for sft."
    from_recipes["best-of-n"] = (best_of_n, alone("best-of-n", _best_of_n))
    for name, (description, run) in from_recipes.items():
        command = parser.command(name, description, run)
        command.add_argument("--recipe", required=True, help=f"a YAML file, or {name}-starter, which ships")
        command.add_argument("--out", type=Path, required=True, help="the run's directory, e.g. runs/ID")
        command.add_argument(
            "overrides", nargs="*", metavar="key=value", help="values that take precedence over the recipe's"
        )
        add_energy_arguments(command)
    merge = single("merge", "Merge an adapter into its base model, and check the logits.", _merge)
    merge.add_argument("adapter", type=Path, help="a directory that peft's save_pretrained wrote")
    merge.add_argument("--base", help="the base model (what the adapter names, if left out)")
    merge.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16", help="of the merged weights")
    merge.add_argument("--out", type=Path, required=True, help="the run's directory, e.g. runs/merged")
    add_energy_arguments(merge)
    report = single("report", "Draw the curves of a run's metrics.jsonl as one HTML page.", _report)
    report.add_argument(
        "directory", type=Path, metavar="RUN", help="the run's directory, finished or not, e.g. runs/ppo"
    )
    report.add_argument("--out", type=Path, metavar="FILE", help="the page's file (RUN/report.html, if left out)")
    add_plan_arguments(single("plan", "Plan model, data, memory and time from a compute budget.", plan))
    sweep = "Try values of a recipe, each as an ordinary run, and tell which did best."
    add_sweep_arguments(single("sweep", sweep, _sweep))
    feedback = "Turn votes into a report, preference and KTO data, and a record."
    add_feedback_arguments(single("feedback", feedback, run_feedback))
    pairs = "Answer prompts with two checkpoints, or twice with one, for people to judge."
    add_pairs_arguments(single("feedback-pairs", pairs, run_feedback_pairs))
    thumbs = "Turn the thumbs of a chat Space into KTO data, and a record."
    add_thumbs_arguments(single("feedback-thumbs", thumbs, run_feedback_thumbs))
    exchange = "Pairs and votes to and from the files of Argilla and Label Studio."
    add_exchange_arguments(single("feedback-exchange", exchange, run_feedback_exchange))
    return parser.run(argv)


def _base(args: argparse.Namespace) -> Result:
    from training.base_run import write_base

    with measuring(circumstances(args)):
        return _result(write_base(args.source, args.out, args.license), args.out)


def _train(method: Method, args: argparse.Namespace) -> Result:
    recipe, given = load(find_recipe(args.recipe), method.recipe, args.overrides), circumstances(args)
    keep_freed_memory()
    from training.memory_check import require_memory
    from training.trackers import require_trackers

    require_trackers(recipe, args.out)
    require_memory(recipe, args.out)
    train = getattr(importlib.import_module(method.module), method.function)
    with _attempt(given):
        return _result(train(recipe, args.out), args.out)


@contextmanager
def _attempt(given: Circumstances) -> Iterator[None]:
    """A command's part of a run: its energy is measured, and its directory is another's afterwards."""
    from training.directory_lock import let_go

    try:
        with measuring(given):
            yield
    finally:
        let_go()


def _sweep(args: argparse.Namespace) -> Result:
    return run_sweep(args, METHODS[args.method].recipe)


def _merge(args: argparse.Namespace) -> Result:
    from training.merge import merge_adapter

    with measuring(circumstances(args)):
        return _result(merge_adapter(args.adapter, args.base, args.out, args.dtype), args.out)


def _best_of_n(args: argparse.Namespace) -> Result:
    recipe = load(find_recipe(args.recipe), BestOfNRecipe, args.overrides)
    keep_freed_memory()
    from training.best_of_n import sample_best
    from training.best_of_n_record import DEMONSTRATIONS, PREFERENCES

    with _attempt(circumstances(args)):
        record = sample_best(recipe, args.out)
    files = {"demonstrations": str(args.out / DEMONSTRATIONS)}
    if record.preferences_sha256:
        files["preferences"] = str(args.out / PREFERENCES)
    if not record.preferences:
        files.pop("preferences", None)  # it is empty
    lines = [*files.values(), "  n   reward            gain              KL at most"]
    lines += [
        f"  {row.n:<3} {_with_error(row.reward, row.stderr)}    {_with_error(row.gain, row.gain_stderr)}    {row.kl_bound:.3f}"
        for row in record.best_of
    ]
    if not record.preferences:
        lines.append("  no preferences: no prompt had two whole answers of different rewards")
    if any(row.stderr is None for row in record.best_of):
        lines.append("  no standard errors: there was one prompt")
    return {
        **files,
        "rows": record.demonstrations,
        "pairs": record.preferences,
        "prompts_without_a_whole_answer": record.prompts_without_a_whole_answer,
        "best_of": [row.model_dump(mode="json") for row in record.best_of],
        "summary": "\n".join(lines),
    }


def _with_error(value: float, stderr: float | None) -> str:
    return f"{value:+.3f}" + (f" ± {stderr:.3f}" if stderr is not None else "        ")


def _report(args: argparse.Namespace) -> Result:
    from training.report import report

    return report(args.directory, args.out)


def _shown(value: float | None) -> float | int | None:
    """A metric as the terminal shows it: four digits behind the point, and counts without any."""
    if value is None:
        return None
    return int(value) if float(value).is_integer() and abs(value) >= 2 else round(value, 4)


def _result(record: RunRecord, out: Path) -> Result:
    figures: dict[str, Any] = {name: _shown(value) for name, value in record.metrics.items()}
    lines = [f"{out / 'checkpoint'}", f"  digest   {record.checkpoint_digest}", f"  seconds  {record.seconds}"]
    width = max([24, *map(len, figures)])
    lines += [f"  {name:<{width}} {NO_INTERVAL if value is None else value}" for name, value in figures.items()]
    energy = record.energy
    if energy is not None and energy.kwh is not None:
        lines.append(f"  {'energy':<{width}} {energy.kwh:.4g} kWh{', estimated' if energy.estimate else ''}")
    return {
        "checkpoint": str(out / "checkpoint"),
        "digest": record.checkpoint_digest,
        "method": record.method,
        "seconds": record.seconds,
        "energy": energy.model_dump(mode="json") if energy is not None else None,
        "metrics": figures,
        **({"stopped": record.stopped} if record.stopped else {}),
        "summary": "\n".join(lines),
    }


if __name__ == "__main__":
    sys.exit(main())
