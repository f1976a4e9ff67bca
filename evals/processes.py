"""The processes that share one evaluation: which of them this is, what falls to it, and that all go on or stop together.

    accelerate launch --multi_gpu --num_processes 2 -m evals run runs/base/checkpoint --suite starter --out runs/base

Batches of requests are the same however many processes there are, and each is answered by one of them; so is the scorecard.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE = timedelta(weeks=1)  # the first process scores, and may judge, while the others wait for the next task


@dataclass(frozen=True)
class Processes:
    """This process is `rank` of `count`; the first one scores and writes."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """What falls to this process: every `count`-th item."""
        return items[self.rank :: self.count]

    def place(self, device: str) -> str:
        """The device of this process, where several processes share a machine with several GPUs."""
        return f"cuda:{self.local_rank}" if self.count > 1 and device == "cuda" else device

    def agree(self, error: Exception | None = None) -> None:
        """Wait for the others. Raises, in every process, the error of the first that has one."""
        if self.count == 1:
            if error is not None:
                raise error
            return
        import torch.distributed

        found: list[Any] = [None] * self.count
        torch.distributed.all_gather_object(found, _portable(error))
        first = error or next((other for other in found if other is not None), None)
        if first is not None:
            raise first


def joined(device: str | None) -> Processes:
    """The processes that `accelerate launch` started, once all are there; a single one where nothing launched this."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return Processes()
    import torch
    from accelerate import PartialState

    on_cpu = not torch.cuda.is_available() or (device or "").startswith("cpu")
    state = PartialState(cpu=on_cpu, timeout=PATIENCE)
    return Processes(state.process_index, state.num_processes, state.local_process_index)


def _portable(error: Exception | None) -> Exception | None:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - an exception of any library, some of which cannot be sent
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
