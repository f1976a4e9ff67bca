"""Random numbers of others' code apart from the run's: a scorer that draws or seeds changes nothing of what is sampled.

with random_numbers_of(samples):
    rewards = function(...)        # sees numbers that depend on the samples alone; afterwards all is as it was
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def random_numbers_of(texts: Sequence[str]) -> Iterator[None]:
    """Inside, the generators of torch, numpy and Python are seeded by the texts, so that a run that was interrupted sees the same
    ones again; outside they go on as if nothing had been."""
    seed = int.from_bytes(hashlib.sha256("\0".join(texts).encode(errors="replace")).digest()[:4], "big")
    python, numbers = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():  # of every device
        try:
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numbers)
