"""Votes on disk and on the Hub: each is appended and synced before its labeller is thanked, then pushed in the background.

    log = VoteLog(folder, dataset="org/name-votes")
    log.start();  log.append(vote);  log.earlier();  log.stop()

A kill loses at most the vote that is being written. What was not pushed is pushed at the next start, from the same folder. Each
start writes a file of its own, so no file has two writers. A labeller named in the dataset's forgotten.json is never pushed again.
"""

from __future__ import annotations

import datetime
import json
import os
import secrets
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
from huggingface_hub import (
    CommitOperationAdd,
    create_commit,
    create_repo,
    dataset_info,
    hf_hub_download,
    list_repo_files,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from vote_files import TAKES_NO_MORE, append_line, replace, whole_lines

SECONDS_BETWEEN_PUSHES = 30.0  # the Hub takes 128 commits an hour
FORGOTTEN = "forgotten.json"
PUSHED = "pushed.json"  # how many bytes of each file stand in the dataset
OWN_FILES = "????????T??????-????????.jsonl"  # whatever else lies in the folder is not pushed
PERSISTENT = Path("/data")  # where a Space's persistent disk, or a storage bucket, is mounted where it has one
Vote = dict[str, Any]


class VoteLog:
    """The folder of votes and the dataset repository that they go to; None where they stay on this machine."""

    def __init__(
        self, folder: Path, dataset: str | None, seconds_between_pushes: float = SECONDS_BETWEEN_PUSHES
    ) -> None:
        self.folder, self.dataset, self._seconds = folder, dataset, seconds_between_pushes
        self.problem = ""  # why the last push failed
        self.unwritten = ""  # why the last vote could not be written
        self.forgotten: set[str] = set()  # labellers who asked for deletion, as known at the start and at each push
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / _new_name()
        self._writing = threading.Lock()
        self._pushing = threading.Lock()
        self._wake, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._there = False  # the dataset, as far as this run has asked

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
        """Every vote that is known: of this folder, and of the dataset where it can be read; each once."""
        beside = self.folder / FORGOTTEN
        if beside.is_file():
            self.forgotten |= set(json.loads(beside.read_text(encoding="utf-8")))
        found = {vote["vote_id"]: vote for file in self._files() for vote in _votes(whole_lines(file))}
        for content in self._pushed_elsewhere():
            found |= {vote["vote_id"]: vote for vote in _votes(content)}
        return list(found.values())

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
        """Every line that the dataset lacks, in one commit on top of the newest. Raises what the Hub's client raises."""
        assert self.dataset is not None
        with self._pushing:
            pushed = self._pushed()
            contents = {file: whole_lines(file) for file in self._files()}
            new = {file: content for file, content in contents.items() if len(content) != pushed.get(file.name, 0)}
            if self._there and not new:
                return
            # At the start too: a dataset that this token may not make is named before there is a vote to lose.
            create_repo(self.dataset, repo_type="dataset", private=True, exist_ok=True)
            self._there = True
            if not new:
                return
            parent = dataset_info(self.dataset).sha
            forgotten = self._forgotten(parent)
            self.forgotten = self.forgotten | forgotten
            if forgotten:
                new = {file: self._without(file, forgotten) for file in new}
            operations = [CommitOperationAdd(f"votes/{file.name}", content) for file, content in new.items() if content]
            if operations:
                # On top of the commit whose forgotten.json was read: a deletion request in between refuses this commit.
                create_commit(
                    self.dataset,
                    operations,
                    commit_message=f"Votes of {', '.join(file.stem for file in new)}",
                    repo_type="dataset",
                    parent_commit=parent,
                )
            self._write_pushed(pushed | {file.name: len(content) for file, content in new.items()})

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            last = self._ending.is_set()  # asked before the push, which then holds all that was written
            try:
                self.push()
                self.problem = ""
            except (HfHubHTTPError, httpx2.HTTPError, OSError) as error:
                self.problem = _reason(error)
                print(
                    f"error: votes are kept in {self.folder} and not pushed: {self.problem}",
                    file=sys.stderr,
                    flush=True,
                )
                self._wake.set()
            if last:
                return
            self._ending.wait(self._seconds)

    def _forgotten(self, revision: str | None) -> set[str]:
        assert self.dataset is not None
        try:
            file = hf_hub_download(self.dataset, FORGOTTEN, repo_type="dataset", revision=revision)
        except LocalEntryNotFoundError:  # the Hub could not be asked; this is an EntryNotFoundError too
            raise
        except EntryNotFoundError:
            return set()
        return set(json.loads(Path(file).read_text(encoding="utf-8")))

    def _without(self, file: Path, forgotten: set[str]) -> bytes:
        """Rewrite the file without these labellers' votes, and give what is left."""
        with self._writing:
            kept = [
                line
                for line in whole_lines(file).splitlines(keepends=True)
                if json.loads(line)["labeller"] not in forgotten
            ]
            content = b"".join(kept)
            replace(file, content)
        return content

    def _pushed_elsewhere(self) -> list[bytes]:
        if self.dataset is None:
            return []
        try:
            here = {file.name for file in self._files()}
            there = [
                path
                for path in list_repo_files(self.dataset, repo_type="dataset")
                if path.startswith("votes/") and path.endswith(".jsonl") and Path(path).name not in here
            ]
            self.forgotten = self.forgotten | self._forgotten(None)
            return [Path(hf_hub_download(self.dataset, path, repo_type="dataset")).read_bytes() for path in there]
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
    if isinstance(error, OSError) and error.strerror:
        return f"{type(error).__name__}: {error.strerror}"  # without the path: anybody may ask for the page's health
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
