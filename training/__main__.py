"""Train a checkpoint.

python -m training base smollm2-135m-instruct --out runs/base
python -m training reward --recipe reward-starter --out runs/reward
python -m training ppo --recipe ppo-starter --out runs/ppo ppo.total_episodes=256
python -m training plan --flops 5.76e23
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training.allocator import keep_freed_memory
from training.command import Parser, Result, quiet_libraries
from training.plan_command import add_arguments as add_plan_arguments
from training.plan_command import plan
from training.recipe import PPORecipe, RewardRecipe, find_recipe
from training.run_record import RunRecord
from training.yaml_file import load


def main(argv: Sequence[str] | None = None) -> int:
    quiet_libraries()
    parser = Parser("python -m training", "Train a checkpoint and record how.")
    base = parser.command("base", "Unpack a base model (Hub id, directory, GGUF) into a checkpoint.", _base)
    base.add_argument("source", help="a Hub id[@revision], a directory, a .gguf file, or smollm2-135m-instruct")
    base.add_argument("--out", type=Path, required=True, help="the run's directory, e.g. runs/base")
    base.add_argument(
        "--license", metavar="ID", help="the model's licence by the Hub's id, where the source names none"
    )
    for name, description, run in (
        ("reward", "Train a reward model on preference pairs (TRL's RewardTrainer).", _reward),
        ("ppo", "Align a policy with PPO against a reward model.", _ppo),
    ):
        command = parser.command(name, description, run)
        command.add_argument("--recipe", required=True, help=f"a YAML file, or {name}-starter, which ships")
        command.add_argument("--out", type=Path, required=True, help="the run's directory, e.g. runs/ID")
        command.add_argument(
            "overrides", nargs="*", metavar="key=value", help="values that take precedence over the recipe's"
        )
    add_plan_arguments(parser.command("plan", "Plan model, data, memory and time from a compute budget.", plan))
    return parser.run(argv)


def _base(args: argparse.Namespace) -> Result:
    from training.pretrained import write_base

    return _result(write_base(args.source, args.out, args.license), args.out)


def _reward(args: argparse.Namespace) -> Result:
    recipe = load(find_recipe(args.recipe), RewardRecipe, args.overrides)
    keep_freed_memory()
    from training.reward import train_reward_model

    return _result(train_reward_model(recipe, args.out), args.out)


def _ppo(args: argparse.Namespace) -> Result:
    recipe = load(find_recipe(args.recipe), PPORecipe, args.overrides)
    keep_freed_memory()
    from training.ppo_run import train_ppo

    return _result(train_ppo(recipe, args.out), args.out)


def _result(record: RunRecord, out: Path) -> Result:
    figures: dict[str, Any] = {name: round(value, 4) for name, value in record.metrics.items()}
    lines = [f"{out / 'checkpoint'}", f"  digest   {record.checkpoint_digest}", f"  seconds  {record.seconds}"]
    lines += [f"  {name:<24} {value}" for name, value in figures.items()]
    return {
        "checkpoint": str(out / "checkpoint"),
        "digest": record.checkpoint_digest,
        "method": record.method,
        "seconds": record.seconds,
        "metrics": figures,
        "summary": "\n".join(lines),
    }


if __name__ == "__main__":
    sys.exit(main())
