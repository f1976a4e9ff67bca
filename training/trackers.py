"""Trackers that follow a run of our own beside metrics.jsonl: TensorBoard, Trackio and W&B, through accelerate's classes.

    require_trackers(recipe, out)                              # before anything is loaded; of TRL's methods too
    with tracked(recipe.report_to, run, recipe, steps_done) as log:
        log({"step": 1, "reward_mean": 0.3})              # numbers are told, the rest is metrics.jsonl's

TensorBoard's files lie in the run, in tensorboard/. Trackio and W&B get a project `slipway` and the run directory's name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from training.errors import UsageError
from training.run_directory import RunDirectory, with_dots
from training.yaml_file import Settings

Tracker = Literal["none", "tensorboard", "trackio", "wandb"]  # transformers' names
PROJECT = "slipway"


def named(report_to: Any) -> list[str]:
    """The trackers that a recipe's `report_to` names, each once, without `none`; what is no name becomes a text."""
    names = report_to if isinstance(report_to, list) else [report_to or "none"]
    return [name for name in dict.fromkeys(map(str, names)) if name != "none"]


def require_trackers(recipe: Any, out: Path) -> None:
    """Raise UsageError for a tracker of the recipe that is unknown or not installed, before anything is loaded for it."""
    if RunDirectory(out, {}).complete:
        return
    args = getattr(recipe, "args", None)
    key = "report_to" if args is None else "args.report_to"
    report_to = recipe.report_to if args is None else args.get("report_to")
    if not named(report_to):
        return
    from transformers.integrations.integration_utils import (
        INTEGRATION_TO_CALLBACK,
        get_available_reporting_integrations,
    )

    available = get_available_reporting_integrations()
    for name in named(report_to):
        if name not in {*INTEGRATION_TO_CALLBACK, "all"}:
            known = ", ".join(sorted({*INTEGRATION_TO_CALLBACK, "all", "none"}))
            raise UsageError("there is no such tracker", where=key, expected=known, found=name)
        if name not in {*available, "all"}:
            raise UsageError(
                f"the run is to report to {name}, which is not installed",
                where=key,
                expected=f"one of {', '.join(sorted({*available, 'none'}))}",
                found=name,
                next_step=f"pip install {name.replace('_', '-')}, or set {key} to none",
            )


@contextmanager
def tracked(
    report_to: Tracker | list[Tracker], out: Path, recipe: Settings, steps_done: int
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that tells all trackers an update's figures, by its `step`. To be opened by the run's first process alone.

    A run that continues after `steps_done` steps hides what TensorBoard was told of later ones; for Trackio and W&B it is another
    run of the same name, whose first step is the one that comes next.
    """
    trackers = [_started(name, out, steps_done) for name in named(report_to)]
    settings = {key: str(value) for key, value in with_dots(recipe.model_dump(mode="json")).items()}
    for tracker in trackers:
        if tracker.name != "tensorboard":  # its hyperparameters would be a second run with an empty curve
            tracker.store_init_configuration(settings)

    def log(values: dict[str, Any]) -> None:
        numbers = {key: value for key, value in values.items() if isinstance(value, int | float) and key != "step"}
        for tracker in trackers:
            tracker.log(numbers, step=values["step"])

    try:
        yield log
    finally:
        for tracker in trackers:
            tracker.finish()


def _started(name: str, out: Path, steps_done: int) -> Any:
    from accelerate.tracking import TensorBoardTracker, TrackioTracker, WandBTracker

    tracker: Any
    if name == "tensorboard":
        tracker = TensorBoardTracker("tensorboard", out, purge_step=steps_done + 1)
    elif name == "trackio":
        tracker = TrackioTracker(PROJECT, name=out.resolve().name)
    else:
        tracker = WandBTracker(PROJECT, name=out.resolve().name, dir=str(out))
    tracker.start()
    return tracker
