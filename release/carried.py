"""The files beside the weights of a checkpoint from elsewhere: its card, licence, notices, pictures and other texts.

    carried = carry(source, run, leave_out=["*.log"])     # into run/checkpoint, byte for byte
    carried.left_out                                      # path -> why it is not released

What decides what the model does is copied by `training.base_run.write_base`; this brings the rest, as far as gates can
read it: texts and pictures. Weights in other formats would be released without anything having compared them.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from release.readable import OTHER_WEIGHTS, runs_code, why_unread
from training.checkpoint import PICKLED_SUFFIXES, changes_behaviour
from training.records import Record, sha256_of_file

FILE = "carried.json"
RUNS_CODE = "reading it can run code"
# What a release writes itself, and what other steps of a run read beside its checkpoint.
OWN_FILES = frozenset(
    {
        *("plan.json", "run.json", "reference.json", "scorecard.json", "contamination.json", "receipt.json"),
        *("bom.cdx.json", "slipway.sigstore.json", "figures/scores.png", "figures/training.png"),
        *("policy.yaml", "metrics.jsonl"),
    }
)
OWN_FOLDERS = ("samples", "baseline", "beside")


class Carried(Record):
    """Which files came along, by SHA-256, and which did not, with the reason."""

    schema_version: int = 1
    files: dict[str, str]
    left_out: dict[str, str]
    gated: str | None = None  # `auto` or `manual` where the Hub let only chosen readers have them; "" where anyone

    def sentence(self) -> str | None:
        """What was left out, in one line; None where nothing was."""
        by_reason: dict[str, list[str]] = {}
        for path, why in sorted(self.left_out.items()):
            by_reason.setdefault(why, []).append(path)
        told = [
            f"{', '.join(paths[:3])}{f' and {len(paths) - 3} more' if len(paths) > 3 else ''} ({why})"
            for why, paths in by_reason.items()
        ]
        return f"left out: {'; '.join(told)}" if told else None


def carry(
    source: Path, run: Path, leave_out: Sequence[str] = (), unseen: Iterable[str] = (), gated: str | None = None
) -> bool:
    """Bring run/checkpoint's other files to what `source` has now, and write run/carried.json; whether anything changed.

    `leave_out` are patterns of paths that are not to be released; `unseen` are paths of the source that were not downloaded,
    and `gated` is the gate of its repository.
    """
    target = run / "checkpoint"
    before = read(run)
    others = (path for path in unseen if not changes_behaviour(Path(path)))
    files, left_out = {}, {path: reason for path in others if (reason := why_left_out(path)) is not None}
    for file in sorted(file for file in source.rglob("*") if file.is_file()):
        path = file.relative_to(source).as_posix()
        if changes_behaviour(Path(path)):
            continue
        reason = _asked(path, leave_out) or why_left_out(path) or _unfit(file, source)
        if reason is None:
            files[path] = _copy(file, target / path)
        else:
            left_out[path] = reason
    for path in set(before.files if before else ()) - set(files):
        (target / path).unlink(missing_ok=True)
    now = Carried(files=files, left_out=left_out, gated=gated)
    if now != before:
        now.write(run / FILE)
    return before is not None and now.files != before.files


def read(run: Path) -> Carried | None:
    return Carried.read(run / FILE) if (run / FILE).is_file() else None


def why_left_out(path: str) -> str | None:
    """Why a file of this path is not released; None where its path does not forbid it."""
    parts = PurePosixPath(path).parts
    if any(part.startswith(".") for part in parts):
        return "hidden"
    if path.casefold().endswith(PICKLED_SUFFIXES):
        return RUNS_CODE
    if any(re.fullmatch(r"checkpoint-\d+", part) for part in parts[:-1]):
        return "another step's checkpoint"
    if path in OWN_FILES or parts[0] in OWN_FOLDERS:
        return "a record that a release writes itself"
    if path.casefold().endswith(OTHER_WEIGHTS):  # those of the model itself are copied with what decides what it does
        return "weights that nothing here compared with the model"
    return None


def _asked(path: str, patterns: Sequence[str]) -> str | None:
    return "--leave-out" if any(fnmatch(path, pattern) for pattern in patterns) else None


def _unfit(file: Path, source: Path) -> str | None:
    """Why the file that lies there is not released."""
    real, root = file.resolve(), source.resolve()
    cache = root.parent.parent / "blobs" if root.parent.name == "snapshots" else root  # of a Hub's client
    if not (real.is_relative_to(root) or real.is_relative_to(cache)):
        return "a link to elsewhere"
    return RUNS_CODE if runs_code(file.name, file) else why_unread(file.name, file)


def _copy(file: Path, target: Path) -> str:
    """The file at its place, whole or not at all; its SHA-256."""
    if target.is_file() and sha256_of_file(target) == sha256_of_file(file):
        return sha256_of_file(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(dir=target.parent, prefix=".carried-")
    os.close(handle)
    try:
        shutil.copyfile(file, scratch)
        Path(scratch).chmod(0o644)
        Path(scratch).replace(target)
    finally:
        Path(scratch).unlink(missing_ok=True)
    return sha256_of_file(target)
