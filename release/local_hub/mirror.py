"""Take in a folder of repositories, so that official datasets and models load under their own ids from this Hub.

import_folder(store, Path("mirror"))      # mirror/datasets/openai/gsm8k/main/test.jsonl -> openai/gsm8k
"""

from __future__ import annotations

from pathlib import Path

from release.local_hub.repository import MAIN, Repository
from release.local_hub.starting_files import LARGE_FROM, is_large, starting_files
from release.local_hub.store import KINDS, Store
from release.local_hub.tree import Change, Delete, Entry, Put, checked_path, large, regular
from training.counted import counted
from training.errors import UsageError

AUTHOR = "import"


def import_folder(store: Store, folder: Path) -> list[str]:
    """Import everything under `folder`; importing again commits only what has changed. Returns `kind org/name`s."""
    found = [
        (kind, path)
        for kind in KINDS
        for path in sorted((folder / f"{kind}s").glob("*/*"))
        if path.is_dir() and not path.name.startswith(".")
    ]
    if not found:
        raise UsageError(
            "there are no repositories to import",
            where=str(folder),
            expected="folders like datasets/ORG/NAME, models/ORG/NAME or spaces/ORG/NAME",
        )
    for _, path in found:
        _refuse_links_out(folder, path)
    return [_import_repository(store, kind, path) for kind, path in found]


def _refuse_links_out(folder: Path, source: Path) -> None:
    """A folder from elsewhere may contain links to files of this machine that nobody meant to publish."""
    inside = folder.resolve()
    for path in (source, *source.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            raise UsageError(
                "a link leads out of the folder that is imported; nothing was imported",
                where=str(path),
                expected=f"links within {folder}",
                found=str(path.resolve()),
                next_step="replace the link by a copy of the file, if it is meant to be published",
            )


def _import_repository(store: Store, kind: str, source: Path) -> str:
    namespace, repo_id = source.parent.name, f"{source.parent.name}/{source.name}"
    if store.accounts.kind_of(namespace) is None:
        store.create_organisation(namespace)
    repository = store.find(kind, repo_id)
    if repository is None:
        repository = store.create_repository(kind, repo_id, AUTHOR, initialise=False)
    refs = repository.refs()
    before = repository.resolve(refs[MAIN]).tree if MAIN in refs else {}
    attributes = starting_files(kind, source.name, None)[".gitattributes"]
    after = {
        path: _entry(repository, source / path, path, attributes)
        for path in (checked_path(file.relative_to(source).as_posix()) for file in _files(source))
    }
    changes: list[Change] = [Put(path, entry) for path, entry in after.items() if before.get(path) != entry]
    changes += [Delete(path) for path in before if path not in after]
    if changes or MAIN not in refs:
        repository.commit(MAIN, changes, author=AUTHOR, title=f"Import {counted(len(after), 'file')}")
    return f"{kind} {repository.id}"


def _files(source: Path) -> list[Path]:
    inside = [file for file in sorted(source.rglob("*")) if file.is_file()]
    return [file for file in inside if not {".git", ".cache"} & set(file.relative_to(source).parts)]


def _entry(repository: Repository, file: Path, path: str, attributes: str) -> Entry:
    size = file.stat().st_size
    with file.open("rb") as opened:
        sample = opened.read(512)
    if size < LARGE_FROM and not is_large(path, size, sample, attributes):
        return regular(repository.blobs, file.read_bytes())
    blob = repository.blobs.add_file(file)
    return large(blob.sha256, blob.size)
