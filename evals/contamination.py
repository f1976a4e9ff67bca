"""`python -m evals contamination`: which evaluated items stand in a run's training data, and what the scores are without them.

    python -m evals contamination runs/ppo                                  # the data that its run.json names
    python -m evals contamination runs/ppo --data preferences.jsonl         # and more: the reward model's, the base's

contamination.json is pinned to the bytes of scorecard.json and run.json and to the hash of the rows that were read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from evals.overlap import SHORTEST, N, grams, overlapping, without_the_shared
from evals.saved import SavedRun
from evals.scorecard import Interval, Sample, Score
from evals.second_turn import ASKED
from evals.show import table
from evals.statistics import estimate
from training.ancestry import stages_before
from training.command import Result, log
from training.counted import are, counted
from training.data import Conversation, Data, Prompt, load_preferences, load_prompts, load_rows
from training.demonstrations import load_demonstrations, load_feedback
from training.errors import SlipwayError, UsageError
from training.ilql_data import load_rewarded
from training.ptx import load_mixed
from training.recipe import DataSettings
from training.records import Record, sha256_of_file
from training.run_record import RunRecord, now

FILE = "contamination.json"
EXAMPLES = 5
LOADERS = {
    "sft": load_demonstrations,
    "kto": load_feedback,
    "dpo": load_preferences,
    "reward": load_preferences,
    "ppo": load_prompts,
    "rloo": load_prompts,
    "grpo": load_prompts,
    "ilql": load_rewarded,
}


class Searched(Record):
    """Training rows that were searched. `of_record`: they hash to what run.json says that the run was trained on."""

    id: str
    revision: str | None
    split: str
    sha256: str  # of the rows as they were read
    rows: int
    of_record: bool
    stage: str | None = None  # the parent that was trained on them; None: the run itself


class CleanScore(Record):
    """A score as it stands in the scorecard, and of the items that were not found in the training data."""

    metric: str
    value: float
    without: float | None  # None where no item is left
    interval: Interval | None
    n: int  # items left


class Found(Record):
    item: str
    ngram: str


class TaskContamination(Record):
    """`share` is contaminated / (items - too_short): of the items long enough to be looked for."""

    task: str
    items: int
    too_short: int
    contaminated: int
    share: float
    examples: list[Found]
    scores: list[CleanScore]
    # Its prompts have shots, and its samples do not hold the items' own words (older ones do not): what follows
    # a prompt's last blank line was searched, which is nothing or too much where a template or a question has blank lines.
    own_words_guessed: bool = False

    @property
    def told(self) -> str:
        """The share in words: where no item is long enough, nothing was searched, and there is no share of that."""
        return f"{self.share:.1%}" if self.items > self.too_short else "nothing was searched"


class Contamination(Record):
    """contamination.json."""

    schema_version: int = 1
    checkpoint_digest: str
    scorecard_sha256: str  # of the bytes of scorecard.json
    run_record_sha256: str | None  # of the bytes of run.json
    n: int
    shortest: int
    data: list[Searched]
    record_covered: (
        bool  # every data source of run.json, and of the runs that its weights come from, was searched, by hash
    )
    not_searched: list[str] = []  # of which parents, or data of theirs, and why
    tasks: list[TaskContamination]
    highest_share: float
    created: str


def contamination(run: Path, sources: Sequence[str], split: str = "train", config: str | None = None) -> Contamination:
    """Search, and write RUN/contamination.json.

    Raises UsageError where there is no scorecard, its samples are not those it names, the checkpoint beside it is
    another, or there is nothing to search: no run.json and no `sources`.
    """
    saved = SavedRun.open(run)
    saved.require_own_checkpoint()
    file = saved.folder / "run.json"
    record = RunRecord.read(file) if file.is_file() else None
    if record is not None and record.checkpoint_digest != saved.scorecard.model.digest:
        raise UsageError(
            "run.json is of another checkpoint than the scorecard",
            where=str(file),
            expected=saved.scorecard.model.digest,
            found=record.checkpoint_digest,
        )
    loaded = [_of_recipe(record)] if record is not None and _settings(record) else []
    loaded += [_mixed_in(record)] if record is not None and record.recipe.get("ptx") else []
    loaded += [_named(source, split, config) for source in sources]
    earlier, not_searched = (
        _of_parents(record, {data.source.sha256 for data in loaded}) if record is not None else ([], [])
    )
    if not loaded and not earlier:
        raise UsageError(
            "there is no training data to search",
            where=str(run),
            expected="a run.json whose recipe names data, or --data FILE or org/name",
            next_step=f"python -m evals contamination {run} --data FILE",
        )
    known = {source.sha256 for source in record.data} if record else set()
    searched = [
        Searched(
            id=data.source.id,
            revision=data.source.revision,
            split=data.source.split,
            sha256=data.source.sha256,
            rows=data.source.rows,
            of_record=data.source.sha256 in known or stage is not None,
            stage=stage,
        )
        for stage, data in [*((None, data) for data in loaded), *earlier]
    ]
    texts = [
        text
        for data in [*loaded, *(data for _, data in earlier)]
        for row in data.train
        for text in strings_of(vars(row))
    ]
    rows = sum(one.rows for one in searched)
    log(f"{run}: {counted(len(saved.scorecard.samples), 'task')} against {counted(rows, 'training row')}")
    tasks = [_task(saved, task, texts) for task in sorted(saved.scorecard.samples)]
    made = Contamination(
        checkpoint_digest=saved.scorecard.model.digest,
        scorecard_sha256=sha256_of_file(saved.folder / "scorecard.json"),
        run_record_sha256=sha256_of_file(file) if record else None,
        n=N,
        shortest=SHORTEST,
        data=searched,
        record_covered=bool(known) and known <= {one.sha256 for one in searched} and not not_searched,
        not_searched=not_searched,
        tasks=tasks,
        highest_share=max((one.share for one in tasks), default=0.0),
        created=now(),
    )
    made.write(saved.folder / FILE)
    return made


def run_contamination(run: Path, sources: Sequence[str], split: str, config: str | None) -> Result:
    found = contamination(run, sources, split, config)
    rows = [[one.task, str(one.items), str(one.too_short), str(one.contaminated), one.told] for one in found.tasks]
    scores = [
        [
            task.task,
            score.metric,
            f"{score.value:.4f}",
            "none left" if score.without is None else f"{score.without:.4f}",
            str(score.n),
        ]
        for task in found.tasks
        if task.contaminated
        for score in task.scores
    ]
    lines = [f"{found.checkpoint_digest}", *[_told(one) for one in found.data], ""]
    lines += table(["task", "items", "too short", "contaminated", "share"], rows)
    if scores:
        lines += ["", *table(["task", "metric", "all items", "without them", "n"], scores)]
    if guessed := [one.task for one in found.tasks if one.own_words_guessed]:
        lines += [
            "",
            f"{', '.join(guessed)}: shots, and the samples do not say which words are the item's own. What follows the last blank "
            "line of each prompt was searched; evaluate again for samples that say it",
        ]
    if found.run_record_sha256 is None:
        lines += ["", "there is no run.json, so nothing says whether this is what the checkpoint was trained on"]
    elif not found.record_covered:
        lines += ["", "not all of the data that run.json names were searched: give the rest with --data"]
    lines += [f"- {why}" for why in found.not_searched]
    lines += ["", f"{N}-grams of words, shorter texts of {SHORTEST} words or more whole; written: {run / FILE}"]
    return {"summary": "\n".join(lines), **found.model_dump(mode="json")}


def strings_of(value: Any) -> Iterator[str]:
    """Every string in a row, however deep; keys are left out."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from strings_of(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from strings_of(part)


def segments(samples: Sequence[Sample], num_fewshot: int) -> dict[str, list[str]]:
    """What is to be looked for of each item: its own part of the prompt, its choices, its expected answer."""
    own = without_the_shared([_own_part(sample, num_fewshot) for sample in samples])
    return {
        sample.item: [prompt, *map(str, sample.detail.get("choices", ())), sample.target or ""]
        for sample, prompt in zip(samples, own, strict=True)
    }


def _own_part(sample: Sample, num_fewshot: int) -> str:
    """What the item itself says: of a second turn without the model's first answer, and without shots, which are of other items."""
    if ASKED in sample.detail:
        return str(sample.detail[ASKED])
    # A guess: shots end where lm-eval's delimiter does.
    return sample.prompt.rpartition("\n\n")[2] if num_fewshot else sample.prompt


def _task(saved: SavedRun, task: str, texts: Sequence[str]) -> TaskContamination:
    samples = saved.samples(task)
    num_fewshot = saved.scorecard.task_settings(task).num_fewshot
    of_item = segments(samples, num_fewshot)
    too_short = sum(not any(grams(part) for part in parts) for parts in of_item.values())
    found = overlapping(of_item, texts)
    scores = [score for score in saved.scorecard.scores if score.task == task]
    seed = saved.scorecard.settings.seed
    clean = [_without(score, samples, set(found), seed) for score in scores]
    return TaskContamination(
        task=task,
        items=len(samples),
        too_short=too_short,
        contaminated=len(found),
        share=len(found) / (len(samples) - too_short) if len(samples) > too_short else 0.0,
        examples=[Found(item=item, ngram=gram) for item, gram in list(found.items())[:EXAMPLES]],
        scores=[one for one in clean if one is not None],
        own_words_guessed=bool(num_fewshot) and any(ASKED not in sample.detail for sample in samples),
    )


def _without(score: Score, samples: Sequence[Sample], found: set[str], seed: int) -> CleanScore | None:
    """None for a metric whose aggregation is no mean over items: it is not computed again here."""
    scored = [sample for sample in samples if sample.values.get(score.metric) is not None]
    if not scored:
        return None
    left = [sample for sample in scored if sample.item not in found]
    if not left:
        return CleanScore(metric=score.metric, value=score.value, without=None, interval=None, n=0)
    weights = [float(sample.detail.get("weights", {}).get(score.metric, 1)) for sample in left]
    made = estimate(
        [sample.values[score.metric] for sample in left],
        seed=seed,
        weights=weights,
        bounded=score.unit == "fraction",
    )
    return CleanScore(metric=score.metric, value=score.value, without=made.value, interval=made.interval, n=made.n)


def _settings(record: RunRecord) -> dict[str, Any] | None:
    given = record.recipe.get("data") or record.recipe.get("prompts")
    return dict(given) if isinstance(given, dict) and record.method in LOADERS else None


def _of_parents(record: RunRecord, searched: set[str]) -> tuple[list[tuple[str, Data]], list[str]]:
    """The rows that those were trained on whose weights went on in the run, by stage; and what of them cannot be read here.

    `searched` are hashes of rows that are read already.
    """
    found: list[tuple[str, Data]] = []
    missing: list[str] = []
    for stage in stages_before(record):
        name = stage.parent.hub_id or stage.parent.name
        if stage.is_origin:
            continue
        if stage.made is None:
            missing.append(f"{name}: nothing here says what it was trained on")
            continue
        wanted = {source.sha256: source for source in stage.made.data if source.sha256 not in searched}
        for data in _data_of(stage.record) if stage.record is not None and wanted else []:
            if data.source.sha256 in wanted:
                searched.add(data.source.sha256)
                del wanted[data.source.sha256]
                found.append((name, data))
        missing += [
            f"{name}: {source.id}, {counted(source.rows, 'row')}, which {are(source.rows)} not here"
            for source in wanted.values()
        ]
    return found, missing


def _data_of(record: RunRecord) -> list[Data]:
    """All rows that a parent's recipe names; none of those that cannot be had any more."""
    read: list[Data] = []
    ways = ([_of_recipe] if _settings(record) else []) + ([_mixed_in] if record.recipe.get("ptx") else [])
    for way in ways:
        try:
            read.append(way(record))
        except SlipwayError as error:
            log(f"data of a parent cannot be read: {error.what}")
    return read


def _of_recipe(record: RunRecord) -> Data:
    """The rows that the recipe names, read as the run read them."""
    return LOADERS[record.method](DataSettings(**(_settings(record) or {})), record.seed)


def _mixed_in(record: RunRecord) -> Data:
    """The rows that PPO-ptx mixed into the run, as the run read them."""
    return load_mixed(DataSettings(**record.recipe["ptx"]["data"]), record.seed)


def _named(source: str, split: str, config: str | None) -> Data:
    settings = DataSettings(source=source, split=split, name=config, heldout_fraction=0.0)
    return load_rows(settings, 0, "preferences.jsonl", _whole, "rows with text")


def _whole(row: dict[str, Any]) -> Conversation | None:
    """Any row as one text of all its strings, each on lines of its own."""
    texts = list(strings_of(row))
    return Prompt([{"role": "user", "content": "\n".join(texts)}]) if texts else None


def _told(one: Searched) -> str:
    of_run = "the rows that run.json names" if one.stage is None else f"the rows that {one.stage} was trained on"
    proof = of_run if one.of_record else "not proven to be rows of this run"
    return f"{one.id}, {one.split}: {counted(one.rows, 'row')}, sha256 {one.sha256[:12]}, {proof}"
