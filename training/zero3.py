"""Weights, gradients and optimizer state in parts by DeepSpeed's ZeRO-3, and whole again where a run is saved.

    weights(engine.module)                              # name -> whole float32 tensor; every process takes part
    optimizer_state(engine, groups)                     # a state_dict as one process's AdamW has it; `groups` name its parameters
    take_optimizer_state(engine, groups, state)         # the other way round
    take_weights(engine, whole)                         # each process its part of them
    with whole_weights(engine): ...                     # sampling: each process computes at its own pace

DeepSpeed's own checkpoints are read by as many processes under ZeRO-3 only; what these write is read by any launch. DeepSpeed is an
optional extra, and is imported where it is used.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW holds of each parameter, in its shape


def read_whole() -> None:
    """Have `from_pretrained` read whole weights from here on, though transformers has been told of ZeRO-3.

    It would read empty ones on every process, which only DeepSpeed's engine can fill, and models are used outside of it as well.
    """
    from transformers.integrations.deepspeed import unset_hf_deepspeed_config

    unset_hf_deepspeed_config()


def weights(module: nn.Module) -> dict[str, Tensor]:
    """The `state_dict` of a module in parts, whole and on the CPU; those that learn in the precision of their optimizer.

    Every process takes part, one parameter after the other.
    """
    from deepspeed.runtime.zero import GatheredParameters

    found = learned_weights(module, remove_duplicate=False)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if not parameter.requires_grad:
            with GatheredParameters([parameter]):
                found[name] = parameter.detach().cpu().clone()
    buffers = {name: value.cpu().clone() for name, value in module.state_dict().items() if name not in found}
    return {**found, **buffers}


def learned_weights(module: nn.Module, remove_duplicate: bool = True) -> dict[str, Tensor]:
    """Of `weights`, those that learn."""
    from deepspeed.utils import safe_get_full_fp32_param

    named = module.named_parameters(remove_duplicate=remove_duplicate)
    return {
        name: safe_get_full_fp32_param(parameter).detach().cpu().clone()
        for name, parameter in named
        if parameter.requires_grad
    }


def optimizer_state(engine: Any, groups: list[list[str]]) -> dict[str, Any]:
    """What `state_dict` of one process's AdamW would be, whose parameters have these names. Every process takes part."""
    from deepspeed.utils import safe_get_full_optimizer_state

    optimizer = engine.optimizer.optimizer
    places, parameters = _places(engine), dict(engine.module.named_parameters())
    state: dict[int, dict[str, Tensor]] = {}
    for number, name in enumerate(name for group in groups for name in group):
        of_flat = optimizer.state.get(places[parameters[name].ds_id])
        if of_flat:  # there is none before the first step
            moments = {key: safe_get_full_optimizer_state(parameters[name], key).cpu().clone() for key in MOMENTS}
            state[number] = {"step": of_flat["step"].cpu().clone(), **moments}
    found: list[dict[str, Any]] = []
    left, first = list(optimizer.param_groups), 0
    for group in groups:
        values = left.pop(0) if group else optimizer.param_groups[0]  # DeepSpeed drops a group without parameters
        found.append({**values, "params": list(range(first, first + len(group)))})
        first += len(group)
    return {"state": state, "param_groups": found}


def take_optimizer_state(engine: Any, groups: list[list[str]], state: dict[str, Any]) -> None:
    """Have the engine's optimizer go on from a whole `state_dict`, each process with its part of it."""
    from deepspeed.utils import safe_set_local_optimizer_state

    optimizer = engine.optimizer.optimizer
    saved = [each for each in state["param_groups"] if each["params"]]
    for group, values in zip(optimizer.param_groups, saved, strict=True):
        group.update({key: value for key, value in values.items() if key != "params"})
    if not state["state"]:
        return
    for flat in engine.optimizer.fp32_partitioned_groups_flat:
        optimizer.state[flat] = {key: torch.zeros_like(flat) for key in MOMENTS}
    places, parameters = _places(engine), dict(engine.module.named_parameters())
    for number, name in enumerate(name for group in groups for name in group):
        parameter, values = parameters[name], state["state"][number]
        optimizer.state[places[parameter.ds_id]]["step"] = values["step"].clone()
        for key in MOMENTS:
            safe_set_local_optimizer_state(parameter, _part(values[key], parameter), key)


def take_weights(engine: Any, whole: dict[str, Tensor]) -> None:
    """Have these parameters, by name, be what every process has of them here, whole."""
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_set_local_fp32_param

    parameters = dict(engine.module.named_parameters())
    for name, value in whole.items():
        parameter = parameters[name]
        with torch.no_grad(), GatheredParameters([parameter], modifier_rank=0):
            parameter.copy_(value)
        safe_set_local_fp32_param(parameter, _part(value, parameter))


@contextmanager
def whole_weights(engine: Any) -> Iterator[None]:
    """While open, each process holds the weights whole and makes passes of the module at its own pace, without gradients.

    DeepSpeed's hooks, by which a module's pass gathers and parts its weights on all processes at once, are taken off meanwhile.
    """
    from deepspeed.runtime.zero import GatheredParameters

    offload = engine.optimizer.parameter_offload
    with GatheredParameters(list(engine.module.parameters())):
        for hook in [*offload.forward_hooks, *offload.backward_hooks]:
            hook.remove()
        offload.forward_hooks, offload.backward_hooks = [], []
        try:
            yield
        finally:
            offload._register_deepspeed_module(offload.module)


@contextmanager
def changed(parameters: list[nn.Parameter]) -> Iterator[None]:
    """While open, each process holds these whole, and what they are at the end is shared out. All change them alike."""
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_set_local_fp32_param

    with GatheredParameters(parameters, modifier_rank=0):
        yield
        values = [parameter.detach().clone() for parameter in parameters]
    for parameter, value in zip(parameters, values, strict=True):
        safe_set_local_fp32_param(parameter, _part(value, parameter))


def clip(parameters: list[nn.Parameter], limit: float) -> Tensor:
    """Shorten these parameters' gradient to a norm of `limit`, as `torch.nn.utils.clip_grad_norm_`; return the norm before."""
    from deepspeed.utils import safe_get_local_grad, safe_set_local_grad

    parts = [safe_get_local_grad(parameter) for parameter in parameters]
    squared = torch.stack([part.square().sum() for part in parts]).sum()
    torch.distributed.all_reduce(squared)
    norm = squared.sqrt()
    shorter = (limit / (norm + 1e-6)).clamp(max=1.0)
    for parameter, part in zip(parameters, parts, strict=True):
        safe_set_local_grad(parameter, part * shorter)
    return norm


def drop_gradients(engine: Any) -> None:
    """Let the next pass begin anew.

    DeepSpeed writes a parameter's gradient over the last step's in the first pass and adds to it in those that follow. One
    that has no gradient in the first, as a value head while demonstrations are mixed in, would be added to what is long past.
    """
    engine.optimizer.zero_grad()
    engine.optimizer.averaged_gradients = {}
    engine.optimizer.grad_partitions_flat_buffer.zero_()


def held_here(module: nn.Module) -> tuple[int, int]:
    """How many of the module's weights this process holds between two passes, and how many there are.

    DeepSpeed leaves small parameters whole on every process (stage3_param_persistence_threshold, 100,000 numbers).
    """
    parameters: list[Any] = list(module.parameters())
    here = sum(each.ds_numel if each.ds_persist else each.ds_tensor.numel() for each in parameters)
    return here, sum(each.ds_numel for each in parameters)


def _part(value: Tensor, parameter: Any) -> Tensor:
    """This process's part of a whole tensor, padded as DeepSpeed pads it so that all parts are as long."""
    size = parameter.ds_tensor.numel()
    flat = value.detach().flatten().to(parameter.ds_tensor.device)
    padded = torch.nn.functional.pad(flat, (0, size * torch.distributed.get_world_size() - flat.numel()))
    return padded.narrow(0, size * torch.distributed.get_rank(), size)


def _places(engine: Any) -> dict[int, Tensor]:
    """The flat tensor, by which the optimizer holds its state, that each parameter's part lies in."""
    optimizer = engine.optimizer
    return {
        parameter.ds_id: flat
        for parameters, flat in zip(optimizer.fp16_groups, optimizer.fp32_partitioned_groups_flat, strict=True)
        for parameter in parameters
    }
