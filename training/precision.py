"""Is bfloat16 worth it on this processor? Without instructions for it, a matrix product takes many times as long as in float32."""

from __future__ import annotations

import time

from training.command import log

WORTH_SAYING = 2.0


def warn_of_slow_bfloat16(dtype: str) -> None:
    """Say on stderr, before a run that would take hours instead of minutes, that float32 is faster here."""
    import torch

    if dtype != "bfloat16" or torch.cuda.is_available():
        return
    slower = bfloat16_slowdown()
    if slower > WORTH_SAYING:
        log(
            f"this processor takes {slower:.0f} times as long for a product in bfloat16 as in float32; "
            "dtype=float32 behind the command makes this run faster, with twice the memory for weights"
        )


def bfloat16_slowdown() -> float:
    """Time of a matrix product in bfloat16 over that in float32, measured: the best of three each."""
    import torch

    def best(dtype: torch.dtype) -> float:
        a, b = torch.ones(128, 512, dtype=dtype), torch.ones(512, 512, dtype=dtype)
        times = []
        for _ in range(4):  # the first sets its kernel up
            began = time.perf_counter()
            torch.mm(a, b)
            times.append(time.perf_counter() - began)
        return min(times[1:])

    return best(torch.bfloat16) / best(torch.float32)
