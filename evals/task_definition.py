"""Tasks by name: their definitions in lm-eval's format, ours, lm-eval's own or a user's file, checked and built with their data.

    task = load_task("truthfulqa_mc1", Overrides(num_fewshot=0))
    task = load_task("capitals", Overrides(), file=Path("capitals.yaml"))

What lm-eval would take without a word is refused: an unknown key, a metric without an aggregation, a row that is no row.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib.util
import os
import re
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from evals.data_rows import check_rows
from evals.harness import TASKS, Task, quietly
from evals.suite import TASK_NAME
from training.errors import HubError, UsageError


class Unavailable(UsageError):
    """What a task needs is not there (its data, a scorer's data): its figures fail, and other tasks' need not."""


@dataclass(frozen=True)
class Overrides:
    """What a suite sets in lm-eval's definition of a task."""

    num_fewshot: int | None = None
    repeats: int | None = None
    generation: dict[str, Any] = field(default_factory=dict)


def load_task(name: str, overrides: Overrides, file: Path | None = None) -> Task:
    """Load a task of ours, of lm-eval's, or from a `file` in lm-eval's format; and its data: from files, or from the Hub.

    Raises UsageError for an unknown task, a definition or a row that is not as it must be; Unavailable for data that are
    not there, HubError where no Hub answers.
    """
    import langdetect

    langdetect.DetectorFactory.seed = 0  # IFEval's checks of language draw random numbers
    with quietly(), _without_downloads():
        path = file or (TASKS / f"{name}.yaml")
        path = path if file or path.is_file() else official_definition(name)
        config = _definition(path, name)
        change: dict[str, Any] = {}
        if overrides.num_fewshot is not None:
            change["num_fewshot"] = overrides.num_fewshot
        if overrides.repeats is not None:
            change["repeats"] = overrides.repeats
        if overrides.generation:
            change["generation_kwargs"] = {**(config.get("generation_kwargs") or {}), **overrides.generation}
        if (config.get("dataset_kwargs") or {}).get("data_files"):
            change["dataset_kwargs"] = _beside(path, name, config["dataset_kwargs"])
        return Task(name, _build(path, name, config, change))


def _definition(path: Path, name: str) -> dict[str, Any]:
    """A task's file with what it includes. Raises UsageError where it cannot be read or is no definition of this task."""
    from lm_eval.config.task import TaskConfig
    from lm_eval.tasks._yaml_loader import load_yaml

    mend = "correct the task's file; its format is lm-eval's (docs/task_guide.md of lm-evaluation-harness)"
    try:
        config = load_yaml(path, resolve_func=False)
        load_yaml(path, resolve_func=True)
    except Exception as error:  # whatever a function's module does as it is imported
        raise UsageError(
            f"the definition of the task {name} cannot be read",
            where=str(path),
            expected="a YAML file of lm-eval's task format whose includes and functions are there",
            found=_first_line(error),
            next_step=mend,
        ) from error
    if not isinstance(config, dict) or config.get("task") != name:
        raise UsageError(
            "the task's file is not the definition of the task that the suite names",
            where=str(path),
            expected=f"task: {name}",
            found=f"task: {config.get('task')}" if isinstance(config, dict) else type(config).__name__,
            next_step="give both the same name",
        )
    known = {*TaskConfig.__dataclass_fields__, "class", "include", "tag", "group", "task_list"}
    if "class" not in config and (unknown := sorted(set(config) - known)):
        close = difflib.get_close_matches(unknown[0], sorted(known), n=1)
        raise UsageError(
            f"the definition of the task {name} has a key that lm-eval does not know",
            where=str(path),
            expected="a key of lm-eval's task format",
            found=unknown[0],
            next_step=f"did you mean '{close[0]}'?" if close else "remove the key",
        )
    return dict(config)


def _build(path: Path, name: str, config: dict[str, Any], change: dict[str, Any]) -> Any:
    """lm-eval's task. Its errors are of many types; where one is raised tells what is wrong."""
    from lm_eval.tasks._factory import TaskFactory
    from lm_eval.tasks._index import TaskIndex

    hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        raw = TaskFactory().build(TaskIndex.entry_from_path(path), overrides=change, registry={})
        if unknown := [metric for metric, function in raw.aggregation().items() if function is None]:
            raise ValueError(f"no aggregation of that name for {', '.join(unknown)}")  # lm-eval only warns
        return raw
    except ConnectionError as error:
        raise HubError(
            f"the Hub cannot be reached for the data of the task {name}",
            where=hub,
            found=str(error).strip()[:300],
            next_step="check HF_ENDPOINT and the network, then run the same command again",
        ) from error
    except Exception as error:
        if any(frame.name == "download" for frame in traceback.extract_tb(error.__traceback__)):
            own = "data_files" in (config.get("dataset_kwargs") or {})
            raise Unavailable(
                f"the data of the task {name} cannot be loaded",
                where=str(path) if own else hub,
                expected=str(config.get("dataset_path")),
                found=_first_line(error),
                next_step="correct the data or their place in the task's file"
                if own
                else "check HF_ENDPOINT and the network; an embedded Hub serves official data by their ids",
            ) from error
        raise UsageError(
            f"lm-eval cannot make a task of the definition of {name}",
            where=str(path),
            expected="a definition that fits its data",
            found=_first_line(error),
            next_step="correct the task's file, or its data",
        ) from error


def _first_line(error: BaseException) -> str:
    told = str(error.__cause__ or error).strip().splitlines()
    return f"{type(error).__name__}: {told[0][:300] if told else ''}"


def official_definition(name: str) -> Path:
    """The installed definition of an official task, found by its `task:` line (building lm-eval's index takes 8 s)."""
    spec = importlib.util.find_spec("lm_eval.tasks")
    folder = Path(str(spec.origin)).parent if spec and spec.origin else Path()
    line = re.compile(rb"^task:[ \t]*[\"']?" + re.escape(name).encode() + rb"[\"']?[ \t]*(#.*)?\r?$", re.MULTILINE)
    for file in sorted(folder.rglob("*.yaml")):
        if line.search(file.read_bytes()):
            return file
    raise UsageError(
        "lm-eval has no task of this name, and neither have we",
        where=str(folder),
        expected="a task's id, as `lm-eval ls tasks` lists them, or one of "
        + ", ".join(sorted(file.stem for file in TASKS.glob("*.yaml"))),
        found=name,
        next_step="correct the name in the suite, or give the task's definition with file: PATH.yaml",
    )


def installed_aggregation(name: str, metric: str) -> tuple[str, Callable[[list[Any]], float]] | None:
    """How the task that is installed here under this name makes a metric of its items: the aggregation's name and function.

    Of the definition alone, so it needs neither data nor a network. None where no task of this name is installed, or its
    definition lists no such metric (a suite's scoring has metrics of its own). The name may come from a stranger's record.
    """
    found = _installed_metrics(name).get(metric.partition(",")[0]) if re.fullmatch(TASK_NAME, name) else None
    if found is None:
        return None
    aggregation, function, _ = found
    return None if function is None else (aggregation, function)


def installed_direction(name: str, metric: str) -> bool | None:
    """Whether a higher figure is better, by the task that is installed here under this name; None as above."""
    found = _installed_metrics(name).get(metric.partition(",")[0]) if re.fullmatch(TASK_NAME, name) else None
    return found[2] if found is not None else None


@cache
def _installed_metrics(name: str) -> dict[str, tuple[str, Callable[[list[Any]], float] | None, bool]]:
    """Metric -> name and function of its aggregation, and whether higher is better."""
    from lm_eval.api import registry
    from lm_eval.tasks._yaml_loader import load_yaml

    with quietly(), _without_downloads():
        import lm_eval.api.metrics  # noqa: F401 - fills the registry

        try:
            own = TASKS / f"{name}.yaml"
            config = load_yaml(own if own.is_file() else official_definition(name), resolve_func=True)
        except Exception:  # noqa: BLE001 - whatever modules of a definition raise that cannot be imported here
            return {}
        listed = config.get("metric_list")
        if listed is None:
            listed = [{"metric": one} for one in registry.DEFAULT_METRIC_REGISTRY.get(config.get("output_type"), [])]
        found = {}
        for entry in listed:
            given, metric = entry.get("aggregation"), entry["metric"]
            metric = str(getattr(metric, "__name__", metric))
            function = given if callable(given) else registry.get_aggregation(given) if given else None
            function = function or registry.get_metric_aggregation(metric)
            higher = entry["higher_is_better"] if "higher_is_better" in entry else registry.is_higher_better(metric)
            found[metric] = str(getattr(function, "__name__", "custom")), function, bool(higher)
        return found


def _beside(path: Path, name: str, dataset_kwargs: dict[str, Any]) -> dict[str, Any]:
    """`dataset_kwargs` with data files found beside the task's file, wherever the package is installed, and checked."""
    files = dataset_kwargs["data_files"]
    found = {
        split: [str((path.parent / one).resolve()) for one in ([given] if isinstance(given, str) else given)]
        for split, given in (files if isinstance(files, dict) else {"train": files}).items()
    }
    for file in (one for several in found.values() for one in several):
        check_rows(Path(file), name)
    return {**dataset_kwargs, "data_files": found}


@contextlib.contextmanager
def _without_downloads() -> Iterator[None]:
    """Keep the import of IFEval's functions from downloading NLTK data, which it does on rank 0 of a machine only."""
    before = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["LOCAL_RANK"]
        else:
            os.environ["LOCAL_RANK"] = before
