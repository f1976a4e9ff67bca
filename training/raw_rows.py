"""Rows as they stand in their source: the starter set, a JSON, JSON Lines or CSV file, or whatever `datasets` loads.

rows, revision, license_id = read_rows(settings, settings.split, "preferences.jsonl")
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from training.errors import HubError, UsageError
from training.pretrained import endpoint
from training.recipe import DataSettings

STARTER = Path(__file__).parent / "starter"
FILES = {
    **{".jsonl": "our JSON", ".json": "our JSON", ".csv": "our table"},
    **{".jsonl.gz": "json", ".json.gz": "json", ".parquet": "parquet"},
}


def read_rows(
    settings: DataSettings, split: str, starter_file: str
) -> tuple[list[dict[str, Any]], str | None, str | None]:
    """The rows of a split, the revision they stand at, and their licence where it is known.

    Raises UsageError where there is no such file or split or it cannot be read, HubError where the Hub does not give it.
    """
    if settings.source == "starter":
        rows = [json.loads(line) for line in (STARTER / starter_file).read_bytes().splitlines()]
        if starter_file == "prompts.jsonl":
            rows = [row for row in rows if row["split"] == split]
        return rows, None, "apache-2.0"
    path = Path(settings.source).expanduser()
    reader = _reader(path)
    if path.is_file():
        _refuse_splits(settings, path, split)
        if reader is None:
            raise UsageError(
                "this kind of data file is not read", where=str(path), expected=", ".join(FILES), found=path.name
            )
        if reader in OWN:
            return OWN[reader](path), None, None
        return _loaded(reader, path, data_files=str(path)), None, None
    if path.exists():
        try:
            return _loaded(str(path), path, split, name=settings.name, data_dir=settings.data_dir), None, None
        except (UsageError, StopIteration) as error:  # the latter of a file that has no first row
            empty = [file for file in sorted(path.rglob("*")) if _reader(file) and file.stat().st_size == 0]
            if not empty:
                raise
            raise no_rows(", ".join(map(str, empty))) from error
    if reader is not None or settings.source.count("/") > 1:
        raise UsageError(
            "there is no such data file or directory",
            where=settings.source,
            expected="a file, a directory, or a dataset's id on the Hub (org/name)",
            next_step="correct the key source of data, prompts or ptx.data in the recipe, or in an override",
        )
    revision = _hub_revision(settings.source)
    repo_id = settings.source.partition("@")[0]
    rows = _loaded(repo_id, settings.source, split, name=settings.name, data_dir=settings.data_dir, revision=revision)
    return rows, revision, None


def no_rows(where: str) -> UsageError:
    """The error that data is there and holds nothing; of what best-of-n wrote it says why."""
    from training.best_of_n_record import PREFERENCES, RECORD

    path = Path(where).expanduser()
    chosen = path.name == PREFERENCES and (path.parent / RECORD).is_file()
    return UsageError(
        "there are no rows in this data",
        where=where,
        expected="at least one row",
        found="no prompt had two whole answers of different rewards, when best-of-n sampled them" if chosen else "none",
        next_step="sample again with another --out: a higher n or generation.max_new_tokens, or rewards that tell answers apart"
        if chosen
        else "write rows into it, or name other data in the recipe",
    )


def _reader(path: Path) -> str | None:
    """Who reads a file of this name: we ourselves, one of datasets' builders, or nobody."""
    return next((reader for suffix, reader in FILES.items() if path.name.endswith(suffix)), None)


def _refuse_splits(settings: DataSettings, file: Path, split: str) -> None:
    if split == "train" or split == settings.split == settings.heldout_split:
        return
    raise UsageError(
        "a single file has no splits",
        where=str(file),
        expected="split: train",
        found=split,
        next_step="leave heldout_split out and set heldout_fraction, or name a folder with train.jsonl and test.jsonl",
    )


def _json_rows(path: Path) -> list[dict[str, Any]]:
    text = _text(path)
    if path.suffix == ".json":
        try:
            rows = json.loads(text)
        except json.JSONDecodeError as error:
            raise UsageError("not valid JSON", where=f"{path}, line {error.lineno}", found=error.msg) from error
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UsageError("the file must hold a list of objects", where=str(path))
        return rows
    rows = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: a JSON string may hold U+2028 or U+0085
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


def _table_rows(path: Path) -> list[dict[str, Any]]:
    """A CSV file's rows. Cells are what they say: a guess at types makes numbers of answers, and nothing of None and NA."""
    reader = csv.DictReader(io.StringIO(_text(path), newline=""), strict=True)
    rows = []
    try:
        for row in reader:
            if None in row or None in row.values():  # more cells than names, or fewer
                cells = len(row) - 1 + len(row[None]) if None in row else sum(cell is not None for cell in row.values())
                raise UsageError(
                    "this row has another number of cells than the header",
                    where=f"{path}, line {reader.line_num}",
                    expected=f"{len(reader.fieldnames or [])}: {', '.join(reader.fieldnames or [])}"[:200],
                    found=str(cells),
                )
            rows.append(dict(row))
    except csv.Error as error:
        raise UsageError("not a table", where=f"{path}, line {reader.line_num}", found=str(error)) from error
    if not rows:
        raise UsageError("the table has no rows", where=str(path), expected="a header and rows below it")
    return rows


def _text(path: Path) -> str:
    """A file's text. Raises UsageError naming the line where it is not UTF-8."""
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")  # some editors begin a file with a byte order mark
    except UnicodeDecodeError as error:
        number = content.count(b"\n", 0, error.start) + 1
        raise UsageError(
            "not UTF-8", where=f"{path}, line {number}", found=f"the byte 0x{content[error.start]:02x}"
        ) from error


OWN = {"our JSON": _json_rows, "our table": _table_rows}


def _loaded(builder: str, where: str | Path, split: str = "train", **options: str | None) -> list[dict[str, Any]]:
    """What datasets.load_dataset reads."""
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        dataset = load_dataset(
            builder, split=split, **{key: value for key, value in options.items() if value is not None}
        )
        return [dict(row) for row in dataset]
    except (ConnectionError, HfHubHTTPError) as error:
        raise HubError(
            "the Hub does not give the dataset's files",
            where=endpoint(),
            found=f"{where}: {str(error).splitlines()[0]}",
            next_step="check HF_ENDPOINT and the network, then run the same command again",
        ) from error
    except (DatasetsError, EOFError, OSError) as error:
        cause = error.__cause__ or error  # "An error occurred while generating the dataset" says nothing
        raise UsageError(
            "datasets cannot read this", where=str(where), found=f"{type(cause).__name__}: {cause}"[:300]
        ) from error
    except ValueError as error:  # an unknown split or configuration; datasets' message lists the known ones
        raise UsageError(
            "the dataset has no such split or configuration, or its files are not whole",
            where=str(where),
            found=str(error),
        ) from error


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
