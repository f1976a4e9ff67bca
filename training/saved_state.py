"""A state that a run continues from: written whole or not at all, also where the power fails, and read with clear words.

save_state(state, Path("runs/a/.state/ppo.pt"))
load_state(Path("runs/a/.state/ppo.pt"))
"""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

from training.errors import UsageError


def save_state(state: dict[str, Any], file: Path) -> None:
    """Write tensors and plain values beside `file`, have the disk hold them, and rename them over it."""
    import torch

    temporary = file.with_name(f"{file.name}.writing")
    with temporary.open("wb") as written:
        torch.save(state, written)
        written.flush()
        os.fsync(written.fileno())
    temporary.replace(file)
    sync(file.parent)


def load_state(file: Path) -> dict[str, Any]:
    """What was saved. Raises UsageError where the file is damaged."""
    import torch

    try:
        state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise damaged(file, f"{file.stat().st_size:,} bytes, {type(error).__name__}: {first[:120]}") from error
    return state


def damaged(file: Path, found: str) -> UsageError:
    """The error that a file of a run that is not finished cannot be read."""
    return UsageError(
        "what this run would continue from is damaged",
        where=str(file),
        expected="the file as it was written, whole",
        found=found,
        next_step=f"bring {file.name} back from a copy; or begin again with another --out, or without {file.parent}",
    )


def sync(path: Path) -> None:
    """Have the disk hold a file's content, or a directory's names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
