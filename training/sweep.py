"""`python -m training sweep`: try values of a recipe, each as an ordinary run, and tell which did best on a held-out metric.

    python -m training sweep --method ppo --recipe ppo-starter --over sweep.yaml --out runs/sweep

    runs/sweep/  trials/000/ trials/001/ ...  study.jsonl  sweep.md  sweep.json

A trial is a process of its own that runs `python -m training METHOD` with the proposed values as overrides. Killed at any moment,
the same command continues: the trial in hand from its own last saved step, the rest as they would have been.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.command import Result, log
from training.directory_lock import hold, is_held, let_go
from training.energy import add_arguments as add_energy_arguments
from training.energy import as_options, circumstances
from training.errors import EXIT_BUG, EXIT_INTERRUPTED, EXIT_USAGE, UsageError
from training.recipe import find_recipe
from training.records import canonical_json, write_atomically
from training.run_directory import STATE
from training.run_record import RunRecord
from training.sweep_flaws import flaw_of
from training.sweep_record import SweepRecord, Trial, as_markdown, as_text, best_of, table
from training.sweep_settings import OBJECTIVES, SweepSettings, as_overrides, judged_by
from training.sweep_study import next_trial, open_study, wanted
from training.yaml_file import Settings, load

if TYPE_CHECKING:
    import optuna

BEGUN, JOURNAL, TABLE, RECORD = "begun.json", "study.jsonl", "sweep.md", "sweep.json"
FAILED = "failed.txt"  # in a trial's directory: what was said of it
GIVE_UP_AFTER = 3  # trials that fail before any has succeeded

Train = Callable[
    [list[str]], tuple[int, str]
]  # the words after `python -m training` -> exit code, and the error's text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--method", required=True, choices=sorted(OBJECTIVES), help="what each trial runs, e.g. ppo")
    parser.add_argument("--recipe", required=True, help="a YAML file, or one that ships (ppo-starter)")
    parser.add_argument(
        "--over", type=Path, required=True, help="a YAML file: what is varied, the objective, how many trials"
    )
    parser.add_argument("--out", type=Path, required=True, help="the sweep's directory, e.g. runs/sweep")
    add_energy_arguments(parser)
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="values of the recipe that every trial has")


def run_sweep(args: argparse.Namespace, kind: type[Settings]) -> Result:
    """The command: sweep over recipes of `kind`."""
    settings = load(args.over, SweepSettings)
    told = as_options(circumstances(args))
    sweep = Sweep(settings, args.method, args.recipe, kind, args.overrides, args.out)
    try:
        record = sweep.run(lambda words: train_in_a_process([*words, *told]))
    finally:
        let_go()
    lines = [as_text(table(record)), str(args.out / TABLE)]
    lines += [str(args.out / trial.run / "checkpoint") for trial in record.trials if trial.number == record.best]
    return {**record.model_dump(mode="json"), "summary": "\n".join(lines)}


class Sweep:
    """A sweep and its directory. Raises UsageError where a recipe of it would be refused, or `out` holds another sweep."""

    def __init__(
        self, settings: SweepSettings, method: str, recipe: str, kind: type[Settings], overrides: list[str], out: Path
    ) -> None:
        self.settings, self.method, self.overrides, self.out = settings, method, overrides, out
        self.file = find_recipe(recipe)
        self.objective, self.direction = judged_by(settings, method)
        common = load(self.file, kind, overrides)
        for values in settings.ends():
            load(self.file, kind, [*overrides, *as_overrides(values)])
        self.begun: dict[str, Any] = {
            "method": method,
            "objective": self.objective,
            "direction": self.direction,
            "recipe": common.model_dump(mode="json"),
            "sweep": settings.model_dump(mode="json"),
        }
        file = out / BEGUN
        found = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else self.begun
        changed = sorted(key for key in self.begun if found.get(key) != self.begun[key])
        if changed:
            raise UsageError(
                "this directory holds another sweep",
                where=str(out),
                expected=", ".join(f"{key}: {json.dumps(found.get(key))}" for key in changed)[:600],
                found=", ".join(f"{key}: {json.dumps(self.begun[key])}" for key in changed)[:600],
                next_step="choose another --out, or remove the directory to begin again",
            )
        write_atomically(file, canonical_json(self.begun))

    def run(self, train: Train) -> SweepRecord:
        """Run the trials that are missing, and write table and record. Where these are there already, nothing is done."""
        if (self.out / RECORD).is_file():
            return SweepRecord.read(self.out / RECORD)
        hold(self.out, "another process is sweeping here", self.out)
        study = open_study(self.out / JOURNAL, self.direction)
        while (trial := next_trial(study, self.settings)) is not None:
            self._run_trial(trial, study, train)
        trials = [self._told(trial) for trial in study.get_trials(deepcopy=False) if trial.params]
        record = SweepRecord(**self.begun, trials=trials, best=best_of(trials, self.direction))
        write_atomically(self.out / TABLE, as_markdown(record).encode())
        record.write(self.out / RECORD)
        return record

    def _run_trial(self, trial: optuna.trial.FrozenTrial, study: optuna.Study, train: Train) -> None:
        """Train the trial, from where it stands, and tell the study what came of it."""
        from optuna.trial import TrialState

        given = as_overrides(trial.params)
        log(f"trial {trial.number}, one of {wanted(self.settings)}: {' '.join(given)}")
        run = self.out / _place(trial.number)
        if is_held(run / STATE):
            log(f"{run} is still trained by a process of a sweep that was killed; waiting until it ends")
            while is_held(run / STATE):
                time.sleep(1.0)
        words = [self.method, "--recipe", str(self.file), "--out", str(run), *self.overrides, *given]
        code, said = train(words)
        if code == 0:
            value, flaw = self._objective_of(run), flaw_of(run, self.objective)
            if flaw is None:
                study.tell(trial.number, value)
                return
            code, said = EXIT_USAGE, f"not trained to a usable end: {flaw}"
        if code == EXIT_INTERRUPTED:
            raise KeyboardInterrupt
        if code > 0 and code not in (EXIT_BUG, EXIT_USAGE):  # nothing of the trial's own, so it may yet succeed
            raise UsageError(
                f"trial {trial.number} ended with exit code {code}",
                where=str(run),
                found=said,
                next_step="see to it, then run the same command again",
            )
        write_atomically(run / FAILED, (said + "\n").encode())
        study.tell(trial.number, state=TrialState.FAIL)
        log(f"trial {trial.number} failed: {said}")
        trials = study.get_trials(deepcopy=False)
        if len(trials) >= GIVE_UP_AFTER and all(each.state == TrialState.FAIL for each in trials):
            raise UsageError(
                f"all of the first {len(trials)} trials failed",
                where=str(run),
                found=said,
                next_step="python -m training " + " ".join(words),
            )

    def _objective_of(self, run: Path) -> float:
        metrics = RunRecord.read(run / "run.json").metrics
        value = metrics.get(self.objective)
        if value is None:
            raise UsageError(
                f"the runs have no metric of the name {self.objective}",
                where=str(run / "run.json"),
                expected="one of " + ", ".join(sorted(metrics)),
                found=self.objective,
                next_step="name one of them as the sweep's objective, with another --out",
            )
        return value

    def _told(self, trial: optuna.trial.FrozenTrial) -> Trial:
        place = _place(trial.number)
        told = Trial(number=trial.number, run=place, values=trial.params, value=trial.value)
        if trial.value is None:
            why = (self.out / place / FAILED).read_text(encoding="utf-8").strip()
            return told.model_copy(update={"why": why})
        record = RunRecord.read(self.out / place / "run.json")
        return told.model_copy(update={"seconds": record.seconds, "checkpoint_digest": record.checkpoint_digest})


def train_in_a_process(words: list[str]) -> tuple[int, str]:
    """`python -m training WORDS --json`, its progress on our stderr; the exit code, and the error's text."""
    command = [sys.executable, "-m", "training", *words, "--json"]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    try:
        error = json.loads(finished.stdout).get("error", {})
    except ValueError:  # killed before it could say anything
        error = {"what": f"it ended with exit code {finished.returncode} and said nothing"}
    return finished.returncode, ": ".join(str(error[key]) for key in ("what", "found") if error.get(key))


def _place(number: int) -> str:
    return f"trials/{number:03}"
