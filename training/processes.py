"""The processes of a training run of our own, as they were launched: one on a CPU or a GPU, or many that know of each other."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from training.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

    from training.ilql_recipe import ILQLRecipe
    from training.recipe import PPORecipe


def launched_processes() -> int:
    """How many processes torchrun or `accelerate launch` started for this run; 1 where neither did."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def launched_accelerator(recipe: PPORecipe | ILQLRecipe) -> Accelerator:
    """accelerate's view of them. Full fine-tuning autocasts from float32, unless its optimizer holds the weights' float32 copies.

    Raises UsageError where several processes were launched that would each train on its own, into one directory, and for a launch
    in parts that the method does not know.
    """
    from accelerate import Accelerator

    from training.recipe import PPORecipe
    from training.sharding import LAUNCH, share_out_on_cpus

    parts, ppo = parts_asked_for(), isinstance(recipe, PPORecipe)
    # Whatever accelerate makes of it: on CPUs it would leave the model whole and not say so.
    if parts == "DeepSpeed" or (parts is not None and not ppo):
        raise UsageError(
            f"{recipe.method} runs " + ("data parallel or under FSDP2" if ppo else "data parallel only"),
            expected="accelerate launch --multi_gpu --num_processes N" + (f", or {LAUNCH}" if ppo else ""),
            found=f"a launch with {parts}",
            next_step="launch it without a configuration file for " + ("DeepSpeed" if ppo else "FSDP or DeepSpeed"),
        )
    copies = isinstance(recipe, PPORecipe) and recipe.rounded_weights  # then there is no float32 to cast from
    autocasts = recipe.lora is None and recipe.dtype == "bfloat16" and not copies
    mixed_precision = "bf16" if autocasts else "no"
    share_out_on_cpus(mixed_precision)
    accelerator = Accelerator(mixed_precision=mixed_precision)
    require_one_run(accelerator.num_processes)
    require_parts(accelerator)
    return accelerator


def parts_asked_for() -> str | None:
    """FSDP or DeepSpeed, where `accelerate launch` was told to share the model out by it, else None."""
    for variable, name in (("ACCELERATE_USE_FSDP", "FSDP"), ("ACCELERATE_USE_DEEPSPEED", "DeepSpeed")):
        if os.environ.get(variable, "false").lower() == "true":
            return name
    return None


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
