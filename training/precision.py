"""The precision that a model computes in: bfloat16 where the hardware multiplies it, else float32.

    chosen_dtype("auto", "cpu")     # "float32" on a processor without AVX512_BF16 and AMX

A processor without instructions for bfloat16 emulates it: on two cores with AVX2 only, one optimizer step of the starter's
reward model took 80 s in bfloat16 and 5 s in float32 (docs/log.md, 2026-11-25).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from training.command import log

Dtype = Literal["auto", "bfloat16", "float32"]
CPUINFO = Path("/proc/cpuinfo")


def chosen_dtype(dtype: str, device: str) -> str:
    """`dtype`, or for "auto" what is fast on the device: "bfloat16" or "float32".

    Says so on stderr where bfloat16 is asked for and is emulated.
    """
    fast = multiplies_bfloat16(device)
    if dtype == "auto":
        return "bfloat16" if fast else "float32"
    if dtype == "bfloat16" and not fast:
        log(f"this {device} has no instructions for bfloat16 and emulates it: float32 is several times as fast here")
    return dtype


def multiplies_bfloat16(device: str) -> bool:
    """Whether the device has instructions for bfloat16. A CPU that does not say (no /proc/cpuinfo) counts as without."""
    if device.startswith("cuda"):
        import torch

        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not device.startswith("cpu") or not CPUINFO.is_file():
        return False
    flags = next((line for line in CPUINFO.read_text().splitlines() if line.startswith(("flags", "Features"))), "")
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.split()))
