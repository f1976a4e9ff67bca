"""AdamW for weights in bfloat16: what it adds is added to float32 copies of them (Micikevicius et al. 2018, section 3.1).

A weight in bfloat16 has 8 bits of precision, so a step of less than a few thousandths of it vanishes. The copies, and the moments
beside them, are in float32; the model computes on the rounded weights, without a cast of each at every use as under autocast.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from training.sharding import in_parts_like


class MasterAdamW(torch.optim.AdamW):
    """`torch.optim.AdamW` whose parameters are float32 copies of those given. Parameters that are float32 are their own copies.

    `state_dict` has the copies as "masters", for rounded weights do not give them back.
    """

    def __init__(self, groups: list[dict[str, Any]], weight_decay: float) -> None:
        self.rounded: list[list[nn.Parameter]] = [list(group["params"]) for group in groups]
        copies = [
            [each if each.dtype == torch.float32 else nn.Parameter(each.detach().float()) for each in weights]
            for weights in self.rounded
        ]
        masters = [{**group, "params": copied} for group, copied in zip(groups, copies, strict=True)]
        super().__init__(masters, weight_decay=weight_decay, fused=True)

    def _pairs(self) -> list[tuple[nn.Parameter, nn.Parameter]]:
        """Each rounded weight that has a copy, with it."""
        groups = zip(self.rounded, self.param_groups, strict=True)
        pairs = [pair for rounded, group in groups for pair in zip(rounded, group["params"], strict=True)]
        return [(weight, master) for weight, master in pairs if weight is not master]

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step on the copies by the gradients of the rounded weights, which are then rounded anew."""
        pairs = self._pairs()
        for weight, master in pairs:
            master.grad = None if weight.grad is None else weight.grad.float()
            weight.grad = None
        found = super().step(closure)
        for weight, master in pairs:
            master.grad = None
            weight.copy_(master)
        return found

    def zero_grad(self, set_to_none: bool = True) -> None:
        super().zero_grad(set_to_none)
        for weight, _ in self._pairs():
            weight.grad = None

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "masters": [master.detach() for _, master in self._pairs()]}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        kept: list[Tensor] = state_dict["masters"]
        super().load_state_dict({name: value for name, value in state_dict.items() if name != "masters"})
        for (weight, master), value in zip(self._pairs(), kept, strict=True):
            master.copy_(in_parts_like(value, master))
            weight.copy_(master)
