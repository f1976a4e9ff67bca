"""Remove what nothing needs any more: blobs and commits that no ref leads to, and what broken-off work has left.

    collected = collect(Store(Path("hub")), grace=24 * 3600)
    collected.blobs, collected.bytes

Servers may run meanwhile: nothing younger than `grace` seconds is touched, for it may be an upload that is to be committed,
and what is removed is looked for in all refs once more while no commit can be made. A kill at any point leaves a whole
Hub: commits go before the blobs that only they need.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from release.local_hub.refusals import RevisionNotFound
from release.local_hub.repository import Repository
from release.local_hub.routes_xet import Xorbs
from release.local_hub.storage import read_json
from release.local_hub.store import KINDS, Store
from training.errors import VerificationMismatch

BATCH = 500  # files removed in one go, during which commits wait


@dataclass
class Collected:
    """What was removed, or with `dry_run` would be."""

    blobs: int = 0
    bytes: int = 0
    commits: int = 0
    leftovers: int = 0  # of broken-off uploads, deletions and creations


def collect(store: Store, *, grace: float, dry_run: bool = False) -> Collected:
    """Remove everything older than `grace` seconds that nothing needs. Repeating it is safe."""
    horizon = time.time() - grace
    done = Collected()
    for repository in _repositories(store):
        _reached(repository)  # a damaged Hub is left as it is
    _collect_leftovers(store, horizon, done, dry_run)
    removed: set[Path] = set()
    for repository in _repositories(store):
        removed |= _collect_commits(store, repository, horizon, dry_run)
    done.commits = len(removed)
    _collect_blobs(store, horizon, removed, done, dry_run)
    if not dry_run:
        for folder in (store.root / "xet").iterdir():
            Xorbs(folder, store.blobs).forget_lost(horizon)
        _forget_holders(store)
    return done


def _repositories(store: Store) -> Iterator[Repository]:
    for kind in KINDS:
        yield from store.repositories(kind)


def _collect_leftovers(store: Store, horizon: float, done: Collected, dry_run: bool) -> None:
    """Unfinished uploads, halves of deleted repositories, and repositories that never got their name."""
    named = {repository.folder.name for repository in _repositories(store)}
    folders = [*(store.root / "trash").iterdir()]
    folders += [folder for folder in (store.root / "repositories").iterdir() if folder.name not in named]
    for path in [*store.blobs.incoming.iterdir(), *folders]:
        if _is_old(path, horizon):
            done.leftovers += 1
            if not dry_run:
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def _collect_commits(store: Store, repository: Repository, horizon: float, dry_run: bool) -> set[Path]:
    """The files of the commits that were removed."""
    old = [file for file in (repository.folder / "commits").glob("*.json") if _is_old(file, horizon)]
    reached, removed = _reached(repository), set[Path]()
    for batch in _batches(file for file in old if file.stem not in reached):
        with store.blobs.collecting():
            reached = _reached(repository)
            for file in batch:
                if file.stem not in reached:
                    removed.add(file)
                    if not dry_run:
                        file.unlink(missing_ok=True)
    return removed


def _reached(repository: Repository) -> set[str]:
    """Every commit that a ref leads to. Raises VerificationMismatch where that cannot be said."""
    reached: set[str] = set()
    try:
        for oid in set(repository.refs().values()):
            for commit in repository.history(oid):
                if commit.oid in reached:
                    break
                reached.add(commit.oid)
                _ = commit.tree  # is read only now, and may be torn
    except (RevisionNotFound, ValueError, KeyError) as error:
        if not repository.folder.is_dir():
            return set()  # it was deleted meanwhile
        raise VerificationMismatch(
            f"{repository.kind} {repository.id} is damaged, and nothing is removed from a damaged Hub",
            where=str(repository.folder),
            found=f"{type(error).__name__}: {error}",
            next_step="python -m release hub fsck --root DIR",
        ) from error
    return reached


def _collect_blobs(store: Store, horizon: float, removed: set[Path], done: Collected, dry_run: bool) -> None:
    seen = set(removed)
    needed = _needed(store, seen)
    old = (file for file in store.blobs.folder.glob("*/*") if _is_old(file, horizon))
    for batch in _batches(file for file in old if file.parent.name + file.name not in needed):
        with store.blobs.collecting():
            needed |= _needed(store, seen)
            for file in batch:
                # A client that has just been told that the content is here has made it young again.
                if file.parent.name + file.name not in needed and _is_old(file, horizon):
                    done.blobs += 1
                    done.bytes += file.stat().st_size
                    if not dry_run:
                        file.unlink(missing_ok=True)


def _needed(store: Store, seen: set[Path]) -> set[str]:
    """The blobs of every commit that is not among `seen`, which grows: also of young commits that no ref leads to."""
    needed: set[str] = set()
    for repository in _repositories(store):
        for file in (repository.folder / "commits").glob("*.json"):
            if file not in seen:
                seen.add(file)
                body = read_json(file)
                needed |= {entry["sha256"] for entry in body["tree"].values()} if body else set()
    return needed


def _forget_holders(store: Store) -> None:
    for mark in (store.root / "holders").rglob("*"):
        if mark.is_file() and not store.blobs.has(mark.name):
            mark.unlink(missing_ok=True)


def _is_old(path: Path, horizon: float) -> bool:
    try:
        return path.stat().st_mtime < horizon
    except FileNotFoundError:
        return False


def _batches(files: Iterable[Path]) -> Iterator[list[Path]]:
    rest = iter(files)
    while batch := list(islice(rest, BATCH)):
        yield batch


def describe(done: Collected, *, dry_run: bool) -> str:
    """One sentence."""
    verb = "would remove" if dry_run else "removed"
    return (
        f"{verb} {done.blobs} blobs ({done.bytes / 1e6:,.1f} MB), {done.commits} commits and {done.leftovers} leftovers "
        "that nothing needs"
    )
