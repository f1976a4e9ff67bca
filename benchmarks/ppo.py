"""PPO in episodes a second, and what fraction of this machine's matrix-product rate its updates reach.

    python benchmarks/ppo.py runs/base/checkpoint
    python benchmarks/ppo.py runs/base/checkpoint --lora 20 --updates 3

Prompts of 48 tokens, answers of up to 32, batches of 16 with a reward model of the policy's size (its head is random, for only
its cost matters); one epoch in mini batches of 8. `--lora N` puts adapters on the layers from N on, for policy and reward model
alike, so that the layers below are computed once; without it every weight learns. Operations are those of the products that an
update makes, counted by torch in the first one and taken in proportion to the tokens of the others; the machine's rate is the
best of ten of one large layer's product.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path
from typing import Any

PROMPT_TOKENS, ANSWER_TOKENS, EPISODES, MINI_BATCH = 48, 32, 16, 8
ADAPTED = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def make_ppo(checkpoint: Path, lora_from: int | None, dtype: str) -> Any:
    """PPO on random prompts, with a reward model of the same weights."""
    import torch
    from accelerate import Accelerator
    from transformers import AutoModelForSequenceClassification

    from training.checkpoint import Checkpoint
    from training.policy import ActorCritic
    from training.ppo import PPO
    from training.pretrained import load_policy
    from training.recipe import DataSettings, Generation, LoraSettings, PPORecipe, PPOSettings
    from training.rewards import RewardModel

    opened = Checkpoint.open(checkpoint)
    model, tokenizer = load_policy(opened, dtype)
    lora = None
    if lora_from is not None:
        layers = list(range(lora_from, model.config.num_hidden_layers))
        lora = LoraSettings(target_modules=ADAPTED, layers_to_transform=layers)
    recipe = PPORecipe(
        method="ppo",
        base=str(checkpoint),
        reward_model="of the same weights",
        prompts=DataSettings(source="starter"),
        dtype=dtype,
        lora=lora,
        generation=Generation(max_new_tokens=ANSWER_TOKENS),
        ppo=PPOSettings(batch_size=EPISODES, mini_batch_size=MINI_BATCH, num_ppo_epochs=1, learning_rate=1e-6),
    )
    torch.manual_seed(0)
    classifier = AutoModelForSequenceClassification.from_pretrained(
        checkpoint, num_labels=1, dtype=getattr(torch, dtype)
    ).eval()
    rewards = RewardModel(classifier.requires_grad_(False), tokenizer, opened.digest)
    draw = random.Random(0)
    prompts = [[draw.randrange(100, len(tokenizer)) for _ in range(PROMPT_TOKENS)] for _ in range(4 * EPISODES)]
    accelerator = Accelerator()
    classifier.to(accelerator.device)
    return PPO(recipe, ActorCritic(model, lora), tokenizer, rewards, prompts, accelerator)


def product_rate(model: Any) -> float:
    """Operations a second of this model's largest layer product on 512 tokens: the best of ten, 2 a multiply-add."""
    import torch

    weight = max((layer.weight for layer in model.base_model.modules() if isinstance(layer, torch.nn.Linear)), key=len)
    tokens = torch.randn(512, weight.shape[1], dtype=weight.dtype, device=weight.device)
    best = 0.0
    with torch.no_grad():
        for _ in range(10):
            clock = time.monotonic()
            for _ in range(5):
                float(torch.nn.functional.linear(tokens, weight)[0, 0])  # a number of it, so that a GPU has finished
            best = max(best, 5 * 2 * 512 * weight.numel() / (time.monotonic() - clock))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--lora", type=int, metavar="N", help="adapters on the layers from N on; else full fine-tuning")
    parser.add_argument("--updates", type=int, default=2, help="updates that are timed, after one that is not")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    args = parser.parse_args()

    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from training.allocator import keep_freed_memory

    keep_freed_memory()
    ppo = make_ppo(args.checkpoint, args.lora, args.dtype)
    model = ppo.actor.language_model
    rate = product_rate(model)
    print(
        f"{args.dtype} on {ppo.accelerator.device}, {torch.get_num_threads()} threads, {rate / 1e9:.1f} GFLOP/s in products"
    )
    print(f"frozen layers {ppo.actor.frozen_layers}, shared with the reward model: {ppo.trunk_is_shared}")
    with FlopCounterMode(display=False) as counter:
        counted = ppo.update()
    operations = counter.get_total_flops() / (PROMPT_TOKENS + counted["response_tokens"])
    for _ in range(args.updates):
        line = ppo.update()
        reached = operations * (PROMPT_TOKENS + line["response_tokens"]) / line["seconds"]
        print(
            f"{EPISODES / line['seconds']:.3f} episodes/s  {line['seconds']:.2f} s ({line['seconds_sampling']:.2f} for rollouts)  "
            f"{line['response_tokens']:.1f} tokens an answer  {reached / 1e9:.1f} GFLOP/s, {reached / rate:.0%} of the rate"
        )


if __name__ == "__main__":
    main()
