"""`python -m training grpo`: group relative policy optimisation by TRL's GRPOTrainer (Shao et al. 2024, section 4.1).

Each prompt is answered several times, and an answer's advantage is its reward less its group's mean, divided by the group's
deviation; the policy moves by clipped ratios as PPO's does, without a value head. TRL's `loss_type` and `scale_rewards` choose the
variants (DAPO, Dr. GRPO). Interrupted, the same command continues from the last saved step.
"""

from __future__ import annotations

from pathlib import Path

from training.recipe import GRPORecipe
from training.run_record import RunRecord
from training.trl_run import TRLRun


def train_grpo(recipe: GRPORecipe, out: Path) -> RunRecord:
    """Train, save and measure; returns the record. Where `out` is complete already, nothing is done."""
    run = TRLRun.begin(recipe, out)
    if run.complete:
        return run.directory.record()

    from trl import GRPOConfig, GRPOTrainer

    from training.online_run import train_online

    return train_online(run, GRPOConfig, GRPOTrainer)
