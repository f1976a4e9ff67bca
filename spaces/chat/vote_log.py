"""Votes on disk and on the Hub: each is appended and synced before its labeller is thanked, then pushed in the background.

    log = VoteLog(folder, dataset="org/name-votes")
    log.start();  log.append(vote);  log.earlier();  log.stop()

A kill loses at most the vote that is being written. What was not pushed is pushed at the next start, from the same folder. Each
start writes a file of its own, so no file has two writers. Who is named in the dataset's forgotten.json leaves this folder, too.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import CommitOperationAdd, create_commit
from huggingface_hub.errors import HfHubHTTPError
from vote_dataset import (
    FORGOTTEN,
    SALT_MARK,
    Withheld,
    checked_id,
    forgotten_in,
    forgotten_of,
    private_head,
    salt_is_told,
    votes_elsewhere,
)
from vote_files import TAKES_NO_MORE, append_line, replace, whole_lines

SECONDS_BETWEEN_PUSHES = 30.0  # the Hub takes 128 commits an hour
SECONDS_BETWEEN_LOOKS = 600.0  # for deletion requests, while nobody votes
PUSHED = "pushed.json"  # how many bytes of each file stand in the dataset
OWN_FILES = "????????T??????-????????.jsonl"  # whatever else lies in the folder is not pushed
PERSISTENT = Path("/data")  # where a Space's persistent disk, or a storage bucket, is mounted where it has one
Vote = dict[str, Any]


class VoteLog:
    """The folder of votes and the dataset repository that they go to; None where they stay on this machine.

    `salt_mark` (vote_dataset.mark_of) is kept with the dataset, where labellers come back and must stay who they were. Raises
    Unavailable where the dataset's id is none.
    """

    def __init__(
        self,
        folder: Path,
        dataset: str | None,
        seconds_between_pushes: float = SECONDS_BETWEEN_PUSHES,
        salt_mark: str | None = None,
    ) -> None:
        self.folder, self._seconds, self._salt_mark = folder, seconds_between_pushes, salt_mark
        self.dataset = None if dataset is None else checked_id(dataset)
        self.problem = ""  # why the last push failed
        self.withheld = ""  # why votes must not go into the dataset as it is, in words for the page
        self.unwritten = ""  # why the last vote could not be written
        self.forgotten: set[str] = set()  # labellers who asked for deletion, as known at the start and at each push
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / _new_name()
        self._writing = threading.Lock()
        self._pushing = threading.Lock()
        self._wake, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._looked = -SECONDS_BETWEEN_LOOKS  # when the dataset was asked last

    def append(self, vote: Vote) -> None:
        """Write the vote as one line; when this returns it is on the disk. Raises OSError, and leaves nothing, else."""
        line = (json.dumps(vote, ensure_ascii=False, sort_keys=True) + "\n").encode()
        with self._writing:
            try:
                self._append(line)
                self.unwritten = ""
            except OSError as error:
                self.unwritten = _reason(error)
                print(
                    f"error: a vote could not be written, and its labeller was told: {self.unwritten}",
                    file=sys.stderr,
                    flush=True,
                )
                raise
        self._wake.set()

    def _append(self, line: bytes) -> None:
        try:
            append_line(self.file, line)
        except OSError as error:
            self.file = self.folder / _new_name()  # else the next vote could be glued to what is left of this one
            if error.errno not in TAKES_NO_MORE:
                raise
            append_line(self.file, line)

    def earlier(self) -> list[Vote]:
        """Every vote that is known: of this folder, and of the dataset where it can be read; each once, and no forgotten one.

        Raises Withheld where the dataset's labellers were hashed with another salt, ValueError where a forgotten.json is none.
        """
        self.forgotten = self.forgotten | self._forgotten_beside()
        found = {vote["vote_id"]: vote for file in self._files() for vote in _votes(whole_lines(file))}
        for content in self._pushed_elsewhere():
            found |= {vote["vote_id"]: vote for vote in _votes(content)}
        return [vote for vote in found.values() if vote.get("labeller") not in self.forgotten]

    def unpushed(self) -> int:
        """How many votes are not in the dataset yet."""
        if self.dataset is None:
            return 0
        pushed = self._pushed()
        return sum(whole_lines(file)[pushed.get(file.name, 0) :].count(b"\n") for file in self._files())

    def health(self) -> dict[str, Any]:
        """How many votes are not in the dataset yet, None where the folder cannot be read; and what fails."""
        try:
            return {"unpushed": self.unpushed(), "problem": self.unwritten or self.problem}
        except OSError as error:
            return {"unpushed": None, "problem": _reason(error)}

    def start(self) -> None:
        """Push in the background from now on, what earlier runs left first."""
        if self.dataset is not None:
            self._wake.set()
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Push what is left, and end."""
        if self._thread is not None:
            self._ending.set()
            self._wake.set()
            self._thread.join(timeout=20)

    def push(self) -> None:
        """Every line that the dataset lacks, in one commit on top of the newest; and what it says of deletions, to this folder.

        Raises what the Hub's client raises, Withheld where votes must not go there, ValueError where its forgotten.json is none.
        """
        assert self.dataset is not None
        with self._pushing:
            if not self._new() and clock() - self._looked < SECONDS_BETWEEN_LOOKS:
                return
            # At the start too: a dataset that this token may not make is named before there is a vote to lose.
            parent = private_head(self.dataset)
            self._forget(forgotten_in(self.dataset, parent))
            told = self._salt_mark is None or salt_is_told(self.dataset, parent, self._salt_mark)
            self._looked = clock()
            new = self._new()
            operations = [CommitOperationAdd(f"votes/{file.name}", content) for file, content in new.items() if content]
            if operations:
                if not told:
                    operations.append(CommitOperationAdd(SALT_MARK, f"{self._salt_mark}\n".encode()))
                # On top of the commit whose forgotten.json was read: a deletion request in between refuses this commit.
                create_commit(
                    self.dataset,
                    operations,
                    commit_message=f"Votes of {', '.join(file.stem for file in new)}",
                    repo_type="dataset",
                    parent_commit=parent,
                )
            if new:
                self._write_pushed(self._pushed() | {file.name: len(content) for file, content in new.items()})

    def _run(self) -> None:
        while True:
            self._wake.wait(SECONDS_BETWEEN_LOOKS)
            self._wake.clear()
            last = self._ending.is_set()  # asked before the push, which then holds all that was written
            try:
                self.push()
                self.problem = self.withheld = ""
            # Whatever it is: without this thread no vote would be pushed, and nobody be told.
            except Exception as error:  # noqa: BLE001
                self.withheld = str(error) if isinstance(error, Withheld) else ""
                self.problem = _reason(error)
                if not isinstance(error, (Withheld, HfHubHTTPError, httpx2.HTTPError, OSError)):
                    traceback.print_exc()
                print(
                    f"error: votes are kept in {self.folder} and not pushed: {self.problem}",
                    file=sys.stderr,
                    flush=True,
                )
                self._wake.set()
            if last:
                return
            self._ending.wait(self._seconds)

    def _new(self) -> dict[Path, bytes]:
        """The files with lines that the dataset lacks, whole."""
        pushed = self._pushed()
        contents = {file: whole_lines(file) for file in self._files()}
        return {file: content for file, content in contents.items() if len(content) != pushed.get(file.name, 0)}

    def _forget(self, labellers: set[str]) -> None:
        """Take the votes of these labellers, and of those who were named before, out of every file, and keep their names beside."""
        self.forgotten = self.forgotten | self._forgotten_beside() | labellers
        if not self.forgotten:
            return
        for file in self._files():
            with self._writing:
                lines = whole_lines(file).splitlines(keepends=True)
                kept = [line for line in lines if json.loads(line).get("labeller") not in self.forgotten]
                if len(kept) == len(lines):
                    continue
                replace(file, b"".join(kept))
            # A kill here leaves a file of another length than was pushed: it is sent again, and the dataset has it already.
            pushed = self._pushed()
            there, left = pushed.get(file.name, 0), set(kept)
            before = b"".join(lines)[:there].splitlines(keepends=True)
            self._write_pushed(pushed | {file.name: sum(len(line) for line in before if line in left)})
        if self.forgotten != self._forgotten_beside():
            replace(self.folder / FORGOTTEN, json.dumps(sorted(self.forgotten)).encode())

    def _forgotten_beside(self) -> set[str]:
        beside = self.folder / FORGOTTEN
        return forgotten_of(beside.read_bytes(), f"{FORGOTTEN} beside the votes") if beside.is_file() else set()

    def _pushed_elsewhere(self) -> list[bytes]:
        if self.dataset is None:
            return []
        try:
            if self._salt_mark is not None:
                salt_is_told(self.dataset, None, self._salt_mark)
            self.forgotten = self.forgotten | forgotten_in(self.dataset, None)
            return votes_elsewhere(self.dataset, {file.name for file in self._files()})
        except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
            # A labeller may then see a pair twice; the analysis counts the first vote only.
            print(
                f"warning: votes in {self.dataset} cannot be read yet: {type(error).__name__}",
                file=sys.stderr,
                flush=True,
            )
            return []

    def _files(self) -> list[Path]:
        # Not by glob, which finds nothing where the folder is gone, as a bucket's is that is mounted no more.
        return sorted(file for file in self.folder.iterdir() if file.match(OWN_FILES))

    def _pushed(self) -> dict[str, int]:
        file = self.folder / PUSHED
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    def _write_pushed(self, pushed: dict[str, int]) -> None:
        replace(self.folder / PUSHED, json.dumps(pushed).encode())


def salt_of(folder: Path) -> bytes:
    """The secret that labellers' codes are hashed with: LABELLER_SALT, else drawn once and kept beside the votes."""
    given = os.environ.get("LABELLER_SALT")
    if given:
        return given.encode()
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "salt"
    if not file.is_file():
        replace(file, secrets.token_hex(32).encode())
        file.chmod(0o600)
    return file.read_bytes()


def votes_folder(beside: Path) -> Path:
    """VOTES_DIR, else a Space's mounted disk or bucket where it has one that can be written, else a folder beside the app."""
    given = os.environ.get("VOTES_DIR")
    if given:
        return Path(given)
    if os.access(PERSISTENT, os.W_OK):
        return PERSISTENT / "votes"
    if PERSISTENT.is_mount():
        print(
            f"warning: {PERSISTENT} is mounted and cannot be written to: votes are kept in {beside}",
            file=sys.stderr,
            flush=True,
        )
    return beside / "votes"


def _new_name() -> str:
    """By when the file began, to 15 microseconds, so that names are in the order of votes; and two bytes against another page."""
    began = datetime.datetime.now(datetime.UTC)
    return f"{began:%Y%m%dT%H%M%S}-{began.microsecond * 65536 // 1_000_000:04x}{secrets.token_hex(2)}.jsonl"


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def clock() -> float:
    return time.monotonic()


def _votes(content: bytes) -> list[Vote]:
    return [json.loads(line) for line in content.splitlines() if line.strip()]


def _reason(error: Exception) -> str:
    """Why a push failed, in a line: of a Hub's refusal its status and words, for the exception's first line is a request id."""
    if isinstance(error, HfHubHTTPError):
        said = error.server_message or error.response.reason_phrase
        return f"{type(error).__name__}: status {error.response.status_code}, {said}"
    if isinstance(error, Withheld):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"  # without the path: anybody may ask for the page's health
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
