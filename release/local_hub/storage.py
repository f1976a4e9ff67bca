"""The bytes on disk: content-addressed blobs, JSON files replaced as a whole, and locks between server processes.

    blobs = Blobs(root)
    with blobs.writer() as writer:
        writer.write(b"...")
        blob = writer.finish()          # Blob(sha256, size), stored once whoever uploads it

Nothing here needs a repair step: a blob or a JSON file appears by rename after its fsync, so that a kill at any point
leaves the old state or the new one, and at worst an unfinished file in `incoming/`, which `sweep` removes later.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from threading import BoundedSemaphore
from types import TracebackType
from typing import Any, BinaryIO, Self

from release.local_hub.refusals import ContentGone

_SHA256 = re.compile(r"[0-9a-f]{64}")
ABANDONED_AFTER = 24 * 3600  # seconds after which an unfinished upload is taken for dead
BLOCK = 1 << 20  # bytes
_HASHERS = ThreadPoolExecutor(os.cpu_count(), "hashing")


@dataclass(frozen=True)
class Blob:
    """Stored content: its SHA-256 and its size in bytes."""

    sha256: str
    size: int


class Blobs:
    """Immutable content under `root/blobs/ab/cdef...`, named by its SHA-256."""

    def __init__(self, root: Path) -> None:
        self.folder, self.incoming = root / "blobs", root / "incoming"
        make_folder(self.folder)
        make_folder(self.incoming)

    def path(self, sha256: str) -> Path:
        """Where the content lies, whether or not it is there. Raises ValueError for what is not a SHA-256."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a SHA-256: {sha256[:80]!r}")
        return self.folder / sha256[:2] / sha256[2:]

    def has(self, sha256: str, size: int | None = None) -> bool:
        try:
            found = self.path(sha256).stat().st_size
        except (FileNotFoundError, ValueError):
            return False
        return size is None or found == size

    def read(self, sha256: str, limit: int = -1) -> bytes:
        """The first `limit` bytes. Raises ContentGone."""
        try:
            with self.path(sha256).open("rb") as file:
                return file.read(limit)
        except FileNotFoundError as error:
            raise ContentGone(f"sha256 {sha256}") from error

    def keep(self, sha256: str) -> bool:
        """Whether the content is there; if so, `hub gc` takes it for new, so that it can be put into a commit."""
        try:
            os.utime(self.path(sha256))
        except (FileNotFoundError, ValueError):
            return False
        return True

    def in_use(self) -> AbstractContextManager[None]:
        """Hold this from looking whether content is there until a ref leads to it: `hub gc` waits meanwhile."""
        return locked(self.folder.parent / "gc.lock", shared=True)

    def collecting(self) -> AbstractContextManager[None]:
        """Hold this while content is removed: no commit is made meanwhile."""
        return locked(self.folder.parent / "gc.lock")

    def writer(self) -> BlobWriter:
        return BlobWriter(self)

    def batch(self) -> BlobBatch:
        return BlobBatch(self)

    def add(self, content: bytes) -> Blob:
        """Store small content that is in memory anyway."""
        with self.writer() as writer:
            writer.write(content)
            return writer.finish()

    def add_file(self, path: Path) -> Blob:
        """Store a copy of a file, read in blocks."""
        with path.open("rb") as file, self.writer() as writer:
            while block := file.read(BLOCK):
                writer.write(block)
            return writer.finish()

    def sweep(self) -> None:
        """Remove what killed uploads left behind; live ones of other processes are younger than ABANDONED_AFTER."""
        horizon = time.time() - ABANDONED_AFTER
        for path in self.incoming.iterdir():
            try:
                if path.is_file() and path.stat().st_mtime < horizon:
                    path.unlink()
            except FileNotFoundError:
                continue  # another process swept it first


class BlobWriter:
    """Writes and hashes at once, in constant memory; without `finish` nothing remains.

    From BLOCK bytes on another thread hashes while this one writes.
    """

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self.size = 0
        self._sha256 = hashlib.sha256()
        self._unhashed: list[bytes] = []
        self._hashing: Future[None] | None = None
        self._temporary = blobs.incoming / uuid.uuid4().hex
        self._file: BinaryIO = self._temporary.open("wb")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        finally:
            self._temporary.unlink(missing_ok=True)

    @property
    def sha256(self) -> str:
        """Of what has been written so far."""
        self._catch_up()
        self._hash(self._unhashed)
        self._unhashed = []
        return self._sha256.hexdigest()

    def write(self, data: bytes) -> None:
        self._unhashed.append(data)
        self.size += len(data)
        if self.size // BLOCK > (self.size - len(data)) // BLOCK:
            self._catch_up()
            self._hashing, self._unhashed = _HASHERS.submit(self._hash, self._unhashed), []
        self._file.write(data)

    def _hash(self, blocks: list[bytes]) -> None:
        for block in blocks:
            self._sha256.update(block)

    def _catch_up(self) -> None:
        if self._hashing is not None:
            self._hashing.result()

    def finish(self) -> Blob:
        """Make the content durable and visible under its hash."""
        self.sync()
        folder = self.place()
        if folder is not None:
            fsync_path(folder)
        return Blob(self.sha256, self.size)

    def sync(self) -> None:
        """End the writing and make the content durable."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def place(self) -> Path | None:
        """Give durable content its name; the folder that must be made durable for it, None where it was there."""
        target = self.blobs.path(self.sha256)
        if self.blobs.has(self.sha256, self.size):
            self.blobs.keep(self.sha256)
            return None
        make_folder(target.parent)
        self._temporary.chmod(0o444)
        self._temporary.replace(target)
        return target.parent


class BlobBatch:
    """Many small contents that become durable together: a disk takes a thousand syncs at once in the time of some fifty.

    with blobs.batch() as batch:
        blob = batch.add(b"...")        # not to be seen before `finish`
        batch.finish()

    They are written and synced by threads while more arrive; at most WAITING of them are held in memory.
    """

    AT_ONCE, WAITING = 16, 64

    def __init__(self, blobs: Blobs) -> None:
        self.blobs = blobs
        self._pool = ThreadPoolExecutor(self.AT_ONCE, "blobs")
        self._room = BoundedSemaphore(self.WAITING)
        self._writers: dict[str, Future[BlobWriter]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        for future in self._writers.values():
            if future.exception() is None:
                future.result().__exit__(None, None, None)

    def add(self, content: bytes) -> Blob:
        blob = Blob(hashlib.sha256(content).hexdigest(), len(content))
        if blob.sha256 not in self._writers and not (self.blobs.has(*astuple(blob)) and self.blobs.keep(blob.sha256)):
            self._room.acquire()
            self._writers[blob.sha256] = self._pool.submit(self._write, content)
        return blob

    def finish(self) -> None:
        """Make all of it durable and visible. Raises the OSError of a write that failed; then nothing is visible."""
        written = [future.result() for future in self._writers.values()]
        folders = set(self._pool.map(BlobWriter.place, written))
        list(self._pool.map(fsync_path, [folder for folder in folders if folder is not None]))

    def _write(self, content: bytes) -> BlobWriter:
        """Durable content that has no name yet."""
        try:
            with ExitStack() as cleaning:
                writer = cleaning.enter_context(self.blobs.writer())
                writer.write(content)
                writer.sync()
                cleaning.pop_all()
                return writer
        finally:
            self._room.release()


def pointer_of(blob_sha256: str, size: int) -> bytes:
    """The git LFS pointer that stands in the git tree for a large file."""
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{blob_sha256}\nsize {size}\n".encode()


def git_oid(content: bytes) -> str:
    """What `git hash-object` prints: clients compare it to skip files that have not changed."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()


def fsync_path(path: Path) -> None:
    """Make what a closed file holds, or the renames in a folder, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path, mode: int = 0o777) -> None:
    """Make it if it is not there, so that a power cut does not take it away with what is put into it. The one above is not made:
    it may have been deleted meanwhile."""
    try:
        path.mkdir(mode=mode)
    except FileExistsError:
        return
    fsync_path(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Replace the file as a whole (records.py: objects with a checksum)."""
    write_bytes(path, json.dumps(value, ensure_ascii=False, sort_keys=True).encode())


def create_json(path: Path, value: Any) -> bool:
    """Like `write_json`, but only if the file does not exist; False when somebody else created it."""
    return create_bytes(path, json.dumps(value, ensure_ascii=False, sort_keys=True).encode())


def write_bytes(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Replace the file as a whole: temporary file, fsync, rename, fsync of the folder."""
    with _temporary(path, content, mode) as temporary:
        temporary.replace(path)
    fsync_path(path.parent)


def create_bytes(path: Path, content: bytes) -> bool:
    """Like `write_bytes`, but only if the file does not exist; False when somebody else created it."""
    with _temporary(path, content, 0o644) as temporary:
        try:
            path.hardlink_to(temporary)
        except FileExistsError:
            return False
    fsync_path(path.parent)
    return True


@contextmanager
def _temporary(path: Path, content: bytes, mode: int) -> Iterator[Path]:
    """A file beside `path` with this content, durable; it is gone afterwards."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def read_json(path: Path, default: Any = None) -> Any:
    """The file's value, or `default` when there is no such file."""
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return default


@contextmanager
def locked(path: Path, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock among all threads and processes, alone or with others who share it.

    The kernel lets go of it when its holder dies.
    """
    with path.open("ab") as file:
        fcntl.flock(file.fileno(), fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
        yield
