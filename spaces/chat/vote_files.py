"""Lines and small files on disk, on whatever is mounted there: whole and synced, or not at all.

append_line(file, b'{"vote_id": ...}\\n');  whole_lines(file);  replace(file, content)

A storage bucket that is mounted by hf-mount takes, by its default, no appending to a file that is there (EPERM), syncs nothing
before a file is closed, and says only then whether it was stored.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
from pathlib import Path

# This file takes no more lines, and another may.
TAKES_NO_MORE = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.EOPNOTSUPP, errno.ESTALE)
_NO_SYNCING = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS)


def append_line(file: Path, line: bytes) -> None:
    """Append, sync and close. Raises OSError; then the line is not there, or cut off at the end as a kill would."""
    new = not file.exists()
    before: int | None = None
    try:
        with file.open("ab", buffering=0) as out:  # a buffer would write what is left of it when it is closed
            before = os.fstat(out.fileno()).st_size
            write_whole(out, line)
    except OSError:
        if before is not None:
            _take_back(file, before)
        raise
    if new:
        sync_folder(file.parent)


def _take_back(file: Path, before: int) -> None:
    """A full disk takes a part of a line."""
    with contextlib.suppress(OSError):  # whole_lines leaves out what is cut off
        if before:
            os.truncate(file, before)
        else:
            file.unlink()


def write_whole(file: io.FileIO, content: bytes) -> None:
    """Write all of it, which one call need not do, and sync, where what is mounted can. Raises OSError."""
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in _NO_SYNCING:
            raise


def whole_lines(file: Path) -> bytes:
    """The file up to its last line's end: a kill may have cut off what follows."""
    content = file.read_bytes()
    return content[: content.rfind(b"\n") + 1]


def replace(file: Path, content: bytes) -> None:
    """Give the file this content, in one step."""
    temporary = file.with_name(f".{file.name}.new")
    with temporary.open("wb", buffering=0) as out:
        write_whole(out, content)
    temporary.replace(file)
    sync_folder(file.parent)


def sync_folder(folder: Path) -> None:
    """Sync names, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
