"""PPO in episodes a second, beside TRL 1.12.0's PPOTrainer, the last TRL with PPO, on the same work.

    python benchmarks/ppo.py runs/base/checkpoint
    python benchmarks/ppo.py runs/base/checkpoint --only ours-lora --updates 5

Prompts of 48 random tokens, answers of 32, batches of 16 episodes; four epochs of one mini batch, which is the default of both.
No answer ends early on either side: the token that would end it is none of the model's. Full fine-tuning, and adapters (r = 16, on
every product) on the layers from `--lora-from` on: that is the upper third of SmolLM2-135M, as in the starter recipes. The reward
model has the policy's weights and a random head, for only its cost matters.

Each contestant has a process of its own, which measures its peak memory. Ours is what `python -m training ppo` runs, with
`keep_from_sampling` and `master_weights`; `ours-*-default` is without both. TRL runs in an environment beside this one's, which
is made at first (`--peer`): its packages are this one's but for TRL itself. Its four models are in the same precision, and
gradient checkpointing, TRL's default, is off: it computes activations twice. Operations are those of the products that an
update makes, counted by torch in the first, whose time is not used; the machine's rate is the best of ten of the vocabulary's
product on 512 tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import site
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROMPT_TOKENS, ANSWER_TOKENS, EPISODES = 48, 32, 16
ADAPTED = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONTESTANTS = ("ours-full", "trl-full", "ours-lora", "trl-lora", "ours-full-default", "ours-lora-default")
TRL = "trl==1.12.0"


def peer_python(folder: Path) -> Path:
    """The Python of an environment with TRL 1.12.0 over this environment's packages; made where there is none."""
    python = folder / "bin" / "python"
    if not (folder / "made").is_file():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        where = subprocess.run(
            [python, "-c", "import site; print(site.getsitepackages()[0])"], check=True, capture_output=True, text=True
        ).stdout.strip()
        (Path(where) / "below.pth").write_text("\n".join(site.getsitepackages()))
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", TRL], check=True)
        (folder / "made").touch()
    return python


def work_of(args: argparse.Namespace, name: str, scratch: str) -> dict[str, Any]:
    """What a contestant is to do, the same for both."""
    draw = random.Random(0)
    config = json.loads((args.checkpoint / "config.json").read_text())
    layers = list(range(args.lora_from, config["num_hidden_layers"]))
    adapters = {"r": 16, "lora_alpha": 32, "target_modules": ADAPTED, "layers_to_transform": layers}
    return {
        "checkpoint": str(args.checkpoint),
        "dtype": args.dtype,
        "lora": adapters if "lora" in name else None,
        "kept": not name.endswith("-default"),
        "episodes": EPISODES,
        "mini_batch": args.mini_batch,
        "epochs": args.epochs,
        "updates": args.updates,
        "answer_tokens": ANSWER_TOKENS,
        "learning_rate": 1e-6,
        "gradient_checkpointing": False,
        "scratch": scratch,
        "prompts": [
            [draw.randrange(100, config["vocab_size"]) for _ in range(PROMPT_TOKENS)] for _ in range(4 * EPISODES)
        ],
    }


def make_ppo(work: dict[str, Any]) -> Any:
    """PPO as `python -m training ppo` makes it, but with a reward model that was not trained."""
    import torch
    from transformers import AutoModelForSequenceClassification

    from training.checkpoint import Checkpoint
    from training.grouped_attention import use_grouped_attention
    from training.policy import ActorCritic
    from training.ppo import PPO
    from training.ppo_recipe import PPORecipe, PPOSettings
    from training.pretrained import load_policy
    from training.processes import launched_accelerator
    from training.recipe import DataSettings, Generation, LoraSettings
    from training.rewards import RewardModel

    opened = Checkpoint.open(Path(work["checkpoint"]))
    lora = LoraSettings(**work["lora"]) if work["lora"] else None
    recipe = PPORecipe(
        method="ppo",
        base=work["checkpoint"],
        reward_model="of the same weights",
        prompts=DataSettings(source="starter"),
        dtype=work["dtype"],
        lora=lora,
        generation=Generation(max_new_tokens=work["answer_tokens"]),
        ppo=PPOSettings(
            batch_size=work["episodes"],
            mini_batch_size=work["mini_batch"],
            num_ppo_epochs=work["epochs"],
            learning_rate=work["learning_rate"],
            keep_from_sampling=work["kept"],
            master_weights=work["kept"] and lora is None,
        ),
    )
    accelerator = launched_accelerator(recipe)
    model, tokenizer = load_policy(opened, recipe.weights_dtype)
    tokenizer.add_special_tokens({"eos_token": "<|never|>"})  # outside the model's vocabulary, so no answer ends early
    torch.manual_seed(0)
    dtype = getattr(torch, work["dtype"])
    classifier = AutoModelForSequenceClassification.from_pretrained(opened.path, num_labels=1, dtype=dtype).eval()
    use_grouped_attention(classifier)
    classifier.requires_grad_(False).to(accelerator.device)
    rewards = RewardModel(classifier, tokenizer, opened.digest)
    return PPO(recipe, ActorCritic(model, lora), tokenizer, rewards, work["prompts"], accelerator)


def run_ours(work: dict[str, Any]) -> dict[str, Any]:
    from torch.utils.flop_counter import FlopCounterMode

    from training.allocator import keep_freed_memory

    keep_freed_memory()
    ppo = make_ppo(work)
    with FlopCounterMode(display=False) as counter:
        ppo.update()
    lines = [ppo.update() for _ in range(work["updates"])]
    assert {line["response_tokens"] for line in lines} == {float(work["answer_tokens"])}
    return {
        "seconds": [line["seconds"] for line in lines],
        "sampling": [line["seconds_sampling"] for line in lines],
        "operations": counter.get_total_flops(),
        "peak_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "rate": product_rate(ppo.actor.language_model, work["dtype"]),
    }


def product_rate(model: Any, dtype: str) -> float:
    """Operations a second of the vocabulary's product on 512 tokens: the best of ten, 2 a multiply-add."""
    import torch

    weight = model.get_output_embeddings().weight.detach().to(getattr(torch, dtype))
    tokens = torch.randn(512, weight.shape[1], dtype=weight.dtype, device=weight.device)
    best = 0.0
    with torch.no_grad():
        for _ in range(10):
            clock = time.monotonic()
            float(torch.nn.functional.linear(tokens, weight)[0, 0])  # a number of it, so that a GPU has finished
            best = max(best, 2 * 512 * weight.numel() / (time.monotonic() - clock))
    return best


def run_contestant(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """One contestant in a process of its own."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "work.json"
        file.write_text(json.dumps(work_of(args, name, scratch)))
        here = Path(__file__).resolve()
        environment = {**os.environ, "TRL_EXPERIMENTAL_SILENCE": "1", "HF_HUB_OFFLINE": "1"}
        if name.startswith("trl"):
            command = [str(peer_python(args.peer)), str(here.parent / "ppo_trl.py"), str(file)]
        else:
            command = [sys.executable, str(here), str(args.checkpoint), "--work", str(file)]
            environment["PYTHONPATH"] = str(here.parent.parent)
        done = subprocess.run(command, capture_output=True, check=False, text=True, env=environment)
    if done.returncode:
        sys.exit(f"{name} ended with exit code {done.returncode}:\n{done.stderr[-3000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--lora-from", type=int, default=20, metavar="N", help="the lowest layer with adapters")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--mini-batch", type=int, default=EPISODES)
    parser.add_argument("--updates", type=int, default=2, help="updates that are timed, after one that is not")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--peer", type=Path, default=Path("runs/trl-1.12"), help="where the peer's environment is made")
    parser.add_argument("--only", choices=CONTESTANTS, action="append", help="these contestants, not all")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)  # a contestant's own process
    args = parser.parse_args()
    if args.work:
        print(json.dumps(run_ours(json.loads(args.work.read_text()))))
        return
    names = args.only or CONTESTANTS
    if any(name.startswith("trl") for name in names):
        peer_python(args.peer)
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        found[name] = run_contestant(args, name)
        print(f"{name}: {json.dumps(found[name])}", file=sys.stderr, flush=True)
    rate = max([one["rate"] for one in found.values() if "rate" in one], default=0.0)
    yardstick = statistics.median(found["trl-full"]["seconds"]) if "trl-full" in found else None
    print(
        f"{args.dtype}, {args.epochs} epochs, mini batches of {args.mini_batch}, {rate / 1e9:.0f} GFLOP/s in products"
    )
    print(
        "| | episodes/s | times TRL, full | peak memory | TFLOP an update | of the products' rate |\n|---|---|---|---|---|---|"
    )
    for name, one in found.items():
        seconds = statistics.median(one["seconds"])
        times = f"{yardstick / seconds:.2f}" if yardstick else ""
        share = f"{one['operations'] / seconds / rate:.0%}" if rate else ""
        print(
            f"| {name} | {EPISODES / seconds:.3f} | {times} | {one['peak_memory'] / 2**30:.2f} GiB "
            f"| {one['operations'] / 1e12:.2f} | {share} |"
        )


if __name__ == "__main__":
    main()
