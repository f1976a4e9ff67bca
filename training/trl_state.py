"""What a TRL trainer saved with its model whole, as one under FSDP2 reads it, and the other way round.

    last = for_layout("fsdp2", trainer, Path("checkpoint-50"))      # every process calls it; returns the directory to continue from
    save_whole(trainer)                                             # under ZeRO-3

transformers writes whole weights and the optimizer's state by the parameters' numbers; under FSDP2 it lets accelerate write
parts, by the parameters' names, in PyTorch's own format, which is read for any number of processes. DeepSpeed's parts would be
read by as many processes under ZeRO-3 only, so under it a trainer is made to save what one process does.
"""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from training.zero3 import optimizer_state, take_optimizer_state, take_weights, weights

WEIGHTS, OPTIMIZER = "pytorch_model_fsdp_0", "optimizer_0"  # accelerate's directories of parts
WHOLE_OPTIMIZER = "optimizer.pt"
WHOLE_WEIGHTS = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
SCHEDULER = "scheduler.pt"


def for_layout(now: str, trainer: Any, saved: Path) -> Path:
    """`saved`, or beside it a copy in the form that the layout `now` is read in: parts for "fsdp2", else whole.

    The trainer has not begun: its model is whole, and takes the saved weights on the way.
    """
    if (saved / WEIGHTS).is_dir() == (now == "fsdp2"):
        return saved
    target = saved.parent / f"as-{now}" / saved.name
    if trainer.accelerator.is_main_process:
        shutil.rmtree(target, ignore_errors=True)
        parts = (WEIGHTS, OPTIMIZER, WHOLE_WEIGHTS, WHOLE_OPTIMIZER, ADAPTER)
        shutil.copytree(saved, target, ignore=shutil.ignore_patterns(*parts))
        (_into_parts if now == "fsdp2" else _put_together)(trainer, saved, target)
    trainer.accelerator.wait_for_everyone()
    return target


def save_whole(trainer: Any) -> None:
    """Have a TRL trainer that has not begun, under ZeRO-3, save what one process would, and continue from that.

    transformers would have DeepSpeed save and load its own parts. Every process takes part.
    """
    theirs = trainer._prepare_for_training

    def prepare(max_steps: int, loader: Any, saved: str | None) -> Any:
        groups = learned_groups(trainer)
        exact = {}
        if saved is not None:
            trainer._load_from_checkpoint(saved)  # while the model is whole
            learned = ((name, each) for name, each in trainer.model.named_parameters() if each.requires_grad)
            exact = {name: each.detach().clone() for name, each in learned}
        prepared = theirs(max_steps, loader, None)
        trainer._save_optimizer_and_scheduler = lambda directory: _save(trainer, groups, Path(directory))
        if saved is not None:
            take_weights(trainer.model_wrapped, exact)  # the engine may have rounded them
            _take_optimizer_and_scheduler(trainer, groups, Path(saved))
        return prepared

    trainer._prepare_for_training = prepare


def _save(trainer: Any, groups: list[list[str]], directory: Path) -> None:
    """Optimizer and scheduler; and the weights again, which transformers has just written in the engine's precision."""
    engine = trainer.model_wrapped
    state, whole = optimizer_state(engine, groups), weights(engine.module)
    if trainer.accelerator.is_main_process:
        file = directory / ADAPTER
        if file.is_file():
            from peft import get_peft_model_state_dict

            whole = get_peft_model_state_dict(trainer.model, state_dict=whole)
        else:
            file = directory / WHOLE_WEIGHTS
        save_file({name: whole[name] for name in load_file(file)}, file, metadata={"format": "pt"})
        torch.save(state, directory / WHOLE_OPTIMIZER)
        places = list(
            itertools.accumulate(bool(group) for group in groups)
        )  # DeepSpeed drops a group without parameters
        torch.save(
            _chosen(trainer.lr_scheduler.state_dict(), [max(0, place - 1) for place in places]), directory / SCHEDULER
        )
    trainer.accelerator.wait_for_everyone()


def _take_optimizer_and_scheduler(trainer: Any, groups: list[list[str]], saved: Path) -> None:
    state = torch.load(saved / WHOLE_OPTIMIZER, map_location="cpu", weights_only=True)
    take_optimizer_state(trainer.model_wrapped, groups, state)
    kept = [place for place, group in enumerate(groups) if group]
    scheduler = torch.load(saved / SCHEDULER, map_location="cpu", weights_only=True)
    trainer.lr_scheduler.load_state_dict(_chosen(scheduler, kept))


def _chosen(scheduler: dict[str, Any], places: list[int]) -> dict[str, Any]:
    """A learning-rate scheduler's state for the groups at these places of those that it has; its lists have a value for each."""
    return {
        key: [value[place] for place in places] if isinstance(value, list) else value
        for key, value in scheduler.items()
    }


def _into_parts(trainer: Any, saved: Path, target: Path) -> None:
    from torch.distributed.checkpoint.filesystem import FileSystemWriter
    from torch.distributed.checkpoint.state_dict_saver import save

    model = trainer.model
    if (saved / ADAPTER).is_file():
        weights = load_file(saved / ADAPTER)
    else:
        model.load_state_dict(load_file(saved / WHOLE_WEIGHTS), strict=False)  # tied weights stand there once
        weights = model.state_dict()
    state = torch.load(saved / WHOLE_OPTIMIZER, map_location="cpu", weights_only=True)
    names = _names(trainer)
    named = {
        "state": {names[number]: values for number, values in state["state"].items()},
        "param_groups": [
            {**each, "params": [names[number] for number in each["params"]]} for each in state["param_groups"]
        ],
    }
    for directory, values in ((WEIGHTS, {"model": weights}), (OPTIMIZER, {"optimizer": named})):
        save(values, storage_writer=FileSystemWriter(target / directory), no_dist=True)


def _put_together(trainer: Any, saved: Path, target: Path) -> None:
    from peft import PeftModel

    weights = _whole(saved / WEIGHTS, target)["model"]
    if isinstance(trainer.model, PeftModel):
        save_file(weights, target / ADAPTER)
        trainer.model.peft_config["default"].save_pretrained(target)
    else:
        save_file({name: value.clone() for name, value in weights.items()}, target / WHOLE_WEIGHTS)
    named = _whole(saved / OPTIMIZER, target)["optimizer"]
    numbers = {name: number for number, name in enumerate(_names(trainer))}
    state = {
        "state": {numbers[name]: values for name, values in named["state"].items()},
        "param_groups": [
            {**each, "params": [numbers[name] for name in each["params"]]} for each in named["param_groups"]
        ],
    }
    torch.save(state, target / WHOLE_OPTIMIZER)


def _whole(parts: Path, folder: Path) -> dict[str, Any]:
    """What PyTorch's distributed checkpoint holds, on one process."""
    from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

    file = folder / "whole.pt"
    dcp_to_torch_save(parts, file)
    found: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    file.unlink()
    return found


def learned_groups(trainer: Any) -> list[list[str]]:
    """Names of the learned parameters as transformers groups them in the optimizer: those that decay, and the others."""
    decaying = set(trainer.get_decay_parameter_names(trainer.model))
    names = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    return [[name for name in names if name in decaying], [name for name in names if name not in decaying]]


def _names(trainer: Any) -> list[str]:
    """These names by the parameters' numbers in the optimizer."""
    return [name for group in learned_groups(trainer) for name in group]
