"""How scores change from a checkpoint to the weights of a GGUF file: both evaluated alike, compared item by item.

    plan = plan_scores(run, checkpoint, Asked(), out, "my-model")   # what is to be measured, or why nothing is
    change = measure_scores(plan, Path("out/my-model-Q8_0.gguf"), "Q8_0", sha256)
    change.rows                                     # file - checkpoint of every headline metric, with intervals

Both are evaluated here in float32, and nothing is taken from the run's scorecard: it may be in bfloat16, whose rounding would be
counted as the file's. OUT/scores/PRECISION/ keeps both scorecards with every item; `evals compare` makes the differences again.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from evals.compare import UNDIRECTED, compare, decided
from evals.evaluated import Evaluated, Weights, find
from evals.helpfulness import open_judge
from evals.kept_run import as_it_was
from evals.run import Request, evaluate
from evals.saved import SavedRun
from evals.scorecard import Score, Scorecard
from evals.stated_task import stated_suite
from evals.suite import NamedSuite, SuiteTask, open_suite
from release.exports.file_weights import FileOfCheckpoint, FileWeights
from release.exports.record import ExportedFile, ScoreChange, ScoreDifference
from training.checkpoint import Checkpoint
from training.command import log
from training.errors import UsageError
from training.records import sha256_of_file
from training.run_record import RunRecord

if TYPE_CHECKING:
    from evals.compare import Row

FOLDER = "scores"
SIDES = ("checkpoint", "file")
DTYPE = "float32"
# Items of a task. The starter suite on 24 of each took 29 s in bfloat16 for 135M parameters on two cores (docs/log.md).
LIMIT = 50
JUDGED = "reward_mean"  # stands for win rates, which are against answers in another precision
WHOLE = ("F32", "F16", "BF16")  # differ from the checkpoint by rounding alone


@dataclass(frozen=True)
class Asked:
    """What the command line says of scores."""

    suite: str | None = None  # the scorecard's where unset
    limit: int | None = None
    judge: Path | None = None  # the reward model that the run was scored with, where unset
    off: bool = False


@dataclass(frozen=True)
class Plan:
    """An evaluation of the checkpoint that is the same for every file."""

    request: Request  # its source is what the checkpoint is called; `out` is set for each evaluation
    named: NamedSuite
    checkpoint: Evaluated
    folder: Path
    judge: str | None  # digest
    left_out: dict[str, str]

    def same(self, change: ScoreChange) -> bool:
        """Whether that was measured as this plan would measure it, with nothing that failed."""
        ours = (self.named.sha256, self.request.limit, self.request.seed, self.judge)
        return (change.suite_sha256, change.limit, change.seed, change.judge) == ours and not change.failed

    @property
    def answers(self) -> Path:
        return self.folder / ".evals"


def plan_scores(run: Path, checkpoint: Checkpoint, asked: Asked, out: Path, name: str) -> Plan | str:
    """What is to be measured; or why nothing is, where nobody asked for it.

    Raises UsageError where what is asked for cannot be.
    """
    if asked.off:
        return "left out on request"
    if asked.limit is not None and asked.limit < 1:
        raise UsageError(
            "--scores-limit must be at least 1", expected="a whole number from 1 on", found=str(asked.limit)
        )
    saved = _scorecard(run, checkpoint)
    if asked.suite is not None:
        named = open_suite(asked.suite)
    elif isinstance(saved, str):
        return saved
    else:
        stated = stated_suite(saved.scorecard, None)
        if isinstance(stated, str):
            return stated.partition(";")[0]
        named = stated
    run_scored = saved if isinstance(saved, SavedRun) else None
    judge = asked.judge or _judge_of(run, run_scored.scorecard if run_scored else None)
    named, left_out = _without_judged(named, judge is not None)
    if not named.suite.tasks:
        return "every task of the suite needs a judge that is not here"
    request = Request(name, str(named.file), out)
    if run_scored and run_scored.scorecard.settings.suite_sha256 == named.sha256:
        request = as_it_was(run_scored, named)
    wanted = asked.limit or min(LIMIT, request.limit or LIMIT)
    request = replace(
        request, source=name, dtype=DTYPE, device=None, backend="slipway", batch_size=None, limit=wanted, judge=judge
    )
    for task, why in left_out.items():
        log(f"change of scores: {task} is left out: {why}" + ("" if judge else "; --judge names one"))
    digest = open_judge(judge, DTYPE, "cpu").checkpoint.digest if judge else None
    return Plan(request, named, find(str(checkpoint.path)), out / FOLDER, digest, left_out)


def measure_scores(plan: Plan, file: Path, precision: str, sha256: str) -> ScoreChange:
    """Evaluate the checkpoint, once for all files, and the file's weights; write both to OUT/scores/PRECISION/.

    Raises UsageError where nothing was scored.
    """
    import torch

    place = plan.folder / precision
    device = "cuda" if torch.cuda.is_available() else "cpu"  # as `evaluate` chooses it
    items = f"{plan.named.name}, at most {plan.request.limit} items a task"
    log(f"{precision}: the scores of the checkpoint, then of the file, {items}")
    _evaluate(plan, plan.request.source, Weights(plan.checkpoint, DTYPE, device), place / SIDES[0])
    of_file = FileOfCheckpoint.of(plan.checkpoint, file, sha256)
    _evaluate(plan, file.name, FileWeights(of_file, DTYPE, device, file), place / SIDES[1])
    cards = [Scorecard.read(place / side / "scorecard.json") for side in SIDES]
    return ScoreChange(
        suite=plan.named.name,
        suite_sha256=plan.named.sha256,
        limit=plan.request.limit,
        seed=plan.request.seed,
        dtype=DTYPE,
        judge=plan.judge,
        rows=differences(place),
        left_out=plan.left_out,
        failed={task: _first_line(why) for card in cards for task, why in card.failed_tasks.items()},
        scorecards={
            f"{FOLDER}/{precision}/{side}/scorecard.json": sha256_of_file(place / side / "scorecard.json")
            for side in SIDES
        },
    )


def differences(place: Path) -> list[ScoreDifference]:
    """The paired differences of the headline metrics of two scorecards, all where none is one; corrected over these by Holm."""
    before, after = (SavedRun.open(place / side) for side in SIDES)
    rows = compare(before.folder, after.folder).rows
    rows = [row for row in rows if row.headline or row.metric == JUDGED] or rows
    scores = {(score.task, score.metric): score for score in before.scorecard.scores}
    undirected = {key for key, score in scores.items() if score.unit in UNDIRECTED}
    return [_difference(row, scores[row.task, row.metric]) for row in decided(rows, undirected)]


def files_of(directory: Path, file: ExportedFile) -> list[str]:
    """Paths in the export of the scorecards and samples behind a file's change of scores.

    Raises UsageError where a scorecard is not the recorded one, samples are not the scorecard's, or they give other figures.
    """
    if file.scores is None:
        return []
    found: list[str] = []
    for path, expected in sorted(file.scores.scorecards.items()):
        there = sha256_of_file(directory / path) if (directory / path).is_file() else "no such file"
        if there != expected:
            raise _not_as_measured(directory / path, f"sha256 {expected}", there)
        run = SavedRun.open(directory / path)
        for task in sorted(run.scorecard.samples):
            run.samples(task)
            found.append(f"{Path(path).parent}/samples/{task}.jsonl")
        found.append(path)
    made = differences(directory / FOLDER / file.precision)
    if made != file.scores.rows:
        raise _not_as_measured(
            directory / FOLDER / file.precision, "figures that the samples give", "others in the record"
        )
    return found


def is_there(directory: Path, file: ExportedFile) -> bool:
    """Whether what `files_of` would publish is there and right."""
    try:
        files_of(directory, file)
    except UsageError:
        return False
    return True


def _not_as_measured(where: Path, expected: str, found: str) -> UsageError:
    return UsageError(
        "the change of scores in export.json is not what was measured",
        where=str(where),
        expected=expected,
        found=found,
        next_step="run the export again; scores are measured again where their scorecards have changed",
    )


def _evaluate(plan: Plan, source: str, weights: Weights, out: Path) -> None:
    evaluate(replace(plan.request, source=source, out=out, answers=plan.answers), weights, plan.named)


def _difference(row: Row, score: Score) -> ScoreDifference:
    return ScoreDifference(
        task=row.task,
        metric=row.metric,
        scorer=score.scorer,
        unit=score.unit,
        higher_is_better=row.higher_is_better,
        checkpoint=row.before,
        file=row.after,
        difference=row.difference,
        interval=row.interval,
        p_holm=row.p_holm,
        n=row.n,
        verdict=row.verdict,
    )


def _scorecard(run: Path, checkpoint: Checkpoint) -> SavedRun | str:
    """The run's scorecard, if it is of these bytes; or why there is none."""
    if not (run / "scorecard.json").is_file():
        return "the run has no scorecard"
    saved = SavedRun.open(run)
    if saved.scorecard.model.digest != checkpoint.digest:
        return "the run's scorecard is of another checkpoint"
    return saved


def _judge_of(run: Path, card: Scorecard | None) -> Path | None:
    """The reward model that scored the run, where run.json says where it lies and it still has those bytes."""
    file = run / "run.json"
    parent = RunRecord.read(file).parent("reward_model") if card and file.is_file() else None
    if card is None or parent is None or f"reward model {parent.digest}" not in {score.scorer for score in card.scores}:
        return None
    for path in (Path(parent.name), run.parent / Path(parent.name).name):
        directory = path / "checkpoint" if (path / "checkpoint").is_dir() else path
        if (directory / "config.json").is_file() and Checkpoint.open(directory).digest == parent.digest:
            return path
    return None


def _without_judged(named: NamedSuite, judge: bool) -> tuple[NamedSuite, dict[str, str]]:
    """The suite with the tasks that can be scored here, none of which is required; and why the others cannot."""
    left_out: dict[str, str] = {}
    kept: list[SuiteTask] = []
    for task in named.suite.tasks:
        if task.scoring == "judge" and not judge:
            left_out[task.task] = "it needs a judge, and the one of the run is not here"
        elif task.scoring == "truthfulness" and task.judges is None:
            left_out[task.task] = "the suite does not name its judges"
        elif task.follows in left_out:
            left_out[task.task] = f"it follows {task.follows}, which was left out"
        else:
            kept.append(task.model_copy(update={"required": False}))
        if task.scoring == "judge" and judge:
            wins = [metric for metric in task.headline if metric != JUDGED]
            left_out |= {f"{task.task}/{metric}": f"{JUDGED} stands for it" for metric in wins}
    return replace(named, suite=named.suite.model_copy(update={"tasks": kept})), left_out


def _first_line(why: str) -> str:
    """Without the paths that stand below it: the record is published."""
    return why.splitlines()[0] if why else "failed"
