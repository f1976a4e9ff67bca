"""What a model's scorecard says, with its intervals and beside its parent's: a page of its repository.

Each figure is what the repository says of itself; `release verify --rescore` is what checks it.
"""

from __future__ import annotations

from typing import Any

from evals.presentation import figure, interval
from evals.scorecard import Score, Scorecard
from model_cards.score_table import arrow
from release.local_hub.pages.leaderboard import SCORECARD, SCORECARD_LIMIT, read_scorecard
from release.local_hub.pages.views import repository_page
from release.local_hub.repository import Repository
from release.local_hub.tree import Tree

PARENT = f"baseline/{SCORECARD}"
Context = dict[str, Any]


def scores_page(repository: Repository, revision: str) -> Context:
    """Tasks with their figures, those of the headline first; nothing where there is no scorecard that can be read."""
    page = repository_page(repository, revision, "scores")
    tree: Tree = page["commit"].tree
    card, parent = (_read(repository, tree, path) for path in (SCORECARD, PARENT))
    theirs = {(score.task, score.metric): score for score in parent.scores} if parent else {}
    tasks: dict[str, list[Context]] = {}
    for score in sorted(card.scores if card else [], key=lambda each: not each.headline):
        tasks.setdefault(score.task, []).append(_row(score, theirs.get((score.task, score.metric))))
    return {
        **page,
        "scorecard": card,
        "tasks": tasks,
        "parent": parent.model.name if parent else None,
        "there": SCORECARD in tree,
    }


def _read(repository: Repository, tree: Tree, path: str) -> Scorecard | None:
    entry = tree.get(path)
    if entry is None or entry.size > SCORECARD_LIMIT or not repository.blobs.has(entry.sha256):
        return None
    return read_scorecard(repository.blobs, entry.sha256)


def _row(score: Score, parent: Score | None) -> Context:
    return {
        "score": score,
        "arrow": arrow(score),
        "value": figure(score.value, score.unit),
        "interval": interval(score),
        "parent": figure(parent.value, parent.unit) if parent else None,
    }
