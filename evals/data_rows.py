"""The rows of a task's own data file, checked one by one, so that a fault is named by its line and not by a library.

check_rows(Path("mine.jsonl"), "mine")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.errors import UsageError

KINDS = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


def check_rows(file: Path, task: str) -> None:
    """Raise UsageError with the line where a JSON Lines file is not one object a line, or where a field changes its type.

    A field that is absent or null in some rows is allowed here: whether it is needed, the prompt decides.
    """
    if not file.is_file():
        raise UsageError(
            f"the data of the task {task} are not there",
            where=str(file),
            expected="a .jsonl file, found from the folder of the task's file",
            found="a folder" if file.is_dir() else "no such file",
            next_step="correct data_files in the task's file, or put the data there",
        )
    if file.suffix != ".jsonl":
        return
    seen: dict[str, tuple[str, int]] = {}
    rows = 0
    for number, line in enumerate(file.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        for name, value in _row(line, f"{file}, line {number}", task).items():
            kind = KINDS.get(type(value))
            first = seen.setdefault(name, (kind, number)) if kind else None
            if first and first[0] != kind:
                raise UsageError(
                    f"the field '{name}' changes its type within the data of {task}",
                    where=f"{file}, line {number}",
                    expected=f"{first[0]}, as in line {first[1]}",
                    found=json.dumps(value, ensure_ascii=False)[:120],
                    next_step="give the field one type in all rows",
                )
        rows += 1
    if not rows:
        raise UsageError(
            f"the data of the task {task} have no rows",
            where=str(file),
            expected="one JSON object a line",
            found=f"{file.stat().st_size} bytes",
            next_step="put the items into the file, or leave the task out",
        )


def _row(line: bytes, where: str, task: str) -> dict[str, Any]:
    try:
        row = json.loads(line.decode())
    except ValueError as error:
        raise UsageError(
            f"a row of the data of {task} is not {'UTF-8' if isinstance(error, UnicodeDecodeError) else 'valid JSON'}",
            where=where,
            expected="one JSON object a line, in UTF-8",
            found=f"{line[:60].decode(errors='replace')} ({error})",
            next_step="correct the line",
        ) from error
    if not isinstance(row, dict):
        raise UsageError(
            f"a row of the data of {task} is not an object",
            where=where,
            expected='{"field": value, ...}',
            found=line[:80].decode(errors="replace"),
            next_step="correct the line",
        )
    return row
