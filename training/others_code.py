"""A user's code, called in the middle of a run, apart from it: what it draws, seeds or sets changes nothing of the run.

with apart(samples):
    rewards = function(...)        # sees random numbers that depend on the samples alone; afterwards all is as it was
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch


@contextmanager
def apart(texts: Sequence[str]) -> Iterator[None]:
    """Inside, the generators of torch, numpy and Python are seeded by the texts, so that a run that was interrupted sees the same
    ones again; outside they, the working directory and torch's default type are as if nothing had been."""
    seed = int.from_bytes(hashlib.sha256("\0".join(texts).encode(errors="replace")).digest()[:4], "big")
    python, numbers, kind, place = random.getstate(), np.random.get_state(), torch.get_default_dtype(), Path.cwd()
    with torch.random.fork_rng():  # of every device
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
            torch.set_default_dtype(kind)
            os.chdir(place)
