"""Runs as an evaluation leaves them, written by hand: scorecards with samples, and what stands on a leaderboard's pages."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from evals.scorecard import EvaluatedModel, Interval, Sample, Score, Scorecard, Settings, TaskSettings
from evals.statistics import estimate

ATTACK = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'{{ 7*7 }}|`<b>"


def a_score(task: str, metric: str, value: float, *, half: float = 0.05, **changes: Any) -> Score:
    fields: dict[str, Any] = {
        "task": task,
        "metric": metric,
        "group": "truthfulness",
        "value": value,
        "stderr": half / 1.96,
        "interval": Interval(low=value - half, high=value + half, method="bootstrap over documents, 10,000 resamples"),
        "n": 60,
        "unscored": 0,
        "higher_is_better": True,
        "headline": True,
        "description": "share of questions answered truthfully",
    }
    return Score(**(fields | changes))


def scored(task: str, metric: str, samples: list[Sample], **changes: Any) -> Score:
    """The score that these samples give."""
    made = estimate([sample.values[metric] for sample in samples], seed=0)
    told = {"stderr": made.stderr, "interval": made.interval, "n": made.n, "unscored": made.unscored}
    return a_score(task, metric, made.value, **(told | changes))


def some_task(name: str, **changes: Any) -> TaskSettings:
    fields: dict[str, Any] = {
        "task": name,
        "version": "1",
        "data_id": f"slipway/{name}",
        "data_sha256": "ab" * 32,
        "chat_template": True,
        "items": 60,
    }
    return TaskSettings(**(fields | changes))


def run_maker(folder: Path) -> Callable[..., Path]:
    """What makes a run's directory under `folder`, with a scorecard and samples; every part can be given."""

    def make(
        name: str,
        scores: list[Score],
        *,
        digest: str | None = None,
        tasks: list[TaskSettings] | None = None,
        samples: dict[str, list[Sample]] | None = None,
        model: str | None = None,
        created: str = "2026-11-01T10:00:00+00:00",
        **settings: Any,
    ) -> Path:
        directory = folder / name
        hashes = {}
        for task, rows in (samples or {}).items():
            content = "".join(row.model_dump_json() + "\n" for row in rows).encode()
            (directory / "samples").mkdir(parents=True, exist_ok=True)
            (directory / "samples" / f"{task}.jsonl").write_bytes(content)
            hashes[task] = hashlib.sha256(content).hexdigest()
        card = Scorecard(
            model=EvaluatedModel(
                name=model or f"/home/someone/runs/{name}/checkpoint",
                digest=digest or f"sha256:{hashlib.sha256(name.encode()).hexdigest()}",
                parameters=134_515_008,
            ),
            scores=scores,
            settings=Settings(
                **(
                    {
                        "suite": "starter",
                        "suite_sha256": "cd" * 32,
                        "backend": "slipway prefix tree",
                        "dtype": "bfloat16",
                        "device": "cpu",
                        "batch_size": 8,
                        "seed": 0,
                        "tasks": [
                            task.model_copy(update={"items": len((samples or {}).get(task.task, range(task.items)))})
                            for task in tasks or map(some_task, sorted({score.task for score in scores}))
                        ],
                    }
                    | settings
                )
            ),
            samples=hashes,
            packages={"lm_eval": "0.4.13"},
            git_revision=None,
            created=created,
            seconds=12.0,
        )
        card.write(directory / "scorecard.json")
        return directory

    return make


class Page(HTMLParser):
    """What a browser would make of a page: its tags, its attributes, its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data: str) -> None:
        self.text += data


def boards(out: Path) -> list[dict[str, Any]]:
    return list(json.loads((out / "leaderboard.json").read_text())["boards"])
