"""Rows as they stand in their source: the starter set, a JSON or JSON Lines file, or whatever `datasets` loads.

rows, revision, license_id = read_rows(settings, settings.split, "preferences.jsonl")
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from training.errors import HubError, UsageError
from training.pretrained import endpoint
from training.recipe import DataSettings

STARTER = Path(__file__).parent / "starter"


def read_rows(
    settings: DataSettings, split: str, starter_file: str
) -> tuple[list[dict[str, Any]], str | None, str | None]:
    """The rows of a split, the revision they stand at, and their licence where it is known."""
    if settings.source == "starter":
        lines = (STARTER / starter_file).read_text(encoding="utf-8").splitlines()
        rows = [json.loads(line) for line in lines if line.strip()]
        if starter_file == "prompts.jsonl":
            rows = [row for row in rows if row["split"] == split]
        return rows, None, "apache-2.0"
    path = Path(settings.source).expanduser()
    if path.suffix in (".jsonl", ".json") and path.is_file():
        return _json_rows(path), None, None
    if path.exists():
        return _dataset_rows(str(path), settings, split), None, None
    if path.suffix in (".jsonl", ".json", ".parquet", ".csv") or settings.source.count("/") > 1:
        raise UsageError("there is no such data file or directory", where=settings.source)
    revision = _hub_revision(settings.source)
    return _dataset_rows(settings.source, settings, split, revision), revision, None


def _json_rows(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise UsageError("not valid JSON", where=f"{path}, line {error.lineno}", found=error.msg) from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UsageError("the file must hold a list of objects", where=str(path))
        return rows
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UsageError("not valid JSON", where=f"{path}, line {number}", found=line[:120]) from error
        if not isinstance(row, dict):
            raise UsageError("each line must be an object", where=f"{path}, line {number}", found=line[:120])
        rows.append(row)
    return rows


def _dataset_rows(source: str, settings: DataSettings, split: str, revision: str | None = None) -> list[dict[str, Any]]:
    from datasets import load_dataset

    options = {"name": settings.name, "data_dir": settings.data_dir, "revision": revision}
    try:
        dataset = load_dataset(
            source.partition("@")[0], split=split, **{key: value for key, value in options.items() if value is not None}
        )
    except ValueError as error:  # an unknown split or configuration; datasets' message lists the known ones
        raise UsageError("the dataset has no such split or configuration", where=source, found=str(error)) from error
    return [dict(row) for row in dataset]


def _hub_revision(source: str) -> str | None:
    """The commit that a dataset's revision stands at now, so that the run record names it."""
    from huggingface_hub import dataset_info
    from huggingface_hub.errors import HfHubHTTPError

    repo_id, _, revision = source.partition("@")
    try:
        return dataset_info(repo_id, revision=revision or None).sha
    except HfHubHTTPError as error:
        raise HubError(
            "the Hub does not give this dataset",
            where=endpoint(),
            found=str(error).splitlines()[0],
            next_step="check the id; a private or gated dataset needs HF_TOKEN",
        ) from error
    except OSError as error:
        raise HubError(
            "the Hub cannot be reached",
            where=endpoint(),
            found=f"{type(error).__name__} for {source}",
            next_step="check HF_ENDPOINT",
        ) from error
