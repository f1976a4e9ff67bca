"""`python -m training rloo`: REINFORCE leave-one-out by TRL's RLOOTrainer (Ahmadian et al. 2024).

Each prompt is answered several times, and an answer's advantage is its reward less the mean of the others'. Answers are scored as
PPO's are, at the end-of-turn token. Interrupted, the same command continues from the last saved step.
"""

from __future__ import annotations

from pathlib import Path

from training.recipe import RLOORecipe
from training.run_record import RunRecord
from training.trl_run import TRLRun


def train_rloo(recipe: RLOORecipe, out: Path) -> RunRecord:
    """Train, save and measure; returns the record. Where `out` is complete already, nothing is done."""
    run = TRLRun.begin(recipe, out)
    if run.complete:
        return run.directory.record()

    from trl import RLOOConfig, RLOOTrainer

    from training.online_run import train_online

    return train_online(run, RLOOConfig, RLOOTrainer)
