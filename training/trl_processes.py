"""Several processes under one of TRL's trainers: how they share a batch, and one whole model from what they hold.

A run is the same whatever number of processes it has where its recipe says `batch_size`: what one process would accumulate, two
take at once. Under FSDP2 and ZeRO-3 each process holds a part of every weight; `whole_model` puts them together again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from training.errors import UsageError
from training.sharding import layout, rebuilt
from training.zero3 import read_whole, weights


def accumulation(batch_size: int, per_device: int, processes: int) -> int:
    """Steps of gradient accumulation with which `batch_size` sequences are one optimizer step.

    Raises UsageError where they cannot be shared out evenly.
    """
    steps, left = divmod(batch_size, per_device * processes)
    if left or steps < 1:
        raise UsageError(
            "the batch cannot be shared out evenly among the processes",
            where="batch_size",
            expected=f"a multiple of {per_device * processes}: {processes} processes with {per_device} sequences each",
            found=str(batch_size),
            next_step="lower args.per_device_train_batch_size, or launch another number of processes",
        )
    return steps


@contextmanager
def in_parts(arguments: Any) -> Iterator[None]:
    """While open, transformers knows again that the weights lie in parts, where they do: sampling then keeps processes in step."""
    from transformers.integrations.deepspeed import set_hf_deepspeed_config

    plugin = arguments.deepspeed_plugin
    if plugin is not None:
        set_hf_deepspeed_config(plugin.dschf)
    try:
        yield
    finally:
        read_whole()


def check_continues(saved: dict[str, Any], processes: int, by_length: bool) -> None:
    """Raise UsageError where a run cannot continue from what was saved under another launch.

    Whole weights are files that any number of processes reads, and so are FSDP2's parts, which are cut anew, and either becomes
    the other (trl_state.py); under ZeRO-3 they are saved whole (zero3.py).
    Batches of similar lengths are drawn for the number of processes, so another number would see rows twice or not at all.
    """
    before = int(saved.get("processes", 1))
    if before != processes and by_length:
        raise UsageError(
            "the saved run had another number of processes",
            where="args.train_sampling_strategy: group_by_length",
            expected=str(before),
            found=str(processes),
            next_step="launch it with the same number of processes, or remove the run's directory to begin again",
        )


def whole_model(trainer: Any) -> Any | None:
    """The trained model as one process would hold it; None on every process but the first, where it lies in parts."""
    if (
        layout(trainer.accelerator) == "whole"
    ):  # without autocast: what is measured is what is loaded from the checkpoint
        return trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    model = trainer.accelerator.unwrap_model(trainer.model)
    zero3 = layout(trainer.accelerator) == "zero3"
    held = (
        weights(model) if zero3 else trainer.accelerator.get_state_dict(trainer.model_wrapped)
    )  # every process takes part
    if not trainer.accelerator.is_main_process:
        return None
    return rebuilt(model, held)
