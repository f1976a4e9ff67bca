"""Votes: one judgement of two answers to one prompt, as a closed record, read from files or from a dataset repository.

    read = read_votes(["runs/votes", "org/name-votes@main"])
    read.votes, read.files, read.torn, read.forgotten

A file holds one vote a line. `a` stood on the left (or above, on a phone) and `b` on the right, as the page's server had drawn
them, so a record says by itself which side each answer was shown on. A labeller is a salted hash, and says whether it is a
person or a script. `forgotten.json` beside the votes lists the labellers that asked to be forgotten.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from training.errors import HubError, UsageError
from training.pretrained import HUB_ID, endpoint
from training.records import Record

Choice = Literal["a", "b", "tie", "both_bad"]
Text = Annotated[str, Field(min_length=1)]
LabellerHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
SHORT = 10  # characters of a revision or digest by which people know it
FORGOTTEN = "forgotten.json"


class Turn(Record):
    role: Literal["system", "user", "assistant"]
    content: str


class Maker(Record):
    """The checkpoint that wrote an answer."""

    repo_id: Text
    revision: str | None
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]


class Sampling(Record):
    """How an answer was drawn; temperature 0 is greedy."""

    temperature: float = Field(ge=0.0)
    top_p: float = Field(gt=0.0, le=1.0)
    max_new_tokens: int = Field(gt=0)


class Answer(Record):
    """An answer as it was shown. A gold item's answers were written, so nothing but their text is known."""

    text: Text
    maker: Maker | None = None
    sampling: Sampling | None = None
    seed: int | None = None
    runtime: str | None = None
    seconds: float | None = None  # that writing it took
    cut: bool | None = None  # whether the longest answer allowed ended it; None where nobody looked

    @property
    def key(self) -> str:
        """What tells it from any other answer to the prompt: a hash, so that its order says nothing about the answer.

        Were pairs ordered by text or model, the better answer would often be the first one, and alpha would take for
        chance what is agreement.
        """
        return _hash([self.text, self.system])

    @property
    def system(self) -> str:
        """Who wrote it, for ratings: the checkpoint, and how it was sampled."""
        if self.maker is None:
            return "written"
        at = f"@{self.maker.revision[:SHORT]}" if self.maker.revision else ""
        name = f"{self.maker.repo_id}{at} ({self.maker.digest[: len('sha256:') + SHORT]})"
        if self.sampling is None:
            return name
        drawn = f"temperature {self.sampling.temperature:g}, top-p {self.sampling.top_p:g}"
        return f"{name}, {'greedy' if self.sampling.temperature == 0 else drawn}"

    def same_system(self, other: Answer) -> bool:
        """Whether the same bytes wrote both, sampled in the same way: a copy of a checkpoint under another name is no other one."""
        if self.maker is None or other.maker is None:
            return self.maker is other.maker
        return self.maker.digest == other.maker.digest and self.sampling == other.sampling


class Vote(Record):
    """One judgement. Equal pairs have equal `pair_id`, whichever side their answers were shown on."""

    schema_version: Literal[1] = 1
    vote_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
    prompt: Annotated[list[Turn], Field(min_length=1)]
    a: Answer
    b: Answer
    choice: Choice
    reason: str | None = None
    better_answer: str | None = None
    labeller: LabellerHash
    labeller_kind: Literal["person", "script"]
    gold_id: str | None = None
    gold_choice: Choice | None = None  # the known answer, on the sides as they were shown
    consent: str | None  # the notice that the labeller agreed to, by its hash or name; None where there was none
    voted_at: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)$")]
    decision_seconds: float | None = Field(default=None, ge=0.0)  # from showing the pair to the vote

    @property
    def pair_id(self) -> str:
        return pair_id(self.prompt, self.a, self.b)

    @property
    def prompt_id(self) -> str:
        return _hash([turn.model_dump() for turn in self.prompt])

    @property
    def ordered(self) -> tuple[Answer, Answer]:
        """The two answers in an order that does not depend on the sides."""
        return (self.a, self.b) if self.a.key <= self.b.key else (self.b, self.a)

    @property
    def preferred(self) -> int | None:
        """The place in `ordered` of the answer that was preferred; None for a tie and for both bad."""
        if self.choice not in ("a", "b"):
            return None
        return int((self.choice == "a") != (self.a.key <= self.b.key))

    @property
    def verdict(self) -> str:
        """The choice on `ordered`: first, second, tie or both_bad."""
        return self.choice if self.preferred is None else ("first", "second")[self.preferred]


@dataclass(frozen=True)
class VoteFile:
    """A file of votes as it was read."""

    name: str
    sha256: str
    rows: int
    repo_id: str | None = None
    revision: str | None = None


@dataclass
class VotesRead:
    """What was read, in the order of the files."""

    votes: list[Vote] = field(default_factory=list)
    files: list[VoteFile] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)  # file and line of a last line that a kill cut off
    forgotten: set[str] = field(default_factory=set)


def pair_id(prompt: Sequence[Turn], one: Answer, other: Answer) -> str:
    """The same for a pair, whichever side its answers are on."""
    return _hash([[turn.model_dump() for turn in prompt], sorted([one.key, other.key])])


def read_votes(sources: Sequence[str]) -> VotesRead:
    """Read .jsonl files, folders of them, and dataset repositories `org/name[@revision]` at a commit.

    Raises UsageError naming file, line and field of a vote that is not as it must be, HubError where a Hub refuses.
    """
    read = VotesRead()
    for file, name, repo_id, revision in files_of_votes(sources, read):
        _read_file(file, name, read, repo_id, revision)
    return read


def files_of_votes(sources: Sequence[str], read: VotesRead) -> list[tuple[Path, str, str | None, str | None]]:
    """(file, its name, repository, commit) of every file of the sources; labellers to forget are added to `read`.

    Raises UsageError where a source is none, or where there is no file, HubError where a Hub refuses.
    """
    files: list[tuple[Path, str, str | None, str | None]] = []
    for source in sources:
        path = Path(source).expanduser()
        if path.is_file():
            for folder in (path.parent, path.parent.parent):
                read.forgotten |= forgotten_labellers(folder / FORGOTTEN)
            files.append((path, path.name, None, None))
            continue
        repo_id: str | None = None
        revision: str | None = None
        if path.is_dir():
            folder = path
        elif HUB_ID.match(source) and "/" in source and not source.endswith(".jsonl"):
            folder, revision = download_votes(source)
            repo_id = source.partition("@")[0]
        else:
            raise UsageError(
                "there are no votes of this name",
                where=source,
                expected="a .jsonl file, a folder or org/name[@revision]",
            )
        read.forgotten |= forgotten_labellers(folder / FORGOTTEN) | forgotten_labellers(folder.parent / FORGOTTEN)
        files += [(file, file.relative_to(folder).as_posix(), repo_id, revision) for file in vote_files(folder)]
    if not files and read.forgotten:
        raise UsageError(
            "no vote is left: those who gave them asked for deletion",
            where=", ".join(sources),
            found=f"{FORGOTTEN} with {len(read.forgotten)}, and no file of votes",
            next_step="gather votes of others, or name another source",
        )
    if not files:
        raise UsageError(
            "there is no file of votes",
            where=", ".join(sources),
            expected="*.jsonl, or votes/*.jsonl",
            found="none",
            next_step="gather votes (python -m training feedback-pairs), or name where they are",
        )
    return files


def forgotten_labellers(file: Path) -> set[str]:
    """The labellers that asked to be forgotten, of a `forgotten.json`; none where there is no such file."""
    if not file.is_file():
        return set()
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UsageError("not valid JSON", where=f"{file}, line {error.lineno}", found=error.msg) from error
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UsageError("must be a list of labeller hashes", where=str(file))
    return set(value)


def labeller_mark(labeller: str, digest: str) -> str:
    """By which a scorecard of the checkpoint `digest`, or a run that learned from the analysis `digest`, names a labeller.

    Both are published: who has a labeller's hash finds them there, and nobody can tell who else voted, or that two of them have the
    same labeller.
    """
    return hashlib.sha256(f"{digest} {labeller}".encode()).hexdigest()


def download_votes(source: str) -> tuple[Path, str]:
    """Bring a dataset repository's votes into the Hub client's cache; their folder and the commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repo_id, _, revision = source.partition("@")
    try:
        folder = snapshot_download(
            repo_id,
            repo_type="dataset",
            revision=revision or None,
            allow_patterns=["*.jsonl", "votes/*.jsonl", FORGOTTEN],
        )
    except LocalEntryNotFoundError as error:
        raise HubError(
            "the Hub cannot be reached, and the votes are not in the cache",
            where=endpoint(),
            found=source,
            next_step="check HF_ENDPOINT and the network, or give files",
        ) from error
    except HfHubHTTPError as error:
        raise HubError(
            "the Hub does not give this dataset",
            where=endpoint(),
            found=str(error).splitlines()[0],
            next_step="check the id and the revision; a private one needs HF_TOKEN",
        ) from error
    return Path(folder), Path(folder).name


def vote_files(folder: Path) -> list[Path]:
    """The files of votes in a folder: its own, and those in its `votes`."""
    return sorted([*folder.glob("*.jsonl"), *(folder / "votes").glob("*.jsonl")])


def _read_file(file: Path, name: str, read: VotesRead, repo_id: str | None, revision: str | None) -> None:
    content = file.read_bytes()
    lines = content.split(b"\n")
    rows = 0
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            read.votes.append(Vote.model_validate_json(line))
            rows += 1
        except ValidationError as error:
            first = error.errors()[0]
            # Lines are appended whole and then synced, so only a kill leaves a last line without its end.
            if number == len(lines) and first["type"] == "json_invalid":
                read.torn.append(f"{name}, line {number}")
                continue
            raise UsageError(
                "this line is not a vote",
                where=f"{file}, line {number}, field {'.'.join(str(part) for part in first['loc']) or '(line)'}",
                expected=first["msg"],
                found=repr(first.get("input"))[:120],
            ) from error
    read.files.append(VoteFile(name, hashlib.sha256(content).hexdigest(), rows, repo_id, revision))


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]
