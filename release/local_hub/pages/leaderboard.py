"""The Hub's leaderboard: the scorecards of the models whose files the caller may have, in the tables of evals/leaderboard.py.

Each figure is what a repository says of itself; `release verify` is what checks it.
"""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from evals.leaderboard import Board, Row, leaderboard
from evals.leaderboard_tables import group
from evals.presentation import figure
from evals.saved import SavedRun
from evals.scorecard import Scorecard
from release.local_hub.access import require_access
from release.local_hub.refusals import Refusal
from release.local_hub.repository import Repository
from release.local_hub.storage import Blobs
from release.local_hub.web import Call
from training.errors import SlipwayError

log = logging.getLogger("slipway.hub")
SCORECARD = "scorecard.json"
SCORECARD_LIMIT = 4 << 20  # bytes of one that is read
Context = dict[str, Any]


def leaderboard_page(call: Call) -> Context:
    """Every comparable set of scorecards as one table, best first; how many could not be read."""
    runs, unreadable = [], 0
    for repository in call.store.repositories("model"):
        if not _may_have(call, repository):
            continue
        try:
            tree = repository.resolve("main").tree
        except Refusal:
            continue  # it was deleted, or is just being created
        entry = tree.get(SCORECARD)
        if entry is None:
            continue
        readable = entry.size <= SCORECARD_LIMIT and repository.blobs.has(entry.sha256)
        card = read_scorecard(repository.blobs, entry.sha256) if readable else None
        run = _of_repository(repository, card) if card else None
        if run is None or not _stands(run):
            unreadable += 1
        else:
            runs.append(run)
    boards = leaderboard(group(runs)).boards if runs else []
    return {"boards": [_table(board) for board in boards], "unreadable": unreadable}


def _stands(run: SavedRun) -> bool:
    """Whether it makes a table by itself: one whose figures contradict each other would take everybody's place away."""
    try:
        for board in leaderboard(group([run])).boards:
            _table(board)
    except (SlipwayError, ValueError, ArithmeticError, LookupError) as error:
        log.error("the scorecard of %s is left out of the leaderboard: %s", run.published_as, error)
        return False
    return True


def _may_have(call: Call, repository: Repository) -> bool:
    try:
        if repository.private and not call.caller.may_read(repository.namespace):
            return False
        require_access(repository, call.caller, "")
    except Refusal:
        return False
    return True


@lru_cache(maxsize=256)
def read_scorecard(blobs: Blobs, sha256: str) -> Scorecard | None:
    try:
        return Scorecard.model_validate_json(blobs.read(sha256))
    except ValidationError:
        return None  # it only bears the name


def _of_repository(repository: Repository, card: Scorecard) -> SavedRun:
    """A table has the newest scorecard of each digest. Here the repository is part of it, or anybody's newer scorecard of a
    model would take the place of its owner's."""
    model = card.model.model_copy(update={"digest": f"{card.model.digest} {repository.id}"})
    return SavedRun(repository.folder, card.model_copy(update={"model": model}), repository.id)


def _table(board: Board) -> Context:
    return {"why": board.why_separate, "columns": board.columns, "rows": [_row(board, row) for row in board.rows]}


def _row(board: Board, row: Row) -> Context:
    cells: list[Context | None] = []
    for column in board.columns:
        cell = row.cells.get(column.id)
        if cell is None:
            cells.append(None)
            continue
        low, high = (figure(end, column.unit) for end in (cell.interval.low, cell.interval.high))
        cells.append(
            {
                "value": figure(cell.value, column.unit),
                "interval": f"{low} to {high}",
                "n": cell.n,
                "best": cell.standing in ("best", "tied"),
            }
        )
    return {"name": row.name, "suite": row.suite, "failed": sorted(row.failed_tasks), "cells": cells}
