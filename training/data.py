"""Preference pairs and prompts, from the Hub or from files, in the formats that people have.

Recognised: TRL's explicit prompt {prompt, chosen, rejected} and implicit prompt {chosen, rejected}, each plain or
conversational; Anthropic's hh-rlhf text ("\\n\\nHuman: ... \\n\\nAssistant: ..."); prompts as {prompt} or {messages}; and the
columns of data_formats.py. All become lists of messages; a row of no known format is shown in the error.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeGuard, TypeVar

from training.command import log
from training.counted import counted
from training.data_checks import hold_out, row_key, without_leaks
from training.data_formats import FOREIGN_FORMATS, in_known_columns, native_format
from training.data_summary import described
from training.errors import UsageError
from training.raw_rows import no_rows, read_rows
from training.recipe import DataSettings
from training.row_cleaning import EMPTY, cleaned, lacks_its_answer
from training.run_record import DataSource
from training.transcripts import hh_messages

Message = dict[str, str]
Messages = list[Message]

PREFERENCE_FORMATS = f"{{prompt, chosen, rejected}}, {{chosen, rejected}} (messages or hh-rlhf text), {FOREIGN_FORMATS}"
LEAKED = "its prompt is trained on"
ROLES = ("system", "developer", "user", "assistant")
HALF = "half of a character (a lone surrogate)"


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

    def flaw(self) -> str | None:
        last = self.prompt[-1]
        if last["role"] != "user":
            return "it does not end with the user's turn"
        return None if last["content"].strip() else "empty prompt"


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
        if isinstance(value, str):
            return Prompt([{"role": "user", "content": value}])
        if is_messages(value):
            until = len(value) - 1 if value[-1]["role"] == "assistant" else len(value)
            return Prompt(plain(value[:until])) if until else None
    pair = as_preference(row)
    return Prompt(pair.prompt) if pair else None


def content_sha256(rows: Iterable[Conversation]) -> str:
    """The hash of the rows as they were used, in order, whatever format they came in."""
    hasher = hashlib.sha256()
    for row in rows:
        hasher.update(json.dumps(vars(row), sort_keys=True, ensure_ascii=False).encode() + b"\n")
    return hasher.hexdigest()


def replaced(data: Data, train: Sequence[Conversation], heldout: Sequence[Conversation]) -> Data:
    """The data with other rows made of its own, and with their number and hashes in its source."""
    hashes = {
        "sha256": content_sha256(train),
        "heldout_sha256": content_sha256(heldout) if heldout else None,
    }
    source = data.source.model_copy(update={"rows": len(train), **hashes})
    return Data(list(train), list(heldout), source)


def load_rows(
    settings: DataSettings, seed: int, starter_file: str, convert: Callable[[dict[str, Any]], Row | None], formats: str
) -> Data:
    """Rows converted, checked and held out, and told of in one line on stderr.

    `formats` names those that `convert` knows, for the error that shows a row of another. Dropped and counted are empty
    answers, repeats, and held-out rows whose prompt is trained on, unless the recipe holds out the very split that it trains on.
    """
    raw, revision, license_id = read_rows(settings, settings.split, starter_file)
    read = _convert(raw, settings.source, convert, formats)
    rows, dropped = read.rows, read.dropped
    heldout_dropped: Counter[str] = Counter()
    if settings.heldout_split is not None:
        raw_heldout, _, _ = read_rows(settings, settings.heldout_split, starter_file)
        more = _convert(raw_heldout, settings.source, convert, formats)
        heldout, heldout_dropped = more.rows, more.dropped
        train = rows[: settings.limit]
        if settings.heldout_split != settings.split:
            heldout, heldout_dropped[LEAKED] = without_leaks(train, heldout, settings)
    else:
        random.Random(seed).shuffle(rows)
        count = round(len(rows) * settings.heldout_fraction)
        train, heldout = hold_out(rows, count, settings.heldout_by)
        if count and not heldout:
            log(
                f"nothing is held out of {settings.source}: rows of one {settings.heldout_by} stay on one side, and each has "
                f"more than the {count} rows to be held out; raise heldout_fraction, or name a heldout_split"
            )
        train = train[: settings.limit]
    train = [_with_system(row, settings.system) for row in train]
    heldout = [_with_system(row, settings.system) for row in heldout[: settings.heldout_limit]]
    if not train:
        if not raw:
            raise no_rows(settings.source)
        why = [f"{counted(count, 'row')} left out as {reason}" for reason, count in sorted(dropped.items())]
        raise UsageError(
            "no rows are left to train on",
            where=settings.source,
            found="; ".join([f"{counted(len(raw), 'row')} read", *why, f"{len(heldout)} held out"]),
            next_step="give it more rows" + (", or lower heldout_fraction" if heldout else ""),
        )
    source = DataSource(
        id=settings.source,
        revision=revision,
        split=settings.split,
        sha256=content_sha256(train),
        rows=len(train),
        rows_dropped=dropped.total() + heldout_dropped.total(),
        why_dropped=dict(dropped + heldout_dropped),
        formats=dict(read.formats),
        columns=read.columns,
        heldout_rows=len(heldout),
        heldout_sha256=content_sha256(heldout) if heldout else None,
        license=license_id,
        **_made_from(settings.source),
    )
    log(described(source, train[0]))
    return Data(train, heldout, source)


def _made_from(source: str) -> dict[str, Any]:
    """The votes that local data was made from, and who sampled and scored its answers, where records beside it say so."""
    from training.best_of_n_record import sampled_answers
    from training.feedback_record import feedback_source

    path = Path(source).expanduser()
    return {"feedback": feedback_source(path), "sampled": sampled_answers(path)} if path.exists() else {}


@dataclass(frozen=True)
class _Read:
    """Rows that something can be learned from, why others were dropped, and the formats and columns that they came in."""

    rows: list[Any]
    dropped: Counter[str]
    formats: Counter[str]
    columns: list[str]


def _convert(
    raw: list[dict[str, Any]], source: str, convert: Callable[[dict[str, Any]], Row | None], formats: str
) -> _Read:
    """Every row converted; empty answers and repeats are dropped and counted."""
    rows: list[Row] = []
    exact: set[str] = set()
    seen: set[str] = set()
    dropped: Counter[str] = Counter()
    found_formats: Counter[str] = Counter()
    columns: dict[str, None] = {}
    for number, raw_row in enumerate(raw, 1):
        columns.update(dict.fromkeys(raw_row))
        name, row = recognised(raw_row, convert)
        if row is None:
            raise UsageError(
                "this row is in no known format",
                where=f"{source}, row {number}",
                expected=formats,
                found=json.dumps(raw_row, ensure_ascii=False, default=str)[:300],
                next_step="rename or convert the columns to one of these",
            )
        found_formats[name] += 1
        why = row if isinstance(row, str) else row.flaw()
        if not why and not isinstance(row, str) and not row.repeats_count:
            key, said = json.dumps(vars(row), sort_keys=True), row_key(row)
            why = "exact repeat" if key in exact else "repeat but for case and spaces" if said in seen else None
            exact.add(key)
            seen.add(said)
        if why:
            dropped[why] += 1
        elif not isinstance(row, str):
            rows.append(row)
    return _Read(rows, dropped, found_formats, list(columns))


def recognised(raw: dict[str, Any], convert: Callable[[dict[str, Any]], Row | None]) -> tuple[str, Row | str | None]:
    """The format's name, and the row as `convert` reads it; a str where nothing can be made of it, None for no known format."""
    name, row = _recognised(raw, convert)
    if isinstance(row, Conversation):
        try:
            json.dumps(vars(row), ensure_ascii=False).encode()
        except UnicodeEncodeError:  # as "\\ud800" in JSON: no tokenizer reads it
            return name, HALF
    return name, row


def _recognised(raw: dict[str, Any], convert: Callable[[dict[str, Any]], Row | None]) -> tuple[str, Row | str | None]:
    whole = cleaned(raw)
    if isinstance(whole, str):
        return native_format(raw), whole
    row = convert(whole)
    if row is not None:
        return native_format(raw), row
    known = in_known_columns(whole)
    if known is None:
        return (native_format(raw), EMPTY) if lacks_its_answer(raw) else ("", None)
    name, columns = known
    return name, columns if isinstance(columns, str) else convert(columns)


def _with_system(row: Row, system: str | None) -> Row:
    """The row with a system message first, where one is given and it has none."""
    if system is None or row.prompt[0]["role"] == "system":
        return row
    return dataclasses.replace(row, prompt=[{"role": "system", "content": system}, *row.prompt])


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
    """Whether the value is a list of {role, content} with texts and roles that chat templates know, at least one."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(
            isinstance(message, dict) and isinstance(message.get("content"), str) and message.get("role") in ROLES
            for message in value
        )
    )
