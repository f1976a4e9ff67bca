"""The study behind a sweep: Optuna's journal on disk, and which trial comes next (Akiba et al. 2019).

The journal is a file of JSON lines that grows line by line, so a kill loses the line in hand and nothing else: what is left of it
is cut off, for Optuna would append to it.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from training.errors import UsageError
from training.records import write_atomically
from training.saved_state import damaged
from training.sweep_settings import Span, SweepSettings

if TYPE_CHECKING:
    import optuna


def open_study(journal: Path, direction: Literal["maximize", "minimize"]) -> optuna.Study:
    """The study in `journal`, or a new one; to be opened by the one process that holds the sweep's directory.

    Raises UsageError where Optuna is not installed, or the journal is damaged.
    """
    try:
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
    except ImportError as error:
        raise UsageError(
            "a sweep needs Optuna, which is not installed", next_step="pip install 'slipway[sweep]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    whole_lines_only(journal)
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)  # of a sweep that was killed while it wrote
    storage = JournalStorage(JournalFileBackend(str(journal), lock_obj=JournalFileOpenLock(str(journal))))
    return optuna.create_study(storage=storage, study_name="sweep", direction=direction, load_if_exists=True)


def whole_lines_only(journal: Path) -> None:
    """Cut off a line that a kill has torn. Raises UsageError where one before it is no JSON."""
    content = journal.read_bytes() if journal.is_file() else b""
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, 1):
        if line.endswith(b"\n"):
            try:
                json.loads(line)
            except ValueError as error:
                raise damaged(journal, f"line {number}: {line[:80].decode(errors='replace')!r}") from error
        else:
            write_atomically(journal, content[: -len(line)])


def next_trial(study: optuna.Study, settings: SweepSettings) -> optuna.trial.FrozenTrial | None:
    """The trial that was being run when the sweep was killed, or a new one; None where there are as many as are wanted.

    A new one's sampler is made for it alone and seeded by its number, so what it proposes does not depend on interruptions.
    """
    from optuna.trial import TrialState

    distributions = {key: distribution(values) for key, values in settings.over.items()}
    trials = study.get_trials(deepcopy=False)
    whole = [trial for trial in trials if was_proposed(trial, settings)]
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            if trial in whole:
                return trial
            study.tell(trial.number, state=TrialState.FAIL)  # killed while it was proposed: nothing of it was run
    if len(whole) >= wanted(settings):
        return None
    if settings.sampler == "grid" and not any(trial.state == TrialState.WAITING for trial in trials):
        study.enqueue_trial(_combination(settings, len(whole)))  # Optuna's own GridSampler is for its loop only
    if settings.sampler != "grid":
        study.sampler = _sampler(settings, len(whole))
    number = study.ask(distributions).number
    return study.get_trials(deepcopy=False)[number]


def any_compared(journal: Path) -> bool:
    """Whether the journal has the objective's value of any trial."""
    if not journal.is_file():
        return False
    whole_lines_only(journal)
    return any(json.loads(line).get("values") for line in journal.read_bytes().splitlines())


def was_proposed(trial: optuna.trial.FrozenTrial, settings: SweepSettings) -> bool:
    """Whether all its values are known; a kill may have come between two of them, and then nothing of it was run."""
    return set(trial.params) == set(settings.over)


def wanted(settings: SweepSettings) -> int:
    """How many trials there are to be: a grid has no more than its combinations."""
    if settings.sampler == "grid" and settings.combinations is not None:
        return min(settings.trials, settings.combinations)
    return settings.trials


def distribution(values: Span | list[Any]) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(values, list):
        return CategoricalDistribution(values)
    if values.whole:
        return IntDistribution(int(values.low), int(values.high), log=values.log, step=int(values.step or 1))
    return FloatDistribution(float(values.low), float(values.high), log=values.log, step=values.step)


def _combination(settings: SweepSettings, number: int) -> dict[str, Any]:
    """The grid's combinations in order, the last key's values changing first."""
    lists = {key: values for key, values in settings.over.items() if isinstance(values, list)}
    return dict(zip(lists, list(itertools.product(*lists.values()))[number], strict=True))


def _sampler(settings: SweepSettings, number: int) -> optuna.samplers.BaseSampler:
    from optuna.samplers import RandomSampler, TPESampler

    seed = settings.seed * 1_000_003 + number
    if settings.sampler == "random":
        return RandomSampler(seed=seed)
    # A third of few trials is drawn at random before the estimates begin; Optuna's own ten is the most.
    return TPESampler(seed=seed, n_startup_trials=min(10, max(2, settings.trials // 3)))
