"""A training run on disk: the state it continues from, and the record that is written last.

runs/ID/  checkpoint/  run.json  metrics.jsonl  .state/ (while it runs)

One process at a time trains in it, and a run that continues has the parents and the data that it began with.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from training.command import first_process
from training.directory_lock import LOCK, hold
from training.energy import meter, price, spent
from training.energy_record import Energy, total
from training.errors import UsageError
from training.precision import chosen_dtype
from training.records import canonical_json, sha256_of_file, write_atomically
from training.reference import FILE as REFERENCE
from training.reference import Reference
from training.run_record import DataSource, ParentCheckpoint, RunRecord
from training.saved_state import damaged, sync
from training.yaml_file import Settings

STATE = ".state"  # in the run's directory, while it trains
ENERGY = "energy.json"  # what each attempt had taken when something was last saved
INPUTS = "inputs.json"  # digests of the parents and hashes of the data that the run began with
BEFORE_ANYTHING_IS_SAVED = ("recipe.json", INPUTS, LOCK)

R = TypeVar("R", bound=Settings)


@dataclass(frozen=True)
class RunDirectory:
    """`runs/ID`. Open it with the recipe: a directory that another recipe began is refused."""

    path: Path
    recipe: dict[str, Any]

    @classmethod
    def open(cls, path: Path, recipe: Settings) -> RunDirectory:
        """Make or reopen a run's directory. Raises UsageError where it holds a run of another recipe.

        One that ended before anything of it was saved, for a bad row or for want of memory, may begin again with any recipe.
        Raises UsageError, too, where another process is training in it.
        """
        wanted = recipe.model_dump(mode="json")
        run = cls(path, wanted)
        if not run.complete:
            run._lock()
        begun = run.begun()
        if begun is not None:
            begun = _with_new_keys(begun, type(recipe))
        if begun is not None and begun != wanted and (run.complete or run._anything_saved()):
            if begun.get("method") != wanted.get("method"):  # they have hardly a key in common
                begun, wanted = ({"method": each.get("method")} for each in (begun, wanted))
            was, now = with_dots(begun), with_dots(wanted)
            changed = sorted(key for key in {*was, *now} if was.get(key) != now.get(key))
            raise UsageError(
                "this directory holds a run of another recipe" + ("" if run.complete else ", which is not finished"),
                where=str(path),
                expected=", ".join(f"{key}: {json.dumps(was.get(key))}" for key in changed),
                found=", ".join(f"{key}: {json.dumps(now.get(key))}" for key in changed),
                next_step=("" if run.complete else "continue it with the values that it was begun with, ")
                + "choose another --out, or remove the directory to begin again",
            )
        if not run.complete:
            run.scratch.mkdir(parents=True, exist_ok=True)
            write_atomically(run.state / "recipe.json", canonical_json(wanted))
        return run

    def begun(self) -> dict[str, Any] | None:
        """The recipe that this directory was begun with, or None."""
        if self.complete:
            return RunRecord.read(self.path / "run.json").recipe
        file = self.state / "recipe.json"
        begun: dict[str, Any] | None = _read(file) if file.is_file() else None
        return begun

    def _anything_saved(self) -> bool:
        files = (file for file in self.path.rglob("*") if file.is_file())
        return any(file.parent != self.state or file.name not in BEFORE_ANYTHING_IS_SAVED for file in files)

    def _lock(self) -> None:
        """Hold the directory until this process ends, whatever ends it. Of several launched as one run, the first does."""
        if first_process():
            hold(self.state, "another process is training here", self.path)

    def hold_inputs(
        self,
        parents: Sequence[ParentCheckpoint],
        sources: Sequence[DataSource],
        *,
        continues: bool,
        measured_on: Sequence[DataSource] = (),
    ) -> None:
        """Note what the run begins with; where it `continues` from a saved state, refuse what is not that any more.

        `measured_on` is what it is to be measured on beside rows held out of `sources`.

        Digests and hashes count, not paths: a checkpoint may have moved, and nothing depends on the number of processes.
        """
        file = self.state / INPUTS
        found = [(f"the {parent.role.replace('_', ' ')} {parent.name}", parent.digest) for parent in parents]
        found += [(f"the rows of {source.id}, split {source.split}", source.sha256) for source in sources]
        found += [
            (f"the rows held out of {source.id}", source.heldout_sha256 or "nothing held out") for source in sources
        ]
        found += [(f"the prompts of {source.id} to measure on", source.sha256) for source in measured_on]
        if continues and file.is_file():
            begun = _read(file)
            # Not strict: until 2026-11-28 what is measured on, which stands last, was not noted.
            changed = [(name, was, now) for (name, now), (_, was) in zip(found, begun, strict=False) if was != now]
            if changed:
                names, before, after = zip(*changed, strict=True)
                raise UsageError(
                    f"this run began with other contents of {' and '.join(names)}",
                    where=str(self.path),
                    expected=", ".join(before),
                    found=", ".join(after),
                    next_step="to continue it, bring back what it began with (a Hub id can name its revision); "
                    "to begin again, choose another --out or remove the directory",
                )
        elif first_process():
            write_atomically(file, canonical_json(found))

    @property
    def state(self) -> Path:
        return self.path / STATE

    @property
    def scratch(self) -> Path:
        """On the same file system as the checkpoint, so that moving there is a rename."""
        return self.state / "scratch"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def complete(self) -> bool:
        return (self.path / "run.json").is_file()

    def record(self) -> RunRecord:
        return RunRecord.read(self.path / "run.json")

    def wait_for_record(self) -> RunRecord:
        """The record that the first process is about to write: what the other processes of a run return."""
        while not self.complete:
            time.sleep(0.2)
        return self.record()

    def log_metrics(self, values: dict[str, Any]) -> None:
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values, sort_keys=True) + "\n")

    def sync_metrics(self) -> None:
        """Have the disk hold the metrics before it holds the state of their last step."""
        if self.metrics.is_file():
            sync(self.metrics)

    def cut_metrics(self, last: int) -> None:
        """Drop the lines of steps after `last`, for they come again; a line torn by a kill is such a one.

        Raises UsageError where a step up to `last` is not there: the record would tell a part of the run as the whole.
        """
        content = self.metrics.read_bytes() if self.metrics.is_file() else b""
        kept: list[tuple[int, bytes]] = []
        for number, line in enumerate(content.splitlines(keepends=True), 1):
            if line.endswith(b"\n"):
                try:
                    kept.append((int(json.loads(line)["step"]), line))
                except (ValueError, KeyError, TypeError) as error:
                    raise damaged(self.metrics, f"line {number}: {line[:80].decode(errors='replace')!r}") from error
        missing = sorted({*range(1, last + 1)} - {step for step, _ in kept})
        if missing:
            told = ", ".join(map(str, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
            raise damaged(self.metrics, f"no line of step {told}, and the saved state is of step {last}")
        write_atomically(self.metrics, b"".join(line for step, line in kept if step <= last))

    def note_energy(self) -> None:
        """Keep what this attempt has taken so far, beside what it can continue from; its seconds are kept so, too."""
        write_atomically(self.state / ENERGY, canonical_json({k: v.model_dump() for k, v in self._energy().items()}))

    def _energy(self) -> dict[str, Energy]:
        """attempt -> its energy: those before as they were noted, this one as it stands now."""
        file = self.state / ENERGY
        noted = _read(file) if file.is_file() else {}
        attempts = {name: Energy(**value) for name, value in noted.items()}
        now, running = spent(), meter()
        if now is None or running is None:
            now, name = Energy(kwh=None, parts=[], estimate=False, method="a part of it was not measured"), "unmeasured"
        else:
            name = running.id
        return {**attempts, name: now}

    def finish(self, record: RunRecord) -> RunRecord:
        """Move the checkpoint from scratch into place, write run.json last, with what it took, and drop the state."""
        target = self.path / "checkpoint"
        if target.exists():  # moved there by a run that was killed before it wrote run.json
            shutil.rmtree(target)
        (self.scratch / "checkpoint").rename(target)
        if (self.scratch / REFERENCE).is_file():  # what the model said before it was saved, now tied to its files
            reference = Reference.read(self.scratch / REFERENCE)
            named = reference.model_copy(update={"checkpoint_digest": record.checkpoint_digest})
            named.write(self.path / REFERENCE)
        attempts = self._energy()
        measured = total(list(attempts.values())) if set(attempts) != {"unmeasured"} else None
        course = sha256_of_file(self.metrics) if self.metrics.is_file() else None
        record = record.model_copy(update={"energy": measured, "price": price(), "metrics_sha256": course})
        record.write(self.path / "run.json")
        shutil.rmtree(self.state)
        return record


def _read(file: Path) -> Any:
    """A file of JSON that a run which is not finished left. Raises UsageError where it is damaged."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise damaged(file, str(error)) from error


def with_dots(settings: dict[str, Any], before: str = "") -> dict[str, Any]:
    """Nested settings under one name each, as overrides on the command line have them: {"ppo": {"lam": 1}} -> {"ppo.lam": 1}."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        found |= with_dots(value, f"{before}{key}.") if isinstance(value, dict) and value else {before + key: value}
    return found


def _with_new_keys(begun: dict[str, Any], cls: type[Settings]) -> dict[str, Any]:
    """A recipe as an earlier version wrote it, with the keys that are new since at their defaults; as it is, if it is another's."""
    try:
        return cls.model_validate(begun).model_dump(mode="json")
    except ValidationError:
        return begun


def with_chosen_dtype(recipe: R, path: Path) -> R:
    """The recipe with `dtype: auto` replaced: by what the run in `path` was begun with, else by what is fast here."""
    dtype: str = recipe.dtype  # type: ignore[attr-defined]
    begun = RunDirectory(path, {}).begun()
    if dtype == "auto" and begun is not None and begun.get("dtype") is not None:
        return recipe.model_copy(update={"dtype": begun["dtype"]})
    return recipe.model_copy(update={"dtype": chosen_dtype(dtype, training_device())})


def training_device() -> str:
    """Where a run trains: "cuda" where there is one, else "cpu"."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
