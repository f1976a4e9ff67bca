"""The processes of a training run of our own, as they were launched: one on a CPU or a GPU, or many that know of each other."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from training.command import Result
from training.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from training.ilql_recipe import ILQLRecipe
    from training.ppo_recipe import PPORecipe


def launched_processes() -> int:
    """How many processes torchrun or `accelerate launch` started for this run; 1 where neither did."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def alone(name: str, run: Callable[[Namespace], Result]) -> Callable[[Namespace], Result]:
    """The command `name` as one process: launched as several, each would do all of it, into the same files."""

    def run_alone(args: Namespace) -> Result:
        processes = launched_processes()
        if processes > 1:
            raise UsageError(
                f"{name} is work for one process",
                expected="one process",
                found=f"{processes}, by accelerate launch or torchrun (WORLD_SIZE)",
                next_step=f"python -m training {name} ..., without the launcher",
            )
        return run(args)

    return run_alone


def launched_accelerator(recipe: PPORecipe | ILQLRecipe) -> Accelerator:
    """accelerate's view of them. Full fine-tuning autocasts from float32, unless its optimizer holds the weights' float32 copies.

    Raises UsageError where several processes were launched that would each train on its own, into one directory, and for a launch
    in parts that the method or this installation does not know.
    """
    from accelerate import Accelerator
    from accelerate.utils import GradientAccumulationPlugin

    from training.ppo_recipe import PPORecipe
    from training.sharding import layout, share_out_on_cpus
    from training.zero3 import read_whole

    parts, ppo = parts_asked_for(), isinstance(recipe, PPORecipe)
    # Whatever accelerate makes of it: on CPUs it would leave the model whole and not say so.
    if parts is not None and not ppo:
        raise UsageError(
            f"{recipe.method} runs data parallel only",
            expected="accelerate launch --multi_gpu --num_processes N",
            found=f"a launch with {parts}",
            next_step="launch it without a configuration file for FSDP or DeepSpeed",
        )
    if parts == "DeepSpeed" and find_spec("deepspeed") is None:
        raise UsageError(
            "the launch asks for DeepSpeed, which is not installed", next_step="pip install 'slipway[zero3]'"
        )
    autocasts = (
        recipe.autocasts if isinstance(recipe, PPORecipe) else recipe.lora is None and recipe.dtype == "bfloat16"
    )
    # Told of bfloat16, DeepSpeed would hold all weights in it; training/ppo_zero3.py casts itself.
    mixed_precision = "bf16" if autocasts and parts != "DeepSpeed" else "no"
    share_out_on_cpus(mixed_precision)
    # How often gradients add up the recipe says, and not the launch, whose file may say "auto".
    once = GradientAccumulationPlugin(num_steps=1)
    accelerator = Accelerator(mixed_precision=mixed_precision, gradient_accumulation_plugin=once)
    require_one_run(accelerator.num_processes)
    require_parts(accelerator)
    if parts == "DeepSpeed":
        require_zero3(recipe, layout(accelerator))
        read_whole()
    return accelerator


def parts_asked_for() -> str | None:
    """FSDP or DeepSpeed, where `accelerate launch` was told to share the model out by it, else None."""
    for variable, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if os.environ.get(variable, "false").lower() == "true":
            return name
    return None


def require_zero3(recipe: PPORecipe | ILQLRecipe, layout: str) -> None:
    """Raise UsageError where DeepSpeed was launched in a way that PPO does not run in."""
    from training.ppo_recipe import PPORecipe

    if layout != "zero3":
        raise UsageError(
            "PPO runs under DeepSpeed's ZeRO-3 only",
            expected="zero_stage: 3",
            found="a launch with another stage",
            next_step="use training/launch/zero3.yaml; data parallel needs no DeepSpeed",
        )
    if isinstance(recipe, PPORecipe) and recipe.rounded_weights:
        raise UsageError(
            "under ZeRO-3 DeepSpeed's optimizer holds the weights",
            where="ppo.master_weights",
            expected="false: bfloat16 by autocast from weights in float32, which lie in parts",
            found="true",
            next_step="add ppo.master_weights=false, or use training/launch/fsdp2.yaml",
        )


def require_parts(accelerator: Accelerator) -> None:
    """Raise UsageError where the launch asked for a model in parts and accelerate left it whole, as it does on CPUs."""
    asked = parts_asked_for()
    if asked is not None and accelerator.distributed_type.value != asked.upper():
        raise UsageError(
            f"the launch asked for {asked}, and accelerate has not turned it on",
            expected=f"processes on accelerators, among which {asked} shares the model out",
            found=f"{accelerator.num_processes} processes of the kind {accelerator.distributed_type.value} on "
            f"{accelerator.device.type}",
            next_step="without a GPU: ACCELERATE_USE_CPU=true python -m torch.distributed.run --nproc_per_node N -m training ...",
        )


def require_one_run(processes: int) -> None:
    """Raise UsageError where more were launched than the `processes` of this run: each would train alone, into one directory."""
    launched = launched_processes()
    if launched != processes:
        raise UsageError(
            "several processes were launched that do not know of each other",
            expected=f"{launched} processes as one run",
            found=f"{processes} in this one",
            next_step="without a GPU: ACCELERATE_USE_CPU=true python -m torch.distributed.run --nproc_per_node N -m training ...",
        )
