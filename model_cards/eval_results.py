"""`.eval_results/*.yaml`: scores in the form that the Hub shows on the model's page and on benchmarks' leaderboards.

Only datasets registered there as benchmarks may stand in these files, and only a whole test set belongs on a public
leaderboard: a score of the starter suite, of a sample (`--limit`), or with unscored items is not written.
https://huggingface.co/docs/hub/eval-results
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import yaml

from evals.scorecard import Scorecard, TaskSettings
from training.yaml_file import Settings, load


class Benchmark(Settings):
    dataset: str
    task_id: str
    tasks: list[str]
    metrics: list[str]
    percent: bool


class Registry(Settings):
    benchmarks: list[Benchmark]


def eval_results(card: Scorecard) -> dict[str, bytes]:
    """The files to put into the repository: path -> YAML. Empty where no score may be shown there."""
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    with resources.as_file(resources.files("model_cards") / "registered_benchmarks.yaml") as path:
        registry = load(Path(path), Registry)
    files: dict[str, bytes] = {}
    for benchmark in registry.benchmarks:
        for settings in card.settings.tasks:
            if (
                settings.task not in benchmark.tasks
                or settings.data_id != benchmark.dataset
                or settings.limit is not None
            ):
                continue
            known = {score.metric: score for score in card.scores if score.task == settings.task}
            score = next((known[metric] for metric in benchmark.metrics if metric in known), None)
            if score is None or score.unscored or not score.n:
                continue
            entry = EvalResultEntry(
                dataset_id=benchmark.dataset,
                task_id=benchmark.task_id,
                value=round(100 * score.value, 2) if benchmark.percent else round(score.value, 4),
                dataset_revision=settings.data_revision,
                date=card.created,
                notes=_notes(card, settings, score.metric),
            )
            text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True, width=1000)
            files.setdefault(f".eval_results/{benchmark.task_id}.yaml", text.encode())
    return files


def _notes(card: Scorecard, settings: TaskSettings, metric: str) -> str:
    template = "chat template" if settings.chat_template else "no chat template"
    version = card.packages.get("lm_eval", card.packages.get("lm-eval", ""))
    return f"lm-eval {version} {settings.task} v{settings.version}, {metric}, {settings.num_fewshot}-shot, {template}"
