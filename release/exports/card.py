"""The card of a GGUF repository: small, and every figure from export.json."""

from __future__ import annotations

from pathlib import Path

from evals.presentation import between, figure, metric_label, short_digests
from model_cards.score_table import MARKS, signed
from release.exports.record import ExportedFile, ExportRecord, ScoreDifference
from release.hub_reader import PUBLIC_HUB
from training.counted import counted

TEMPLATE = Path(__file__).with_name("card.jinja")


def render_card(record: ExportRecord, *, repo_id: str = "ORG/NAME-GGUF", endpoint: str | None = None) -> str:
    """README.md of the export, as it will stand in `repo_id` on a Hub; equal records give equal text."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, trim_blocks=True, autoescape=False
    )
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    closest = min(record.files, key=lambda file: file.loss.kl_mean)
    scored = [file for file in record.files if file.scores is not None]
    return template.render(
        record=record,
        repo_id=repo_id,
        elsewhere=None if endpoint in (None, PUBLIC_HUB) else endpoint,
        closest=closest,
        scored=scored,
        scorers=_scorers(scored),
        bits=_bits,
        figure=figure,
        metric_label=metric_label,
        change=change,
        marks=MARKS,
    )


def _scorers(files: list[ExportedFile]) -> dict[str, list[str]]:
    """Who scored, with the metrics of each, where that was not the task itself."""
    found: dict[str, list[str]] = {}
    for file in files:
        for row in file.scores.rows if file.scores else []:
            if row.scorer:
                names = found.setdefault(short_digests(row.scorer), [])
                names += [name for name in [metric_label(row.metric, row.scorer)] if name not in names]
    return found


def change(row: ScoreDifference) -> str:
    """A difference with its 95% interval, in the unit of the score."""
    ends = between(row.interval, lambda end: signed(end, row.unit).removesuffix(" pp"))
    return f"{signed(row.difference, row.unit)} {ends}"


def score_lines(file: ExportedFile) -> list[str]:
    """The change of scores of one file as lines for a terminal."""
    if file.scores is None:
        return [f"change of scores not measured: {file.scores_not_measured or 'made before it was'}"]
    rows = [
        f"{row.task}/{row.metric} {figure(row.checkpoint, row.unit)} -> {figure(row.file, row.unit)}, {change(row)}, "
        f"{counted(row.n, 'item')}, {row.verdict}"
        for row in file.scores.rows
    ]
    rows += [f"{task} failed: {why}" for task, why in file.scores.failed.items()]
    return rows + [f"{name} left out: {why}" for name, why in file.scores.left_out.items()]


def _bits(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
