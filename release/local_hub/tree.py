"""What a commit contains: paths with their entries, and the changes from one tree to the next.

tree = apply({}, [Put("README.md", regular(blobs, b"# Hello"))])
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dulwich.index import validate_path_element_hfs, validate_path_element_ntfs

from release.file_names import folded, hides, parents
from release.local_hub.git_objects import trees
from release.local_hub.refusals import BadPath, EntryNotFound
from release.local_hub.storage import BlobBatch, Blobs, git_oid, pointer_of


@dataclass(frozen=True, slots=True)
class Entry:
    """A file: where its bytes are, and its git object id (of the content, or of the pointer of a large file)."""

    sha256: str
    size: int
    oid: str
    lfs: bool

    @property
    def etag(self) -> str:
        """What clients take for the file's identity: SHA-256 for a large file, the git id for a regular one."""
        return self.sha256 if self.lfs else self.oid


Tree = Mapping[str, Entry]


def regular(blobs: Blobs | BlobBatch, content: bytes) -> Entry:
    """Store `content` (a batch: when it is finished) and return it as a regular file."""
    blob = blobs.add(content)
    return Entry(blob.sha256, blob.size, git_oid(content), lfs=False)


def large(sha256: str, size: int) -> Entry:
    """A stored blob as a file under git LFS."""
    return Entry(sha256, size, git_oid(pointer_of(sha256, size)), lfs=True)


@dataclass(frozen=True)
class Put:
    path: str
    entry: Entry


@dataclass(frozen=True)
class Delete:
    path: str
    folder: bool = False


Change = Put | Delete


def checked_path(path: object) -> str:
    """`path` if a repository may contain it. Raises BadPath (422) for everything that could leave its folder."""
    if not isinstance(path, str) or not path:
        raise BadPath(str(path), "it is empty")
    if len(path.encode(errors="replace")) > 1024:
        raise BadPath(path, "it is too long")
    if any(ord(character) < 32 or ord(character) == 127 for character in path) or "\\" in path:
        raise BadPath(path, "control characters and backslashes are not allowed")
    if hidden := next((character for character in path if hides(character)), None):
        raise BadPath(path, f"U+{ord(hidden):04X} changes how the rest of the name is shown, or is not shown itself")
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise BadPath(path.encode(errors="replace").decode(), "it is not valid Unicode") from error
    for part in path.split("/"):
        if part in {"", ".", ".."}:
            raise BadPath(path, "it must be relative, without empty, . or .. parts")
        if not (validate_path_element_ntfs(part.encode()) and validate_path_element_hfs(part.encode())):
            raise BadPath(path, f"git keeps {part!r} for itself on some file system, and would refuse to check it out")
        if part.isspace():
            raise BadPath(path, "a part of it is blank")
        if len(part.encode()) > 255:
            raise BadPath(path, "a part of it is too long")
    return path


def refuse_lookalikes(before: Tree, after: Tree) -> None:
    """Raises BadPath for a new file whose path is another's but for the case of letters, the form of accents, or its end.

    The Hub takes such files. Where file systems ignore these, as on macOS and Windows, one of the two replaces the other in a
    download, so that what was checked is not what is loaded.
    """
    added = sorted(after.keys() - before.keys())
    if not added:
        return
    known: dict[str, list[str]] = {}
    for path in after:
        known.setdefault(folded(path), []).append(path)
    above = {folded(parent): parent for path in after for parent in parents(path)}
    for path in added:
        others = [other for other in known[folded(path)] if other != path]
        others += [above[folded(path)]] if folded(path) in above else []
        others += [other for parent in parents(path) for other in known.get(folded(parent), [])]
        if others:
            raise BadPath(
                path, f"it differs from {others[0]!r} only in the case of letters, the form of accents or its end"
            )


def apply(tree: Tree, changes: Iterable[Change]) -> dict[str, Entry]:
    """The tree after the changes, in their order. Raises EntryNotFound or BadPath, as the Hub does."""
    result = dict(tree)
    for change in changes:
        if isinstance(change, Put):
            result[checked_path(change.path)] = change.entry
        elif change.folder:
            prefix = change.path.rstrip("/") + "/"
            doomed = [path for path in result if path.startswith(prefix)] if prefix != "/" else list(result)
            if not doomed:
                raise EntryNotFound(change.path)
            for path in doomed:
                del result[path]
        elif result.pop(change.path, None) is None:
            raise EntryNotFound(change.path)
    for path in result:
        for parent in parents(path):
            if parent in result:
                raise BadPath(path, f"{parent} is a file")
    return result


def folders(tree: Tree) -> dict[str, str]:
    """Every folder of the tree with its git id, which changes when anything beneath it does."""
    return {path: found.id.decode() for path, found in trees(tree).items() if path}


def changed_paths(before: Tree, after: Tree) -> dict[str, Entry | None]:
    """The paths that differ, with their entry afterwards (None: removed)."""
    return {
        path: after.get(path) for path in sorted(before.keys() | after.keys()) if before.get(path) != after.get(path)
    }
