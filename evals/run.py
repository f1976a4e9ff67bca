"""One evaluation: check everything, answer, score, write samples and then the scorecard.

card = evaluate(Request(source="runs/base/checkpoint", suite="starter", out=Path("runs/base")))
"""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evals.earlier_work import counting
from evals.out_directory import require_no_other_model, require_no_other_suite, writable
from evals.saved import SavedRun, require_comparable, samples_as_bytes
from evals.scorecard import EvaluatedModel, Sample, Scorecard, Settings
from evals.suite import NamedSuite, TruthJudges, open_suite
from training.command import log
from training.counted import counted
from training.energy import price, spent
from training.errors import UsageError
from training.precision import chosen_dtype
from training.records import write_atomically
from training.run_record import git_revision, now, package_versions

if TYPE_CHECKING:
    from evals.endpoint import Served
    from evals.evaluated import Evaluated, Weights
    from evals.prepare import Prepared
    from evals.score_answers import Judges
    from evals.score_tasks import Outcome

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "lm-eval",
    "datasets",
    "evaluate",
    "alt-profanity-check",
    "numpy",
    "scipy",
)


LARGEST_SEED = 2**32 - 1  # of numpy, which lm-eval seeds
AS_SERVED = "as served"  # device and precision of a model behind an endpoint, which does not tell them


@dataclass(frozen=True)
class Request:
    """An evaluation as the command line asks for it."""

    source: str
    suite: str
    out: Path
    baseline: Path | None = None
    judge: Path | None = None
    judge_endpoint: str | None = None  # a judge's address, and the model's name there
    judge_model: str | None = None
    limit: int | None = None
    dtype: str = "auto"
    batch_size: int | None = None
    device: str | None = None
    seed: int = 0
    backend: str = "slipway"
    endpoint: str | None = None  # its address, for the backend openai-endpoint; `source` is then the model's name there
    tokenizer: str | None = None  # of the model that the endpoint serves
    chat_template: bool | None = None  # for all tasks; what the suite says where unset
    bos: str = "tokenizer"
    votes: tuple[str, ...] = ()
    truth_judges: TruthJudges | None = None  # of tasks that are scored for truthfulness; the suite's where unset
    answers: Path | None = None  # where answers are kept, by content; OUT/.evals where unset


def evaluate(request: Request, weights: Weights | None = None, named: NamedSuite | None = None) -> Scorecard:
    """Evaluate a checkpoint and write OUT/samples/, OUT/scorecard.json and, with a baseline, OUT/baseline/.

    `weights` and `named` stand for the checkpoint and the suite of the request, where they are found already. Raises UsageError
    before any weights are loaded where something is wrong with the suite, the data, the checkpoint's files, the judge, the
    baseline or OUT; and at the end, after writing, where a required task has failed.
    """
    started = time.monotonic()
    _require_whole_numbers(request)
    named = named or open_suite(request.suite)
    if request.truth_judges:
        named = named.with_truth_judges(request.truth_judges)
    parent = SavedRun.open(request.baseline) if request.baseline else None
    from evals.backends import Backend, require_installed
    from evals.disk_space import require_space
    from evals.endpoint import Served
    from evals.evaluated import Weights
    from evals.human_votes import score_votes
    from evals.prepare import Choices, prepare
    from evals.processes import joined
    from evals.respond import Circumstances
    from evals.score_tasks import score_tasks

    require_installed(request.backend)
    evaluated = weights.evaluated if weights else _found(request)
    served = evaluated if isinstance(evaluated, Served) else None
    writable(request.out)
    if weights is None:
        require_no_other_model(request.out, request.source, evaluated.digest)
        require_no_other_suite(request, named, evaluated.digest)
    processes = joined(request.device)
    say = log if processes.first else _silent
    device = _device(request.device)
    dtype = chosen_dtype(request.dtype, device)
    judges = _judges(request, dtype, processes.place(device), processes.first)
    chosen = Choices(
        request.limit, request.seed, request.batch_size, request.backend, request.chat_template, request.bos
    )
    prepared, failed = prepare(named, evaluated, chosen)
    at, of = (AS_SERVED, AS_SERVED) if served else (device, dtype)
    settings = _settings(replace(request, dtype=of), named, prepared, at)
    if parent:
        parent.require_own_checkpoint()
        require_comparable(parent.scorecard.settings, settings, where=f"--baseline {request.baseline}")
        for task in parent.scorecard.samples:
            parent.samples(task)
    kept = (request.answers or request.out / ".evals") / ("endpoint" if served else "")
    require_space(prepared, request.out, kept)
    digest = evaluated.digest
    say(f"{request.source}  {digest[:19]}  {counted(len(prepared), 'task')} of {named.name}, all checks passed")
    for line in _lacking(prepared, failed):
        say(line)
    against = parent.scorecard.model.digest if parent else None
    voted = score_votes(request.votes, digest, against, request.seed) if request.votes else None
    place = processes.place(device)
    source = evaluated if isinstance(evaluated, Served) else weights or Weights(evaluated, dtype, place)
    backend = Backend(request.backend, source, request.seed)
    circumstances = Circumstances(digest, of, at, request.backend, request.seed)
    with counting() as earlier:
        outcome = score_tasks(prepared, backend, circumstances, processes, judges, parent, kept, say)
    if not processes.first:
        processes.agree()
        return Scorecard.read(request.out / "scorecard.json")
    outcome.failed = {**failed, **outcome.failed}
    if voted:
        outcome.scores += voted.scores
        outcome.samples[voted.settings.task] = voted.samples
        settings = settings.model_copy(update={"tasks": [*settings.tasks, voted.settings]})
    if weights is None:  # once more, for another evaluation may have ended here since
        require_no_other_suite(request, named, digest)
    card = _card(request, evaluated, settings, outcome, time.monotonic() - started + earlier.seconds)
    card = card.model_copy(update={"energy": earlier.with_own(card.energy)})
    if voted:
        card = card.model_copy(update={"labellers": voted.labellers})
    if parent:
        parent.copy_to(request.out / "baseline")
    card = _as_it_stands(request.out / "scorecard.json", card)
    card.write(request.out / "scorecard.json")
    if served and not card.failed_tasks:
        shutil.rmtree(kept, ignore_errors=True)  # nothing tells whether the same model would answer the next time
    processes.agree()
    _require(named, card, request.out)
    return card


def _lacking(prepared: Sequence[Prepared], failed: dict[str, str]) -> list[str]:
    """Which tasks cannot run, and what of the others is not scored, a line each."""
    from evals.scoring_checks import what_is_not_scored

    cannot = [f"{name} cannot run: {why}" for name, why in failed.items()]
    return [*cannot, *(lacking for one in prepared if (lacking := what_is_not_scored(one.spec)))]


def _require_whole_numbers(request: Request) -> None:
    """Raise UsageError where a number of the command line is none that it can be."""
    for option, value in (("--limit", request.limit), ("--batch-size", request.batch_size)):
        if value is not None and value < 1:
            raise UsageError(
                f"{option} must be at least 1",
                where="the command line",
                expected="a whole number from 1 on",
                found=str(value),
                next_step=f"leave {option} out for what the suite says",
            )
    if not 0 <= request.seed <= LARGEST_SEED:
        raise UsageError(
            "--seed is not a seed",
            where="the command line",
            expected=f"a whole number from 0 to {LARGEST_SEED}",
            found=str(request.seed),
            next_step="--seed 0",
        )


def _card(
    request: Request, evaluated: Evaluated | Served, settings: Settings, outcome: Outcome, seconds: float
) -> Scorecard:
    """The scorecard; its samples are written first."""
    from evals.endpoint import Served

    served = evaluated if isinstance(evaluated, Served) else None
    tasks = [one.model_copy(update={"engine": outcome.engines.get(one.task)}) for one in settings.tasks]
    return Scorecard(
        model=EvaluatedModel(
            name=request.source,
            digest=evaluated.digest,
            revision=evaluated.revision,
            parameters=evaluated.parameters,
            endpoint=served.url if served else None,
            tokenizer=served.tokenizer_name if served else None,
        ),
        scores=outcome.scores,
        failed_tasks=outcome.failed,
        settings=settings.model_copy(update={"tasks": tasks}),
        samples=_write_samples(request.out / "samples", outcome.samples),
        packages=package_versions(PACKAGES),
        git_revision=git_revision(),
        created=now(),
        seconds=round(seconds, 1),
        energy=None if served else spent(),
        price=price(),
    )


def _found(request: Request) -> Evaluated | Served:
    """The checkpoint, or the model that an endpoint serves. Raises UsageError where options of one are given to the other."""
    from evals.endpoint import reach
    from evals.evaluated import find

    if request.backend == "openai-endpoint":
        return reach(request.source, request.endpoint, request.tokenizer)
    if request.endpoint or request.tokenizer:
        raise UsageError(
            "--endpoint and --tokenizer are for a model that is served",
            where="the command line",
            expected="--backend openai-endpoint",
            found=f"--backend {request.backend}",
            next_step="leave them out: a checkpoint has its own tokenizer",
        )
    return find(request.source)


def _judges(request: Request, dtype: str, device: str, first: bool) -> Judges:
    """The judges that are asked for, each found and checked; none in another process than the first, which scores."""
    from evals.endpoint_judge import open_endpoint_judge
    from evals.helpfulness import open_judge
    from evals.score_answers import Judges

    if (request.judge_endpoint is None) != (request.judge_model is None):
        raise UsageError(
            "a judge behind an endpoint needs its address and its name",
            where="the command line",
            expected="--judge-endpoint URL --judge-model NAME",
            found="one of the two",
        )
    if not first:
        return Judges()
    reward = open_judge(request.judge, dtype, device) if request.judge else None
    if request.judge_endpoint is None or request.judge_model is None:
        return Judges(reward)
    endpoint = open_endpoint_judge(request.judge_model, request.judge_endpoint)
    endpoint.check()
    return Judges(reward, endpoint)


def _silent(_message: str) -> None:
    """What the first process says is not said by each."""


def _as_it_stands(file: Path, card: Scorecard) -> Scorecard:
    """The card that is there, where the new one says nothing else of the checkpoint; else the new one.

    A plan pins the card's bytes, so to evaluate once more must not make a release stale.
    """
    if not file.is_file():
        return card
    try:
        before = Scorecard.read(file)
    except UsageError:  # damaged, or of another version: it is replaced
        return card
    when = {name: getattr(card, name) for name in ("created", "seconds", "git_revision", "energy", "price")}
    return before if before.model_copy(update=when) == card else card


def _settings(request: Request, named: NamedSuite, prepared: Sequence[Prepared], device: str) -> Settings:
    return Settings(
        suite=named.name,
        suite_sha256=named.sha256,
        backend=request.backend,
        dtype=request.dtype,
        device=device,
        batch_size=request.batch_size or max(one.batch_size for one in prepared),
        seed=request.seed,
        tasks=[one.settings for one in prepared],
    )


def _device(wanted: str | None) -> str:
    """The device asked for, else CUDA where there is one. Raises UsageError where it is not there."""
    import torch

    if wanted is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError("there is no CUDA device here", found=wanted, next_step="--device cpu")
    if not wanted.startswith(("cuda", "cpu", "mps")):
        raise UsageError("unknown device", expected="cpu, cuda, cuda:N or mps", found=wanted)
    return wanted


def _write_samples(folder: Path, samples: dict[str, list[Sample]]) -> dict[str, str]:
    """Write samples/TASK.jsonl; return the hex SHA-256 of each."""
    digests: dict[str, str] = {}
    for task, items in samples.items():
        content = samples_as_bytes(items)
        write_atomically(folder / f"{task}.jsonl", content)
        digests[task] = hashlib.sha256(content).hexdigest()
    return digests


def _require(named: NamedSuite, card: Scorecard, out: Path) -> None:
    """Raise UsageError where a required task has failed, or nothing was scored at all."""
    required = [task.task for task in named.suite.tasks if task.required and task.task in card.failed_tasks]
    if required or not card.scores:
        raise failure(card, out, required or list(card.failed_tasks), "scores of every required task")


def failure(card: Scorecard, out: Path, names: Sequence[str], expected: str) -> UsageError:
    """The error that these tasks of a scorecard have failed."""
    return UsageError(
        f"{len(names)} task{'s' * (len(names) > 1)} of the suite failed: {', '.join(names)}",
        where=str(out / "scorecard.json"),
        expected=expected,
        found="".join(f"\n- {name}: {card.failed_tasks[name]}" for name in names),
        next_step="mend the cause and run the same command again; what was answered is kept",
    )
