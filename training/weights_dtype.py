"""A model's weights in another precision, and nothing else of it: what a checkpoint's loader leaves in float32 stays so.

cast_weights(model, "bfloat16")
with as_saved(model, "bfloat16"):
    before = measure(model)            # computed as after training, on weights in the base's own precision
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)
EXACT = ({"bfloat16", "float32"}, {"float16", "float32"}, {"float32"}, {"bfloat16"}, {"float16"})  # there and back


def cast_weights(model: M, dtype: str) -> M:
    """The model itself, its weights in `dtype`.

    `Module.to` would round what no checkpoint holds as well, as rotary frequencies, which `from_pretrained` leaves in float32: to
    eight bits they turn a word at place 100 by up to 0.4 radians otherwise than in the model that everybody loads.
    """
    kind = getattr(torch, dtype)
    for module in model.modules():
        for weight in module._parameters.values():
            if weight is not None and weight.is_floating_point():
                weight.data = weight.data.to(kind)
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point() and name not in module._non_persistent_buffers_set:
                module._buffers[name] = buffer.to(kind)
    return model


@contextmanager
def as_saved(model: Any, dtype: str) -> Iterator[None]:
    """While open, the weights are in the precision in which what is trained from them is saved and measured, so that the two differ
    by training alone. Where the way back would round, they stay as they are."""
    now = str(next(model.parameters()).dtype).removeprefix("torch.")
    if {now, dtype} not in EXACT:
        yield
        return
    cast_weights(model, dtype)
    try:
        yield
    finally:
        cast_weights(model, now)
