"""Records: closed, typed JSON files that are written last and whole, so that to exist is to be complete.

class RunRecord(Record): ...
record.write(Path("runs/a/run.json"));  RunRecord.read(Path("runs/a/run.json"))
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from training.errors import UsageError


def is_none(value: Any) -> bool:
    """For `Field(exclude_if=is_none)`: a field that came later is left out of the JSON where it says nothing.

    So the digest of an older record stays what it was.
    """
    return value is None


class Record(BaseModel):
    """Base of everything that is written as JSON: unknown keys are refused, values are not changed after creation."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a record. Raises UsageError naming the file and the first field that is not as it must be."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as error:
            raise UsageError(f"there is no {path.name} here", where=str(path.parent)) from error
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(
                f"{path.name} is not a valid {cls.__name__}",
                where=f"{path}, field {'.'.join(str(part) for part in first['loc']) or '(top)'}",
                expected=first["msg"],
                found=repr(first.get("input"))[:120],
            ) from error

    def to_json(self) -> bytes:
        """Canonical bytes: sorted keys, two spaces, one newline at the end; equal values give equal bytes."""
        return canonical_json(self.model_dump(mode="json"))

    def content_digest(self) -> str:
        """`sha256:` and the SHA-256 of the canonical bytes."""
        return f"sha256:{hashlib.sha256(self.to_json()).hexdigest()}"

    def write(self, path: Path) -> None:
        """Write by atomic rename: a reader, or a kill at any moment, finds the old file, the new one, or none."""
        write_atomically(path, self.to_json())


def canonical_json(value: Any) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path`, fsync it, rename it over `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes files that only their owner can read; a record is an ordinary file.
        os.chmod(temporary, 0o644)  # noqa: PTH101
        os.replace(temporary, path)  # noqa: PTH105
    except BaseException:  # an interruption too: what was not renamed must not stay; it is raised again
        Path(temporary).unlink(missing_ok=True)
        raise


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
