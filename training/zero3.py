"""Weights, gradients and optimizer state in parts by DeepSpeed's ZeRO-3, and whole again where a run is saved.

    weights(engine.module)                              # name -> whole float32 tensor; every process takes part
    optimizer_state(engine, groups)                     # a state_dict as one process's AdamW has it; `groups` name its parameters
    take_optimizer_state(engine, groups, state)         # the other way round
    take_weights(engine, whole)                         # each process its part of them

DeepSpeed's own checkpoints are read by as many processes under ZeRO-3 only; what these write is read by any launch. DeepSpeed is an
optional extra, and is imported where it is used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MOMENTS = ("exp_avg", "exp_avg_sq")  # what AdamW holds of each parameter, in its shape


def weights(module: nn.Module) -> dict[str, Tensor]:
    """The `state_dict` of an engine's module, whole and on the CPU; those that learn in the precision of their optimizer.

    Every process takes part, one parameter after the other.
    """
    from deepspeed.runtime.zero import GatheredParameters
    from deepspeed.utils import safe_get_full_fp32_param

    found: dict[str, Tensor] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        if parameter.requires_grad:
            found[name] = safe_get_full_fp32_param(parameter).detach().cpu().clone()
        else:
            with GatheredParameters([parameter]):
                found[name] = parameter.detach().cpu().clone()
    buffers = {name: value.cpu().clone() for name, value in module.state_dict().items() if name not in found}
    return {**found, **buffers}


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
