"""lm-eval, at arm's length: its tasks with their data, prompts, shots, filters and metrics.

    task = load_task("truthfulqa_mc1", Overrides())            # evals.task_definition
    for request in task.requests([0, 5], template=None): ...
    task.values(request, responses)            # {"acc": 1.0}

The items are those asked for rather than the first N.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

TASKS = Path(__file__).parent / "tasks"
Template = Callable[..., str]


@dataclass(frozen=True)
class Request:
    """Everything that the model is asked for one item: choices to score, or one prompt to continue."""

    index: int  # the document's place in the data
    item: str
    document: dict[str, Any]
    prompt: str
    choices: tuple[str, ...]  # empty where text is generated
    instances: tuple[Any, ...] = field(repr=False, compare=False)
    before: tuple[tuple[str, str], ...] = ()  # earlier turns: what the user asked, and what the model answered

    def with_contexts(self, change: Callable[[str], str]) -> Request:
        """The same request with its contexts changed; the instances are lm-eval's, and are changed in place."""
        for instance in self.instances:
            context, *rest = instance.arguments
            instance.arguments = (change(str(context)), *rest)
        return replace(self, prompt=str(self.instances[0].args[0]))

    @property
    def content(self) -> list[Any]:
        """What decides the model's answers, for the cache."""
        contexts = list(dict.fromkeys(str(instance.args[0]) for instance in self.instances))
        return [self.item, contexts, list(self.choices)]


class Task:
    """One lm-eval task with its data loaded."""

    def __init__(self, name: str, raw: Any) -> None:
        self.name, self.raw = name, raw
        self.documents: Sequence[dict[str, Any]] = raw.eval_docs
        self.generates = raw.OUTPUT_TYPE == "generate_until"
        self.repeats = int(raw.config.repeats or 1)
        self.num_fewshot = int(raw.config.num_fewshot or 0)
        self.version = str(raw.VERSION)

    @cached_property
    def ids(self) -> list[str]:
        """The items' stable ids: their own where they have any, else their places."""
        for key in ("id", "key"):
            ids = [str(document[key]) for document in self.documents if key in document]
            if len(ids) == len(self.documents) == len(set(ids)):
                return ids
        return [str(index) for index in range(len(self.documents))]

    @cached_property
    def data_sha256(self) -> str:
        """Hex SHA-256 of all documents, and of those that shots are drawn from."""
        digest = hashlib.sha256()
        shots = self.raw.fewshot_docs() if self.num_fewshot else None
        for document in [*self.documents, *(shots or [])]:
            digest.update(json.dumps(document, sort_keys=True, ensure_ascii=False, default=str).encode() + b"\n")
        return digest.hexdigest()

    @property
    def data_id(self) -> str:
        """The Hub's id, with the configuration; for files of ours their path in the package."""
        path, files = self.raw.config.dataset_path, (self.raw.config.dataset_kwargs or {}).get("data_files")
        if files:
            given = next(iter(files.values())) if isinstance(files, dict) else files
            return _portable(Path(given if isinstance(given, str) else given[0]))
        return "/".join(part for part in (path, self.raw.config.dataset_name) if part)

    @property
    def data_revision(self) -> str | None:
        """The commit that the Hub served; None for files."""
        for split in (self.raw.dataset or {}).values():
            for file in split.cache_files:  # .../ORG___NAME/CONFIG/VERSION/COMMIT/NAME-SPLIT.arrow
                if re.fullmatch("[0-9a-f]{40}", commit := Path(file["filename"]).parent.name):
                    return commit
        return None

    @cached_property
    def definition(self) -> str:
        """The first twelve hex digits of the hash of the task's whole definition, its functions' source included."""
        config = {key: value for key, value in self.raw.dump_config().items() if key != "dataset_kwargs"}
        config["metadata"] = {
            key: value for key, value in (config.get("metadata") or {}).items() if key != "config_source"
        }
        text = json.dumps(config, sort_keys=True, default=_name_of)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def generation(self) -> dict[str, Any]:
        """How text is generated, in lm-eval's words; empty where choices are scored."""
        if not self.generates:
            return {}
        from lm_eval.models.utils import normalize_gen_kwargs

        return dict(normalize_gen_kwargs(dict(self.raw.config.generation_kwargs or {})))

    @property
    def metrics(self) -> dict[str, bool]:
        """metric -> higher is better, `metric,filter` where the task has several filters."""
        better = self.raw.higher_is_better()
        filters = [pipeline.name for pipeline in self.raw._filters]
        if len(filters) == 1:
            return dict(better)
        return {f"{metric},{name}": direction for metric, direction in better.items() for name in filters}

    def aggregation(self, metric: str) -> tuple[str, Callable[[list[Any]], float]]:
        """The name of a metric's aggregation ("mean" or a function's name), and the function."""
        function = self.raw.aggregation()[metric.partition(",")[0]]
        return str(getattr(function, "__name__", "custom")), function

    def user_text(self, request: Request) -> str:
        """What the user says, before any template."""
        return str(self.raw.doc_to_text(request.document))

    def requests(self, indices: Sequence[int], template: Template | None) -> list[Request]:
        """The requests of these documents, in this order; `template` writes a conversation as text."""
        with quietly():
            self.raw.set_fewshot_seed(0)
            self.raw.build_all_requests(
                samples=sorted(indices),
                apply_chat_template=template is not None,
                fewshot_as_multiturn=template is not None and self.num_fewshot > 0,
                chat_template=template,
            )
        grouped: dict[int, list[Any]] = {}
        for instance in self.raw.instances:
            grouped.setdefault(instance.doc_id, []).append(instance)
        made: list[Request] = []
        for position, index in enumerate(sorted(indices)):
            instances = sorted(grouped[position], key=lambda instance: instance.idx)
            choices = () if self.generates else tuple(str(instance.args[1]) for instance in instances)
            made.append(
                Request(index, self.ids[index], instances[0].doc, str(instances[0].args[0]), choices, tuple(instances))
            )
        return made

    def values(self, request: Request, responses: Sequence[Any]) -> dict[str, Any]:
        """lm-eval's values of one item: a number, or a list of them, for each metric.

        `responses` is one (log-likelihood, is greedy) for each choice, or the generated texts.
        """
        if self.generates:
            request.instances[0].resps = list(responses)
        else:
            for instance, response in zip(request.instances, responses, strict=True):
                instance.resps = [response]
        found: dict[str, Any] = {}
        for pipeline in self.raw._filters:
            pipeline.apply(list(request.instances))
            results = self.raw.process_results(
                request.document, [instance.filtered_resps[pipeline.name] for instance in request.instances]
            )
            several = len(self.raw._filters) > 1
            found.update({f"{name},{pipeline.name}" if several else name: value for name, value in results.items()})
        return found

    def target(self, request: Request) -> str | None:
        """The expected answer as text, where the task has one."""
        target = self.raw.doc_to_target(request.document)
        if isinstance(target, int) and request.choices:
            return request.choices[target].strip()
        return str(target) if target not in ("", " ", None, 0) else None


def mc1_and_mc2_choices(document: dict[str, Any]) -> list[str]:
    """Every distinct choice of TruthfulQA's two multiple-choice figures, those of mc1 first."""
    return list(dict.fromkeys([*document["mc1_targets"]["choices"], *document["mc2_targets"]["choices"]]))


def mc1_and_mc2(document: dict[str, Any], results: Sequence[tuple[float, bool]]) -> dict[str, float]:
    """mc1: the best answer is the likeliest of its set; mc2: lm-eval's normalised mass of the true answers."""
    from lm_eval.tasks.truthfulqa.utils import process_results_mc2

    scored = dict(zip(mc1_and_mc2_choices(document), results, strict=True))
    first = [scored[choice][0] for choice in document["mc1_targets"]["choices"]]
    best = document["mc1_targets"]["labels"].index(1)
    second = process_results_mc2(document, [scored[choice] for choice in document["mc2_targets"]["choices"]])
    return {"mc1": float(first.index(max(first)) == best), "mc2": float(second["acc"])}


def _portable(file: Path) -> str:
    return file.relative_to(TASKS.parent.parent).as_posix() if file.is_relative_to(TASKS.parent.parent) else file.name


def _name_of(value: object) -> str:
    return str(getattr(value, "__qualname__", type(value).__name__))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep lm-eval's bars, warnings and prints to itself."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr):
        yield
