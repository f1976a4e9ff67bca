"""Preference pairs and prompts, from the Hub or from files, in the formats that people have.

Recognised: TRL's explicit prompt {prompt, chosen, rejected} and implicit prompt {chosen, rejected}, each plain or
conversational; Anthropic's hh-rlhf text ("\\n\\nHuman: ... \\n\\nAssistant: ..."); prompts as {prompt} or {messages}.
All become lists of messages; a row of no known format is shown in the error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeGuard, TypeVar

from training.errors import HubError, UsageError
from training.pretrained import endpoint
from training.recipe import DataSettings
from training.run_record import DataSource, FeedbackSource

Message = dict[str, str]
Messages = list[Message]

STARTER = Path(__file__).parent / "starter"
PREFERENCE_FORMATS = "{prompt, chosen, rejected}, {chosen, rejected} (messages or hh-rlhf text)"
HH_TURN = re.compile(r"\n\n(Human|Assistant):")
HH_ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Conversation:
    """A conversation up to the user's turn: what every kind of row begins with."""

    prompt: Messages
    repeats_count: ClassVar[bool] = False  # whether an exact repeat says something that the first one did not

    def flaw(self) -> str | None:
        """Why nothing can be learned from this row, or None where something can."""
        return None


@dataclass(frozen=True)
class Preference(Conversation):
    """Two answers of which people preferred the first."""

    chosen: str
    rejected: str

    def flaw(self) -> str | None:
        if not (self.chosen.strip() and self.rejected.strip()):
            return "empty answer"
        return "both answers are the same" if self.chosen == self.rejected else None


@dataclass(frozen=True)
class Prompt(Conversation):
    """Nothing but the conversation: the model answers."""


Row = TypeVar("Row", bound=Conversation)


@dataclass(frozen=True)
class Data:
    """Rows to train on and rows held out, with where they came from."""

    train: list[Any]
    heldout: list[Any]
    source: DataSource


def load_preferences(settings: DataSettings, seed: int) -> Data:
    """Read preference pairs. Raises UsageError showing the first row of no known format."""
    return load_rows(settings, seed, "preferences.jsonl", as_preference, PREFERENCE_FORMATS)


def load_prompts(settings: DataSettings, seed: int) -> Data:
    """Read prompts; of preference pairs, their prompts."""
    return load_rows(settings, seed, "prompts.jsonl", as_prompt, f"{{prompt}}, {{messages}}, {PREFERENCE_FORMATS}")


def as_preference(row: dict[str, Any]) -> Preference | None:
    """The row as a preference pair, or None where it is in no known format."""
    chosen, rejected, prompt = row.get("chosen"), row.get("rejected"), row.get("prompt")
    if isinstance(chosen, str) and isinstance(rejected, str):
        if isinstance(prompt, str):
            return _pair([{"role": "user", "content": prompt}], chosen, rejected)
        if is_messages(prompt):
            return _pair(prompt, chosen, rejected)
        chosen_messages, rejected_messages = hh_messages(chosen), hh_messages(rejected)
        if chosen_messages and rejected_messages:
            return _implicit(chosen_messages, rejected_messages)
        return None
    if is_messages(chosen) and is_messages(rejected):
        if is_messages(prompt):
            if len(chosen) == len(rejected) == 1:
                return _pair(prompt, chosen[0]["content"], rejected[0]["content"])
            return None
        return _implicit(chosen, rejected)
    return None


def as_prompt(row: dict[str, Any]) -> Prompt | None:
    """The row's prompt, or None where it is in no known format."""
    for key in ("prompt", "messages"):
        value = row.get(key)
        if isinstance(value, str) and value.strip():
            return Prompt([{"role": "user", "content": value}])
        if is_messages(value):
            until = len(value) - 1 if value[-1]["role"] == "assistant" else len(value)
            return Prompt(value[:until]) if until else None
    pair = as_preference(row)
    return Prompt(pair.prompt) if pair else None


def hh_messages(text: str) -> Messages | None:
    """hh-rlhf's text as messages, or None where it is not that. Two turns of one role in a row are joined, as it has."""
    parts = HH_TURN.split(text)
    if len(parts) < 3 or parts[0].strip():
        return None
    messages: Messages = []
    for role, content in zip(parts[1::2], parts[2::2], strict=True):
        if messages and messages[-1]["role"] == HH_ROLES[role]:
            messages[-1]["content"] += "\n\n" + content.strip()
        else:
            messages.append({"role": HH_ROLES[role], "content": content.strip()})
    return messages


def content_sha256(rows: Iterable[Conversation]) -> str:
    """The hash of the rows as they were used, in order, whatever format they came in."""
    hasher = hashlib.sha256()
    for row in rows:
        hasher.update(json.dumps(vars(row), sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return hasher.hexdigest()


def load_rows(
    settings: DataSettings, seed: int, starter_file: str, convert: Callable[[dict[str, Any]], Row | None], formats: str
) -> Data:
    """Rows converted and held out; `formats` names those that `convert` knows, for the error that shows another."""
    raw, revision, license_id = _rows(settings, settings.split, starter_file)
    train, dropped = _convert(raw, settings.source, convert, formats)
    if settings.heldout_split is not None:
        raw_heldout, _, _ = _rows(settings, settings.heldout_split, starter_file)
        heldout, more_dropped = _convert(raw_heldout, settings.source, convert, formats)
        dropped = dict(Counter(dropped) + Counter(more_dropped))
    else:
        random.Random(seed).shuffle(train)
        cut = len(train) - round(len(train) * settings.heldout_fraction)
        train, heldout = train[:cut], train[cut:]
    train = [_with_system(row, settings.system) for row in train[: settings.limit]]
    heldout = [_with_system(row, settings.system) for row in heldout[: settings.heldout_limit]]
    if not train:
        raise UsageError(
            "no rows are left to train on",
            where=settings.source,
            found=f"{len(raw)} rows read, all dropped or held out",
        )
    return Data(
        train,
        heldout,
        DataSource(
            id=settings.source,
            revision=revision,
            split=settings.split,
            sha256=content_sha256(train),
            rows=len(train),
            rows_dropped=sum(dropped.values()),
            why_dropped=dropped,
            license=license_id,
            feedback=_feedback(settings.source),
        ),
    )


def _feedback(source: str) -> FeedbackSource | None:
    """The votes that local data was made from, where it was."""
    from training.feedback_record import feedback_source

    path = Path(source).expanduser()
    return feedback_source(path) if path.exists() else None


def _convert(
    raw: list[dict[str, Any]], source: str, convert: Callable[[dict[str, Any]], Row | None], formats: str
) -> tuple[list[Row], dict[str, int]]:
    """Every row converted; empty answers and exact repeats are dropped and counted."""
    rows: list[Row] = []
    seen: set[str] = set()
    dropped: dict[str, int] = {}
    for number, raw_row in enumerate(raw, 1):
        row = convert(raw_row)
        if row is None:
            raise UsageError(
                "this row is in no known format",
                where=f"{source}, row {number}",
                expected=formats,
                found=json.dumps(raw_row, ensure_ascii=False, default=str)[:300],
                next_step="rename or convert the columns to one of these",
            )
        key = json.dumps(vars(row), sort_keys=True)
        why = row.flaw() or ("exact repeat" if key in seen and not row.repeats_count else None)
        if why:
            dropped[why] = dropped.get(why, 0) + 1
        else:
            seen.add(key)
            rows.append(row)
    return rows, dropped


def _with_system(row: Row, system: str | None) -> Row:
    """The row with a system message first, where one is given and it has none."""
    if system is None or row.prompt[0]["role"] == "system":
        return row
    return dataclasses.replace(row, prompt=[{"role": "system", "content": system}, *row.prompt])


def _rows(settings: DataSettings, split: str, starter_file: str) -> tuple[list[dict[str, Any]], str | None, str | None]:
    """The raw rows, the revision they stand at, and their licence where it is known."""
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


def _pair(prompt: Messages, chosen: str, rejected: str) -> Preference | None:
    return Preference(plain(prompt), chosen, rejected) if prompt and prompt[-1]["role"] == "user" else None


def _implicit(chosen: Messages, rejected: Messages) -> Preference | None:
    """The prompt is what both conversations share; what follows must be one answer each."""
    if len(chosen) < 2 or len(rejected) < 2 or chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        return None
    # hh-rlhf has a few pairs whose earlier turns differ; there the preferred conversation's are the prompt.
    return _pair(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"])


def plain(messages: Messages) -> Messages:
    """Messages with their role and content only."""
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def is_messages(value: Any) -> TypeGuard[Messages]:
    """Whether the value is a list of {role, content} with texts, at least one."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(message, dict)
            and isinstance(message.get("content"), str)
            and isinstance(message.get("role"), str)
            for message in value
        )
    )
