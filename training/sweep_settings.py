"""What a sweep varies and what it is to find, read from YAML: values of a recipe, one metric of its runs, and how many of them.

objective: heldout_reward_after    # a metric of run.json; left out, the method's own
direction: maximize
trials: 12
over:
  ppo.learning_rate: {low: 1e-4, high: 4e-3, log: true}
  ppo.kl_coef: [0.02, 0.05, 0.1]
  lora.r: {low: 4, high: 32, step: 4}
"""

from __future__ import annotations

import json
import math
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from training.errors import UsageError
from training.yaml_file import Settings

Choice = bool | int | float | str

# The metric of run.json that a method is judged by unless the sweep names one, and whether more of it is better.
OBJECTIVES: dict[str, tuple[str, Literal["maximize", "minimize"]]] = {
    "sft": ("heldout_loss_after", "minimize"),
    "reward": ("heldout_accuracy", "maximize"),
    "dpo": ("heldout_accuracy", "maximize"),
    "kto": ("heldout_auc", "maximize"),
    "ppo": ("heldout_reward_after", "maximize"),
    "rloo": ("heldout_reward_after", "maximize"),
    "grpo": ("heldout_reward_after", "maximize"),
    "ilql": ("steered_reward", "maximize"),
}


class Span(Settings):
    """Numbers from `low` to `high`, both included: whole ones where both are, else any; by their logarithm, or in steps."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _a_span_that_can_be_drawn_from(self) -> Self:
        if not self.low < self.high or not all(math.isfinite(end) for end in (self.low, self.high)):
            raise ValueError(f"low must be below high, and both finite; here they are {self.low} and {self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"log needs a low above 0, and here it is {self.low}")
        if self.log and self.step is not None:
            raise ValueError("log and step do not go together")
        if self.whole and self.step is not None and not isinstance(self.step, int):
            raise ValueError(f"whole numbers need a whole step, and here it is {self.step}")
        return self

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


class SweepSettings(Settings):
    """A sweep over values of a recipe."""

    objective: str | None = None
    direction: Literal["maximize", "minimize"] | None = None
    trials: int = Field(default=8, gt=0)
    sampler: Literal["tpe", "random", "grid"] = "tpe"  # grid takes lists only, and every combination of them once
    seed: int = 0
    over: dict[str, Span | list[Choice]] = Field(min_length=1)

    @model_validator(mode="after")
    def _values_to_choose_from(self) -> Self:
        for key, values in self.over.items():
            if isinstance(values, list) and len(values) != len({json.dumps(value) for value in values}):
                raise ValueError(f"'{key}' has a value twice")
            if isinstance(values, list) and len(values) < 2:
                raise ValueError(f"'{key}' has fewer than two values to choose from")
            if self.sampler == "grid" and isinstance(values, Span):
                raise ValueError(f"a grid is of lists, and '{key}' is a span; list its values, or use tpe or random")
        if self.objective is not None and self.direction is None:
            raise ValueError("an objective needs a direction: maximize or minimize")
        return self

    @property
    def combinations(self) -> int | None:
        """How many there are, where all is listed."""
        counts = [len(values) if isinstance(values, list) else None for values in self.over.values()]
        return None if None in counts else math.prod(count for count in counts if count)

    def ends(self) -> list[dict[str, Any]]:
        """Values that between them reach each key's limits, to be checked before anything is trained."""
        listed = {
            key: values if isinstance(values, list) else [values.low, values.high] for key, values in self.over.items()
        }
        return [
            {key: values[min(place, len(values) - 1)] for key, values in listed.items()}
            for place in range(max(len(values) for values in listed.values()))
        ]


def judged_by(settings: SweepSettings, method: str) -> tuple[str, Literal["maximize", "minimize"]]:
    """The metric that trials are compared by, and its direction."""
    if settings.objective is not None and settings.direction is not None:
        return settings.objective, settings.direction
    if settings.direction is not None:
        raise UsageError(
            "a direction stands without an objective",
            expected="objective: a metric of run.json",
            found=f"direction: {settings.direction}",
            next_step="name the objective, or leave both out",
        )
    return OBJECTIVES[method]


def as_overrides(values: dict[str, Any]) -> list[str]:
    """`key=value` as the command line of a training command takes it; JSON is YAML."""
    return [f"{key}={json.dumps(value)}" for key, value in values.items()]
