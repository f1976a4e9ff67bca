"""Other models beside a run: their scorecards and samples, copied to RUN/beside/, from where the card tells their figures.

    put_beside(Path("runs/ppo"), [Path("runs/smollm2-360m"), Path("runs/qwen-0.5b")])
    models_beside(Path("runs/ppo"))      # [SavedRun, ...], in the order of their folders

A published model is measured like one's own, by `python -m evals run ID --suite ...`: a figure that its authors state was made
in another way, and stands beside nothing.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from evals.presentation import figure, model_name, short_digest
from evals.saved import SavedRun
from training.command import Result
from training.errors import UsageError

FOLDER = "beside"


def put_beside(run: Path, others: Sequence[Path]) -> list[SavedRun]:
    """Make RUN/beside/ hold these runs and no others; none where none are given.

    Raises UsageError, and changes nothing, where one is of the run's own checkpoint or of a model that an endpoint served, is
    given twice, or shares no figure that was measured under the same settings.
    """
    from evals.compare import compare

    own = SavedRun.open(run)
    found: dict[str, SavedRun] = {}
    for path in others:
        other = SavedRun.open(path)
        _require_another(own, other, path)
        compare(other.folder, own.folder)  # raises where nothing can be compared
        place = f"{_slug(other)}-{short_digest(other.scorecard.model.digest)[:8]}"
        if place in found:
            raise UsageError("the same checkpoint is given twice", where=str(path), found=str(found[place].folder))
        found[place] = other
    new, old = own.folder / f".{FOLDER}", own.folder / FOLDER
    shutil.rmtree(new, ignore_errors=True)
    for place, other in found.items():
        other.copy_to(new / place)
    if old.exists():
        shutil.rmtree(old)
    if found:
        new.rename(old)
    return models_beside(run)


def models_beside(run: Path) -> list[SavedRun]:
    """The runs in RUN/beside/. Raises UsageError where one has no readable scorecard."""
    folder = (run if run.is_dir() else run.parent) / FOLDER
    return [SavedRun.open(place) for place in sorted(folder.iterdir()) if place.is_dir()] if folder.is_dir() else []


def run_beside(run: Path, others: Sequence[Path]) -> Result:
    """The command `python -m evals beside`."""
    from evals.compare import compare

    kept = put_beside(run, others)
    own = SavedRun.open(run)
    lines = [f"{FOLDER}: {len(kept)} model{'s' * (len(kept) != 1)} beside {run}"]
    for one in kept:
        rows = [row for row in compare(one.folder, own.folder).rows if row.headline]
        told = ", ".join(
            f"{row.task}/{row.metric} {figure(row.before, own.scorecard.score(row.task, row.metric).unit)} ({row.verdict} here)"
            for row in rows
        )
        lines.append(f"  {model_name(one.scorecard.model)} {short_digest(one.scorecard.model.digest)}: {told}")
    return {
        "summary": "\n".join(lines),
        "run": str(run),
        "beside": [{"name": one.scorecard.model.name, "digest": one.scorecard.model.digest} for one in kept],
    }


def _require_another(own: SavedRun, other: SavedRun, path: Path) -> None:
    model = other.scorecard.model
    if model.endpoint is not None:
        raise UsageError(
            "what an endpoint serves is pinned by nothing, so its figures stand on no card",
            where=str(path),
            expected="a scorecard of a checkpoint",
            found=f"{model.name} at {model.endpoint}",
        )
    if model.digest == own.scorecard.model.digest:
        raise UsageError("this is the run's own checkpoint", where=str(path), found=model.digest)


def _slug(run: SavedRun) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", model_name(run.scorecard.model).lower()).strip("-.")[:60] or "model"
