"""What a run forgot: the loss of checkpoints on the same held-out answers, and their paired differences.

    python benchmarks/heldout_loss.py runs/base runs/ppo runs/ppo-ptx --source openai/gsm8k --name main --split test --rows 150

Loss is in nats a learned token, over all tokens of all answers. A difference is of the same rows, with its standard
error. Each checkpoint is compared with the first, and with the one before it.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from training.chat import demonstration_ids
from training.demonstrations import load_demonstrations
from training.precision import chosen_dtype
from training.pretrained import load_policy, resolve_base
from training.recipe import DataSettings
from training.run_directory import training_device
from training.sequence_logprobs import Learned, learned_logprobs, loss_change


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "checkpoints", nargs="+", help="runs or checkpoints; the first is what the others are compared with"
    )
    parser.add_argument(
        "--source", required=True, help="as in a recipe's data: demonstrations, or pairs, whose chosen answer counts"
    )
    parser.add_argument("--name")
    parser.add_argument("--split", default="test")
    parser.add_argument("--rows", type=int, default=150)
    parser.add_argument("--max-length", type=int, default=384, help="tokens; longer rows are left out")
    parser.add_argument("--json", type=Path, help="where the figures go as JSON")
    args = parser.parse_args()
    settings = DataSettings(source=args.source, name=args.name, split=args.split, heldout_fraction=0.0, limit=args.rows)
    rows = load_demonstrations(settings, seed=0).train
    dtype = chosen_dtype("auto", training_device())
    found: dict[str, list[Learned]] = {}
    for name in args.checkpoints:
        model, tokenizer = load_policy(resolve_base(name).checkpoint, dtype)
        sequences = [demonstration_ids(tokenizer, row.prompt, row.completion) for row in rows]
        short = [each for each in sequences if len(each[0]) <= args.max_length]
        found[name] = learned_logprobs(model, short, tokenizer.pad_token_id)
        print(f"{name}: {len(short)} rows, {sum(row.tokens for row in found[name])} tokens", flush=True)
    figures = []
    for index, name in enumerate(args.checkpoints):
        loss = -sum(row.total for row in found[name]) / sum(row.tokens for row in found[name])
        line = {"checkpoint": name, "loss": loss}
        for key, other in (("first", args.checkpoints[0]), ("previous", args.checkpoints[index - 1])):
            if index:
                line[f"less_{key}"], line[f"less_{key}_stderr"] = loss_change(found[other], found[name])
        figures.append(line)
        print(
            "  ".join(f"{key} {value:.4f}" if isinstance(value, float) else str(value) for key, value in line.items())
        )
    if args.json:
        args.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
