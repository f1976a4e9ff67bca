"""lm-eval, at arm's length: its tasks (data, prompts, shots, filters, metrics) and its scoring of choices.

    task = load_task("truthfulqa_mc1", Overrides())
    for request in task.requests([0, 5], template=None): ...
    task.values(request, responses)            # {"acc": 1.0}

What lm-eval leaves to chance is pinned: the items are those asked for rather than the first N, log-likelihoods are summed
in float32 (in bfloat16 they tie), and language detection has a seed.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import HubError, UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TASKS = Path(__file__).parent / "tasks"
Template = Callable[..., str]


class Unavailable(UsageError):
    """What a task needs is not there (its data, a scorer's data): its figures fail, and other tasks' need not."""


@dataclass(frozen=True)
class Overrides:
    """What a suite sets in lm-eval's definition of a task."""

    num_fewshot: int | None = None
    repeats: int | None = None
    generation: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """Everything that the model is asked for one item: choices to score, or one prompt to continue."""

    index: int  # the document's place in the data
    item: str
    document: dict[str, Any]
    prompt: str
    choices: tuple[str, ...]  # empty where text is generated
    instances: tuple[Any, ...] = field(repr=False, compare=False)

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
        with _quietly():
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


def load_task(name: str, overrides: Overrides) -> Task:
    """Load a task of ours or of lm-eval's, and its data: from the package, or from the Hub.

    Raises UsageError for an unknown task, Unavailable for data that are not there, HubError where no Hub answers.
    """
    own = TASKS / f"{name}.yaml"
    import langdetect

    langdetect.DetectorFactory.seed = 0  # IFEval's checks of language draw random numbers
    with _quietly():
        from lm_eval.tasks._factory import TaskFactory
        from lm_eval.tasks._index import TaskIndex
        from lm_eval.tasks._yaml_loader import load_yaml

        path = own if own.is_file() else _official(name)
        config: dict[str, Any] = dict(load_yaml(path, resolve_func=False))
        change: dict[str, Any] = {}
        if overrides.num_fewshot is not None:
            change["num_fewshot"] = overrides.num_fewshot
        if overrides.repeats is not None:
            change["repeats"] = overrides.repeats
        if overrides.generation:
            change["generation_kwargs"] = {**(config.get("generation_kwargs") or {}), **overrides.generation}
        if (config.get("dataset_kwargs") or {}).get("data_files"):
            change["dataset_kwargs"] = _beside(path, config["dataset_kwargs"])
        try:
            raw = TaskFactory().build(TaskIndex.entry_from_path(path), overrides=change, registry={})
        except ConnectionError as error:
            raise HubError(
                f"the Hub cannot be reached for the data of the task {name}",
                where=os.environ.get("HF_ENDPOINT", "https://huggingface.co"),
                found=str(error).strip()[:300],
                next_step="check HF_ENDPOINT and the network, then run the same command again",
            ) from error
        except (OSError, ValueError) as error:  # datasets raises either for data that are not there
            raise Unavailable(
                f"the data of the task {name} cannot be loaded",
                where=os.environ.get("HF_ENDPOINT", "https://huggingface.co") if not own.is_file() else str(own),
                expected=str(config.get("dataset_path")),
                found=str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error),
                next_step="check HF_ENDPOINT and the network; an embedded Hub serves official data by their ids",
            ) from error
    return Task(name, raw)


class ChoiceScorer:
    """From requests to the (log-likelihood, is greedy) of each of their choices.

    `backend` "prefix-tree" computes each distinct token once; "hf" is lm-eval's own, with its log-softmax in float32.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, batch_size: int, backend: str = "prefix-tree"
    ) -> None:
        with _quietly():
            from lm_eval.models.huggingface import HFLM

            from evals.prefix_tree import PrefixTreeLM

            kind = HFLM if backend == "hf" else PrefixTreeLM
            self.lm = kind(
                pretrained=model, tokenizer=tokenizer, backend="causal", batch_size=batch_size, softmax_dtype="float32"
            )

    def __call__(self, requests: Sequence[Request]) -> list[list[tuple[float, bool]]]:
        with _quietly():
            answers = iter(
                self.lm.loglikelihood([one for request in requests for one in request.instances], disable_tqdm=True)
            )
        return [[next(answers) for _ in request.instances] for request in requests]

    def keep_shared(self, requests: Sequence[Request]) -> None:
        """Compute what all these requests begin with only once, in however many calls they come."""
        contexts = [str(one.args[0]) for request in requests for one in request.instances]
        if hasattr(self.lm, "likelihoods") and contexts and min(contexts):
            first, last = (self.lm.tok_encode(context) for context in (min(contexts), max(contexts)))
            same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
            self.lm.likelihoods.keep([token for token, _ in same])

    @property
    def engine(self) -> str:
        """How log-likelihoods were computed: "prefix tree", "plain: REASON", or "lm-eval's hf"."""
        return str(getattr(self.lm, "engine", "lm-eval's hf"))


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


def _official(name: str) -> Path:
    """The installed definition of an official task, found by its `task:` line (building lm-eval's index takes 8 s)."""
    spec = importlib.util.find_spec("lm_eval.tasks")
    folder = Path(str(spec.origin)).parent if spec and spec.origin else Path()
    line = re.compile(rb"^task:[ \t]*[\"']?" + re.escape(name).encode() + rb"[\"']?[ \t]*(#.*)?\r?$", re.MULTILINE)
    for file in sorted(folder.rglob("*.yaml")):
        if line.search(file.read_bytes()):
            return file
    raise UsageError(
        "lm-eval has no task of this name, and neither have we",
        expected="a task's id, as `lm-eval ls tasks` lists them, or one of "
        + ", ".join(sorted(file.stem for file in TASKS.glob("*.yaml"))),
        found=name,
    )


def _beside(path: Path, dataset_kwargs: dict[str, Any]) -> dict[str, Any]:
    """`dataset_kwargs` with data files found beside the task's file, wherever the package is installed."""
    files = dataset_kwargs["data_files"]
    found = {
        split: str((path.parent / file).resolve())
        for split, file in (files if isinstance(files, dict) else {"train": files}).items()
    }
    for file in found.values():
        if not Path(file).is_file():
            raise UsageError(f"the data of the task {path.stem} is missing", where=str(path), expected=file)
    return {**dataset_kwargs, "data_files": found}


def _portable(file: Path) -> str:
    return file.relative_to(TASKS.parent.parent).as_posix() if file.is_relative_to(TASKS.parent.parent) else file.name


def _name_of(value: object) -> str:
    return str(getattr(value, "__qualname__", type(value).__name__))


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep lm-eval's bars, warnings and prints to itself, and its import of IFEval from downloading."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    before = os.environ.get("LOCAL_RANK")
    os.environ["LOCAL_RANK"] = "1"  # instructions_util downloads NLTK data on rank 0 as it is imported
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        if before is None:
            del os.environ["LOCAL_RANK"]
        else:
            os.environ["LOCAL_RANK"] = before
