"""`python -m training plan`: from a compute budget to a model, its memory and time, and the recipes that follow.

python -m training plan --flops 5.76e23
python -m training plan --gpus 64 --gpu h100-sxm --hours 720 --utilisation 0.4
python -m training plan --parameters 1.35e8 --gpus 1 --gpu rtx-4090 --out runs/plan

The arithmetic is compute_plan.py and device_memory.py; here it is asked for, told and written.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import yaml

from training.command import Result
from training.compute_plan import (
    GPUS,
    SCALING_LAWS,
    TRAINING,
    PostTraining,
    ScalingLaw,
    Shape,
    flops_of,
    hours_for,
    ppo_flops,
    reward_flops,
    sft_flops,
    shape_for,
)
from training.device_memory import device_memory
from training.errors import UsageError
from training.isoflop_plot import billions, isoflop_png
from training.ppo_recipe import GuardSettings, PPORecipe, PPOSettings
from training.recipe import DataSettings, Generation, RewardRecipe, SFTRecipe
from training.records import canonical_json, write_atomically
from training.yaml_file import Settings

GIVE_ONE = "one of --flops C, --parameters N, or --hours H with --gpus and --gpu"


def plan(args: argparse.Namespace) -> Result:
    """The command's result: a plan as a dict, with the same in words under "summary"."""
    law = SCALING_LAWS[args.fit]
    flops = _budget(args, law)
    best, best_tokens = law.optimum(flops)
    try:
        shape = shape_for(best, args.vocabulary)
    except ValueError as error:
        raise UsageError(
            "the model would be too small for its vocabulary, or larger than any shape known here",
            where=f"--vocabulary {args.vocabulary}, {flops:.3g} FLOPs",
            expected="between two layers of width 64 and a width of 131,072",
            found=str(error),
            next_step="give another budget, or a smaller --vocabulary",
        ) from error
    tokens = flops / TRAINING / shape.parameters
    after = PostTraining(**{field.name: getattr(args, field.name) for field in dataclasses.fields(PostTraining)})
    stages = {
        "pretraining": flops,
        "sft": sft_flops(shape.parameters, after),
        "reward": reward_flops(shape.parameters, after),
        "ppo": ppo_flops(shape.parameters, shape.parameters, after),
    }
    gpu, gpus = GPUS.get(args.gpu), args.gpus or 1
    hours = {name: hours_for(cost, gpu, gpus, args.utilisation) if gpu else None for name, cost in stages.items()}
    found: Result = {
        "fit": {"name": args.fit, **dataclasses.asdict(law)},
        "flops": flops,
        "optimum": {
            "parameters": best,
            "tokens": best_tokens,
            "tokens_per_parameter": best_tokens / best,
            "loss": law.loss(best, best_tokens),
        },
        "shape": {
            **dataclasses.asdict(shape),
            "parameters": shape.parameters,
            "tokens": tokens,
            "loss": law.loss(shape.parameters, tokens),
            "attention_share": shape.attention_share(args.context),
        },
        "hardware": {"gpu": args.gpu, "gpus": gpus, "utilisation": args.utilisation},
        "memory": [
            {
                **dataclasses.asdict(each),
                "total": each.total(checkpointing=False),
                "total_checkpointed": each.total(checkpointing=True),
                "fits": gpu and each.total(checkpointing=False) <= gpu.memory,
                "fits_checkpointed": gpu and each.total(checkpointing=True) <= gpu.memory,
            }
            for each in device_memory(shape, gpus, args.micro_batch, args.context)
        ],
        "stages": [{"stage": name, "flops": cost, "hours": hours[name]} for name, cost in stages.items()],
        "files": [],
    }
    found["summary"] = told(found, args)
    if args.out is not None:
        found["files"] = write(args.out, found, law, shape, after, gpus, args.context)
        found["summary"] += "\nwritten  " + "\n         ".join(found["files"])
    return found


def told(plan: Result, args: argparse.Namespace) -> str:
    """The plan in words, for a terminal."""
    best, shape, hardware = plan["optimum"], plan["shape"], plan["hardware"]
    lines = [
        f"{plan['flops']:.3g} FLOPs, by {plan['fit']['source']}",
        f"optimum  {billions(best['parameters'])} parameters, {billions(best['tokens'])} tokens "
        f"({best['tokens_per_parameter']:.1f} a parameter), loss {best['loss']:.3f}",
        f"shape    {billions(shape['parameters'])} parameters: {shape['layers']} layers, width {shape['width']}, "
        f"{shape['heads']} heads of {shape['head_dim']} with {shape['kv_heads']} keys, feed-forward "
        f"{shape['feed_forward']}, vocabulary {shape['vocabulary']}{' (tied)' if shape['tied'] else ''}",
        f"         {billions(shape['tokens'])} tokens, loss {shape['loss']:.3f}; attention over {args.context} tokens "
        f"adds {shape['attention_share']:.1%} to 6ND",
        "",
        f"memory on each of {hardware['gpus']} device{'s' if hardware['gpus'] > 1 else ''} in GB, "
        f"{args.micro_batch} x {args.context} tokens "
        + (
            f"({GPUS[args.gpu].memory / 1e9:.0f} GB on a {args.gpu}; * does not fit)"
            if args.gpu
            else "(no --gpu given)"
        ),
        f"  {'':<16}{'states':>10}{'gathered':>10}{'activations':>13}{'logits':>9}{'total':>11}{'checkpointed':>14}",
    ]
    for row in plan["memory"]:
        total, checkpointed = (
            f"{row[key] / 1e9:.2f}{'*' if row[fits] is False else ' '}"
            for key, fits in (("total", "fits"), ("total_checkpointed", "fits_checkpointed"))
        )
        lines.append(
            f"  {row['strategy']:<16}{row['states'] / 1e9:>10.2f}{row['gathered'] / 1e9:>10.2f}"
            f"{row['activations'] / 1e9:>13.2f}{row['logits'] / 1e9:>9.2f}{total:>12}{checkpointed:>14}"
        )
    lines += [
        "",
        "stage              FLOPs    of pretraining" + (f"    hours at {args.utilisation:.0%}" if args.gpu else ""),
    ]
    for stage in plan["stages"]:
        time = f"{stage['hours']:>16.2f}" if stage["hours"] is not None else ""
        lines.append(f"  {stage['stage']:<12}{stage['flops']:>10.3g}{stage['flops'] / plan['flops']:>18.3%}{time}")
    return "\n".join(lines)


def write(
    out: Path, plan: Result, law: ScalingLaw, shape: Shape, after: PostTraining, gpus: int, context: int
) -> list[str]:
    """Write the plan, the model's config, the curve, and a recipe for each stage that Slipway trains."""
    out.mkdir(parents=True, exist_ok=True)
    figures = {key: value for key, value in plan.items() if key not in ("summary", "files")}
    (out / "isoflop.png").write_bytes(isoflop_png(law, plan["flops"]))
    write_atomically(out / "config.json", canonical_json(llama_config(shape, context)))
    files = ["plan.json", "config.json", "isoflop.png"]
    for name, recipe in recipes(after, gpus).items():
        text = yaml.safe_dump(recipe.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
        note = (
            f"# {name}.yaml of a compute plan. Put the pretrained model into runs/pretrained (config.json beside this file\n"
            "# is its shape), and name your own data: the starter set is there so that the recipe runs as it is.\n"
            "# Learning rates are of InstructGPT's order (Ouyang et al. 2022, appendix C); small models take larger ones.\n"
        )
        write_atomically(out / f"{name}.yaml", (note + text).encode())
        files.append(f"{name}.yaml")
    write_atomically(out / "plan.json", canonical_json(figures))
    return [str(out / file) for file in files]


def llama_config(shape: Shape, context: int) -> dict[str, Any]:
    """transformers' config.json of a Llama of this shape, for sequences of up to `context` tokens."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.width,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": context,
        "tie_word_embeddings": shape.tied,
        "dtype": "bfloat16",
    }


def recipes(after: PostTraining, gpus: int) -> dict[str, Settings]:
    """A recipe for each stage, of the amounts that the plan counted: whole models, no adapters."""
    half = max(1, after.example_tokens // 2)
    data = DataSettings(source="starter")
    accumulate = max(1, 64 // gpus)
    batch = max(1, 512 // gpus) * gpus  # episodes of a PPO update
    return {
        "sft": SFTRecipe(
            method="sft",
            base="runs/pretrained",
            data=data.model_copy(update={"limit": after.sft_examples}),
            max_length=after.example_tokens,
            lora=None,
            args={
                "num_train_epochs": after.sft_epochs,
                "per_device_train_batch_size": 1,
                "gradient_accumulation_steps": max(1, 32 // gpus),
                "learning_rate": 9e-6,
            },
        ),
        "reward": RewardRecipe(
            method="reward",
            base="runs/sft",
            data=data.model_copy(update={"limit": after.pairs}),
            max_length=after.example_tokens,
            lora=None,
            args={
                "num_train_epochs": 1,
                "per_device_train_batch_size": 1,
                "gradient_accumulation_steps": accumulate,
                "learning_rate": 9e-6,
            },
        ),
        "ppo": PPORecipe(
            method="ppo",
            base="runs/sft",
            reward_model="runs/reward",
            prompts=data.model_copy(update={"heldout_split": "heldout", "heldout_limit": 256}),
            max_prompt_length=half,
            lora=None,
            generation=Generation(max_new_tokens=half),
            ppo=PPOSettings(
                total_episodes=after.episodes,
                batch_size=batch,
                mini_batch_size=accumulate * gpus,
                gradient_accumulation_steps=accumulate,
                num_ppo_epochs=after.ppo_epochs,
                learning_rate=9e-6,
            ),
            # A long run ends by itself where it goes wrong, and keeps its best policy: 25 measurements of half a rollout.
            guards=GuardSettings(
                max_kl=0.2 * half,  # nats a response: 0.2 a token
                max_length_change=4.0,
                heldout_every=max(1, after.episodes // (batch * 25)),
            ),
        ),
    }


def _budget(args: argparse.Namespace, law: ScalingLaw) -> float:
    given = [name for name in ("flops", "parameters", "hours") if getattr(args, name) is not None]
    if len(given) != 1:
        raise UsageError(
            "there is nothing to plan from" if not given else "there is more than one thing to plan from",
            where="python -m training plan",
            expected=GIVE_ONE,
            found=" and ".join(f"--{name}" for name in given) or "none of them",
            next_step="python -m training plan --flops 1e21",
        )
    if args.hours is not None and (args.gpu is None or args.gpus is None):
        raise UsageError(
            "hours are a budget only together with the machines",
            where="--hours",
            expected="--gpus N and --gpu NAME",
            found=f"--gpus {args.gpus}, --gpu {args.gpu}",
            next_step=f"python -m training plan --gpus 8 --gpu h100-sxm --hours {args.hours:g}",
        )
    if args.flops is not None:
        return float(args.flops)
    if args.parameters is not None:
        return law.budget(args.parameters)
    return flops_of(GPUS[args.gpu], args.gpus, args.hours, args.utilisation)
