"""How far scores move with settings that papers seldom state: the chat template, the token that begins a text, the precision.

    python -m evals run runs/base/checkpoint --suite starter --out runs/base --sensitivity

Each variant changes one setting for all tasks, is a whole evaluation in OUT/sensitivity/NAME, and is compared with the run
item by item. OUT/sensitivity.json holds every difference and, from the two scorecards, every setting that differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.compare import Row, decided, paired_row
from evals.presentation import between
from evals.run import Request, evaluate
from evals.saved import SavedRun, decisive_differences
from evals.show import failed, number, signed_number, table
from training.command import log
from training.errors import UsageError
from training.records import Record

if TYPE_CHECKING:
    from evals.evaluated import Evaluated

METHOD = (
    "variant - run over the items that both have a value for, 95% interval by paired bootstrap, p by sign-flip permutation "
    "(two-sided), corrected over all rows of all variants by Holm's method"
)
OTHER_DTYPE = {"float32": "bfloat16", "bfloat16": "float32"}


class Variant(Record):
    """One setting changed, and what it does to each figure."""

    name: str
    settings_differ: list[str]  # every setting that moves figures: "words: chat_template: False / True" (run / variant)
    rows: list[Row]
    failed_tasks: dict[str, str]


class Sensitivity(Record):
    """The scores of one checkpoint under one setting changed at a time."""

    schema_version: int = 1
    digest: str
    variants: list[Variant]
    left_out: dict[str, str]  # variant -> why there is none
    method: str = METHOD


def sensitivity(request: Request) -> Sensitivity:
    """Evaluate the variants of a run that is there, and write OUT/sensitivity.json.

    What a variant does not change is not computed again. Raises UsageError for a model behind an endpoint.
    """
    from evals.evaluated import find

    if request.backend == "openai-endpoint":
        raise UsageError(
            "the settings of a model behind an endpoint are the server's",
            where="--sensitivity",
            expected="a checkpoint",
            found="--backend openai-endpoint",
            next_step="leave --sensitivity out",
        )
    run = SavedRun.open(request.out)
    chosen, left_out = variants(request, run, find(request.source))
    made = []
    for name, changed in chosen.items():
        out = request.out / "sensitivity" / name
        log(f"variant {name}")
        evaluate(replace(changed, out=out, baseline=None, answers=request.out / ".evals"))
        made.append(_compared(name, run, SavedRun.open(out)))
    rows = decided([row for variant in made for row in variant.rows], set())
    corrected, start = [], 0
    for variant in made:
        stop = start + len(variant.rows)
        corrected.append(variant.model_copy(update={"rows": rows[start:stop]}))
        start = stop
    found = Sensitivity(digest=run.scorecard.model.digest, variants=corrected, left_out=left_out)
    found.write(request.out / "sensitivity.json")
    return found


def variants(request: Request, run: SavedRun, evaluated: Evaluated) -> tuple[dict[str, Request], dict[str, str]]:
    """The variants of a run by their names, and those that there cannot be, each with its reason."""
    settings, tokenizer = run.scorecard.settings, evaluated.tokenizer
    chosen: dict[str, Request] = {}
    left_out: dict[str, str] = {}
    if tokenizer.chat_template is None:
        left_out["chat-template"] = "the tokenizer has no chat template"
    else:
        for on in (True, False):
            if any(task.chat_template != on for task in settings.tasks):
                chosen[f"chat-template-{'on' if on else 'off'}"] = replace(request, chat_template=on)
    if tokenizer.bos_token_id is None:
        left_out["bos"] = "the tokenizer has no token that begins a text"
    else:
        natural = tokenizer.encode("a")[:1] == [tokenizer.bos_token_id]
        has = natural if request.bos == "tokenizer" else request.bos == "added"
        chosen["bos-none" if has else "bos-added"] = replace(request, bos="none" if has else "added")
    chosen[OTHER_DTYPE[settings.dtype]] = replace(request, dtype=OTHER_DTYPE[settings.dtype])
    return chosen, left_out


def sensitivity_table(found: Sensitivity, out: Path) -> str:
    """Every figure under every variant, with what each variant changes."""
    rows = [
        [
            variant.name,
            row.task,
            row.metric,
            number(row.before),
            number(row.after),
            f"{row.difference:+.4f}",
            between(row.interval, signed_number),
            f"{row.p_holm:.4f}",
            str(row.n),
        ]
        for variant in found.variants
        for row in variant.rows
    ]
    head = ["variant", "task", "metric", "run", "variant", "difference", "95% interval", "p (Holm)", "pairs"]
    lines = [found.digest, "", *table(head, rows), ""]
    for variant in found.variants:
        lines.append(f"{variant.name} changes (run / variant): {'; '.join(variant.settings_differ) or 'nothing here'}")
        lines += [f"{variant.name}, {failed(task, why)}" for task, why in variant.failed_tasks.items()]
    lines += [f"no variant of {name}: {why}" for name, why in found.left_out.items()]
    return "\n".join([*lines, "", found.method, f"written: {out / 'sensitivity.json'}"])


def _compared(name: str, run: SavedRun, other: SavedRun) -> Variant:
    theirs: dict[tuple[str, str], Any] = {(score.task, score.metric): score for score in other.scorecard.scores}
    rows: list[Row] = []
    for score in run.scorecard.scores:
        match = theirs.get((score.task, score.metric))
        if match is not None and match.scorer == score.scorer:
            rows += _rows(score, run, other)
    return Variant(
        name=name,
        settings_differ=decisive_differences(run.scorecard.settings, other.scorecard.settings),
        rows=rows,
        failed_tasks=other.scorecard.failed_tasks,
    )


def _rows(score: Any, run: SavedRun, other: SavedRun) -> Sequence[Row]:
    seed = run.scorecard.settings.seed
    row = paired_row(score, run.samples(score.task), other.samples(score.task), seed)
    return [row] if row is not None else []
