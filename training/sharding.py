"""Weights, gradients and optimizer state in parts, one on each process, by PyTorch's FSDP2.

    share_out_on_cpus("no")                     # before an Accelerator is made: accelerate does so for accelerators only
    layout(accelerator)                         # "fsdp2"
    shard(model, accelerator)                   # in place: what it computes stays the same, but for the order of sums
    with whole_weights([model], accelerator):   # each process computes at its own pace, without the others
    gathered(model.state_dict())                # as one process would have it; every process takes part

TRL's trainers share a model out by accelerate themselves, and `layout` is all that is asked of them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from training import zero3
from training.command import log
from training.errors import UsageError

if TYPE_CHECKING:
    from accelerate import Accelerator

LAUNCH = "accelerate launch --config_file training/launch/fsdp2.yaml -m training ..."


def share_out_on_cpus(mixed_precision: str) -> None:
    """Have the Accelerators that are made from here on share their model out by FSDP, where the launch asked for it on CPUs.

    accelerate 1.15 sets its type to FSDP for processes on accelerators only (`AcceleratorState.__init__` in its state.py, in
    whose list of types MULTI_CPU is not) and drops the plugin without a word otherwise. Everything after that asks for the
    type alone, and PyTorch's FSDP2 works on CPUs over gloo. So the state that all Accelerators share is made here, and what
    accelerate leaves out of it is set. `mixed_precision` is that of the Accelerator to come: "no" or "bf16".
    """
    if torch.accelerator.is_available():
        return
    from accelerate import Accelerator, PartialState
    from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin

    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() == "true":
        PartialState(cpu=True)  # accelerate itself then makes DeepSpeed's state of it
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return
    if PartialState(cpu=True).distributed_type != DistributedType.MULTI_CPU:
        return  # no launch of several processes
    plugin = FullyShardedDataParallelPlugin()  # as the launch's file says, by the environment
    state = Accelerator(mixed_precision=mixed_precision, cpu=True, fsdp_plugin=plugin).state
    if mixed_precision != "no":
        plugin.set_mixed_precision(mixed_precision)
    state.fsdp_plugin = plugin
    state.distributed_type = PartialState().distributed_type = DistributedType.FSDP


def layout(accelerator: Accelerator) -> str:
    """How the model lies on the processes: "whole" on each of them, or in parts by "fsdp2" or "zero3"."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None:
        if plugin.fsdp_version != 2:
            raise UsageError(
                "FSDP's first version was launched",
                expected="fsdp_version: 2",
                found=f"fsdp_version: {plugin.fsdp_version}",
                next_step=LAUNCH,
            )
        return "fsdp2"
    plugin = getattr(accelerator.state, "deepspeed_plugin", None)
    return "zero3" if plugin is not None and plugin.zero_stage == 3 else "whole"


def shard(model: nn.Module, accelerator: Accelerator) -> None:
    """Share `model` out in place: each of its decoder layers as a unit, what is left as one more.

    The model's own forward must be called for its weights to be there, not that of a module within. Raises UsageError
    where the launch's file asks for what this does not do.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    plugin = accelerator.state.fsdp_plugin
    for name, asked in (
        ("fsdp_activation_checkpointing", plugin.activation_checkpointing),
        ("fsdp_offload_params", os.environ.get("FSDP_OFFLOAD_PARAMS", "false").lower() == "true"),
        ("fsdp_cpu_ram_efficient_loading", plugin.cpu_ram_efficient_loading),
    ):
        if asked:
            raise UsageError(
                f"'{name}' is for TRL's methods only",
                expected=f"{name}: false",
                found=f"{name}: true",
                next_step="change the launch's configuration file, or use training/launch/fsdp2.yaml",
            )
    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    layers = set(getattr(model, "_no_split_modules", None) or ())
    for module in [each for each in model.modules() if type(each).__name__ in layers]:
        fully_shard(module, mesh=mesh, reshard_after_forward=bool(plugin.reshard_after_forward))
    fully_shard(model, mesh=mesh, reshard_after_forward=False)  # the backward pass begins with it


@contextmanager
def whole_weights(models: Sequence[nn.Module], accelerator: Accelerator) -> Iterator[None]:
    """While open, each process holds these models' weights whole and exchanges nothing in their passes.

    So processes may make different numbers of passes, as they do where their answers differ in length. Not for learning: the
    weights are those of when it was opened. Each model is one that `shard` was given; where it was not, nothing is done.
    """
    from torch.distributed.fsdp import FSDPModule

    units = [unit for model in models for unit in model.modules() if isinstance(unit, FSDPModule)]
    for unit in units:
        unit.set_reshard_after_forward(False, recurse=False)
        unit.unshard()
    try:
        yield
    finally:
        for unit in units:
            unit.reshard()
            inner = all(unit is not model for model in models)
            unit.set_reshard_after_forward(
                inner and bool(accelerator.state.fsdp_plugin.reshard_after_forward), recurse=False
            )


def gathered(values: Any) -> Any:
    """`values`, a tensor or nested containers of them, with what lies in parts put together. Every process takes part.

    Returns tensors on the CPU where they lay in parts.
    """
    from torch.distributed.tensor import DTensor
    from torch.utils._pytree import tree_map

    return tree_map(lambda value: value.full_tensor().cpu() if isinstance(value, DTensor) else value, values)


def in_parts_like(value: Tensor, parameter: Tensor) -> Tensor:
    """A whole tensor that every process has, as `parameter` of its shape lies: this process's part of it, or itself."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    if not isinstance(parameter, DTensor) or isinstance(value, DTensor) or value.shape != parameter.shape:
        return value
    value = value.to(parameter.to_local().device)
    return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)


def optimizer_state_for(optimizer: Any, state: dict[str, Any]) -> dict[str, Any]:
    """A whole `state_dict` of a like optimizer, with what it holds of each parameter lying as the parameter does."""
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    held = {
        place: {name: in_parts_like(value, parameters[place]) for name, value in values.items()}
        for place, values in state["state"].items()
    }
    return {**state, "state": held}


def say_how_it_lies(model: nn.Module, accelerator: Accelerator) -> None:
    """One line on stderr, of the first process, where a model lies in parts."""
    kind = layout(accelerator)
    if kind != "whole" and accelerator.is_main_process:
        here, every = held_here(model) if kind == "fsdp2" else zero3.held_here(model)
        log(f"{kind.upper()} on {accelerator.num_processes} processes: this one holds {here:,} of {every:,} weights")


def held_here(model: nn.Module) -> tuple[int, int]:
    """How many of the model's weights this process holds, and how many there are."""
    from torch.distributed.tensor import DTensor

    weights = list(model.parameters())
    here = sum(each.to_local().numel() if isinstance(each, DTensor) else each.numel() for each in weights)
    return here, sum(each.numel() for each in weights)


def rebuilt(model: Any, weights: dict[str, Any]) -> Any:
    """A new model of `model`'s make with these weights, adapters included, and buffers as its config makes them."""
    from peft import PeftModel, get_peft_model

    if not isinstance(model, PeftModel):
        whole = _own_class(model)(model.config)
    else:
        inner = model.get_base_model()
        whole = get_peft_model(_own_class(inner)(inner.config), model.peft_config["default"])
    whole.load_state_dict(weights, assign=True)
    # tied weights are one tensor again
    (whole.get_base_model() if isinstance(whole, PeftModel) else whole).tie_weights()
    return whole


def _own_class(model: Any) -> Any:
    """The model's class before FSDP2 put its own in front of it, as it does with every module that it shards."""
    return next(cls for cls in type(model).__mro__ if not cls.__name__.startswith("FSDP"))
