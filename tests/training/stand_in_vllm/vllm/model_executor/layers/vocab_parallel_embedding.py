"""The output head's class, and what packs its weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch


class ParallelLMHead(torch.nn.Module):
    """What computes logits: on a CPU from a packed copy of its weights, on a GPU from the weights themselves."""

    def __init__(self, head: Any, packs: bool) -> None:
        super().__init__()
        self._weight = [head.weight]  # in a list, so that it is no parameter of its own
        self.packs, self.packed = packs, head.weight.detach().clone()
        self.quant_method = SimpleNamespace(process_weights_after_loading=lambda layer: layer.pack())

    def pack(self) -> None:
        self.packed = self._weight[0].detach().clone()

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        return states @ (self.packed if self.packs else self._weight[0]).T
