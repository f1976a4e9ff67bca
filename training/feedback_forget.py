"""A deletion request: a labeller's votes leave files or the dataset's next revision, and what was trained on them is named.

    python -m training feedback org/name-votes --forget LABELLER_HASH --runs runs
    python -m training feedback runs/votes --forget LABELLER_HASH --runs runs

The hash joins forgotten.json, so that the Space does not push these votes again and no analysis counts them. Earlier revisions
of a dataset repository still hold them: only its owner can erase history.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from training.best_of_n_record import RECORD as BEST_OF_N
from training.best_of_n_record import BestOfNRecord
from training.counted import counted
from training.errors import HubError, SlipwayError, UsageError
from training.feedback_record import RECORD, FeedbackRecord
from training.pretrained import endpoint, feedback_behind
from training.records import canonical_json, sha256_of_file, write_atomically
from training.run_record import DataSource, FeedbackSource, ParentCheckpoint, RunRecord
from training.votes import FORGOTTEN, download_votes, forgotten_labellers, labeller_mark, vote_files

T = TypeVar("T")
NOT_READ = "not read"  # a file by the name of a record that is none, or cannot be read


@dataclass(frozen=True)
class Used:
    """A record that a labeller's votes went into, directly or by way of a parent; or one that could not be looked into."""

    path: str
    what: str  # "feedback" | "best-of-n" | the run's method | "scorecard" | NOT_READ
    digest: str
    how: str


@dataclass(frozen=True)
class Theirs:
    """Which analyses counted a labeller's votes: those that were found, and those by whose mark of them a run tells."""

    labeller: str
    records: set[str] = field(default_factory=set)
    known: set[str] = field(default_factory=set)  # every analysis that was found, theirs or not

    def among(self, feedback: FeedbackSource) -> bool:
        return feedback.record in self.records or labeller_mark(self.labeller, feedback.record) in feedback.labellers

    def cannot_tell(self, feedback: FeedbackSource) -> bool:
        """Whether neither the analysis is there nor the labellers' marks of it."""
        return feedback.record not in self.known and not feedback.labellers


def forget_in_folder(folder: Path, labeller: str) -> int:
    """Take the labeller's votes out of a folder's files; how many there were."""
    removed = 0
    for file in vote_files(folder):
        content, count = without(file.read_bytes(), labeller)
        if count:
            write_atomically(file, content)
            removed += count
    write_atomically(folder / FORGOTTEN, _list(forgotten_labellers(folder / FORGOTTEN) | {labeller}))
    return removed


def forget_in_dataset(source: str, labeller: str) -> tuple[int, str]:
    """The same in one commit on the dataset's newest revision: how many votes, and the commit.

    Raises HubError where the Hub refuses, also where someone committed in between: then the command is to be run again.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, create_commit
    from huggingface_hub.errors import HfHubHTTPError

    repo_id, _, revision = source.partition("@")
    if revision not in ("", "main"):
        raise UsageError("votes are taken out of the newest revision only", found=source, next_step=f"name {repo_id}")
    folder, parent = download_votes(repo_id)
    operations: list[CommitOperationAdd | CommitOperationDelete] = []
    removed = 0
    for file in vote_files(folder):
        content, count = without(file.read_bytes(), labeller)
        path = file.relative_to(folder).as_posix()
        if count:
            operations.append(CommitOperationAdd(path, content) if content else CommitOperationDelete(path))
            removed += count
    names = forgotten_labellers(folder / FORGOTTEN)
    if labeller in names and not operations:
        return 0, parent
    operations.append(CommitOperationAdd(FORGOTTEN, _list(names | {labeller})))
    try:
        done = create_commit(
            repo_id,
            operations,
            commit_message=f"Forget labeller {labeller[:12]}",
            repo_type="dataset",
            parent_commit=parent,
        )
    except HfHubHTTPError as error:
        raise HubError(
            "the Hub did not take the deletion",
            where=f"{endpoint()}, dataset {repo_id}",
            found=str(error).splitlines()[0],
            next_step="run the same command again; it needs HF_TOKEN with the right to write",
        ) from error
    return removed, done.oid


def without(content: bytes, labeller: str) -> tuple[bytes, int]:
    """The lines of other labellers, as they were, and how many were this one's. A last line that a kill cut off is dropped."""
    kept, removed = [], 0
    for line in content.splitlines(keepends=True):
        if not line.strip():
            continue
        try:
            vote: dict[str, Any] = json.loads(line)
        except json.JSONDecodeError as error:
            if not line.endswith(b"\n"):
                continue
            raise UsageError("this line is not JSON", found=line[:120].decode(errors="replace")) from error
        if vote.get("labeller") == labeller:
            removed += 1
        else:
            kept.append(line)
    return b"".join(kept), removed


def downstream(roots: list[Path], labeller: str) -> list[Used]:
    """Every feedback.json under `roots` that counts this labeller, and what was made of it.

    Runs and best_of_n.json are found by the feedback.json that they name and the labellers' marks that they keep of it, by way of
    data, sampled answers or a parent; scorecards by the labellers whose votes they counted. Of an older run whose analysis is not
    there any more nothing can be told, and it is named as such; so is a file by such a name that cannot be read. Raises UsageError
    where one of `roots` is no folder.
    """
    found: list[Used] = []
    theirs = Theirs(labeller)
    for file, record in _read(roots, RECORD, FeedbackRecord.read, found):
        digest = f"sha256:{sha256_of_file(file)}"
        theirs.known.add(digest)
        if labeller in record.labellers:
            theirs.records.add(digest)
            found.append(
                Used(str(file), "feedback", digest, f"{counted(record.labellers[labeller].votes, 'vote')} counted")
            )
    for file, best in _read(roots, BEST_OF_N, BestOfNRecord.read, found):
        if how := _sampled(best.policy, best.reward_models, best.data, theirs):
            found.append(Used(str(file), "best-of-n", f"sha256:{sha256_of_file(file)}", f"answers {how}"))
    for file, run in _read(roots, "run.json", RunRecord.read, found):
        untold = {one.record for one in feedback_behind(run) if theirs.cannot_tell(one)}
        learned = _learned(run, theirs) or (
            f"learned from votes whose analysis ({', '.join(one[:19] for one in sorted(untold))}) is not here: whose they were "
            "cannot be told"
            if untold
            else None
        )
        if learned:
            found.append(Used(str(file), run.method, run.checkpoint_digest, learned + _released(file.parent)))
    for file, win_rate in _read(roots, "scorecard.json", lambda file: _win_rate(file, labeller), found):
        if win_rate is not None:
            digest, told = win_rate
            found.append(Used(str(file), "scorecard", digest, told + _released(file.parent)))
    return found


def _learned(run: RunRecord, theirs: Theirs) -> str | None:
    """How a run came to learn from one of these feedback.json; None where it did not."""
    if any(data.feedback is not None and theirs.among(data.feedback) for data in run.data):
        return "trained on the votes"
    for data in run.data:
        one = data.sampled
        if one is not None and (how := _sampled(one.policy, one.reward_models, one.prompts, theirs)):
            return f"trained on answers {how}"
    return "by way of a parent that learned from them" if _any(run.parents, theirs) else None


def _sampled(
    policy: ParentCheckpoint, reward_models: Sequence[ParentCheckpoint], prompts: DataSource, theirs: Theirs
) -> str | None:
    """What of a best-of-n comes of one of these feedback.json; None where nothing does."""
    if _any(reward_models, theirs):
        return "scored by a reward model that learned from them"
    if _any([policy], theirs):
        return "sampled from a policy that learned from them"
    return "to prompts that come of them" if any(theirs.among(one) for one in prompts.feedback_behind()) else None


def _any(parents: Sequence[ParentCheckpoint], theirs: Theirs) -> bool:
    return any(theirs.among(one) for parent in parents for one in parent.feedback)


def _win_rate(file: Path, labeller: str) -> tuple[str, str] | None:
    """Digest, and how this labeller's votes made a win rate of the scorecard; None where they did not.

    One that does not say whose votes it counted is named as such. Read as JSON, for the record itself is `evals`' own, which
    stands above this package.
    """
    card = json.loads(file.read_bytes())
    sources = [task["data_id"] for task in card["settings"]["tasks"] if task["task"] == "votes"]
    if not sources:
        return None
    digest = str(card["model"]["digest"])
    if not card.get("labellers"):
        return digest, f"a win rate by votes of {sources[0]}; whose they were is not recorded"
    if labeller_mark(labeller, digest) in card["labellers"]:
        return digest, f"a win rate by votes of {sources[0]}, theirs among them"
    return None


def _released(folder: Path) -> str:
    """Where what stands in a run's directory was released, which a deletion here does not reach."""
    receipt = folder / "receipt.json"
    if not receipt.is_file():
        return ""
    try:
        found = json.loads(receipt.read_bytes())
        return f"; released as {found['repo_id']}@{found['tag']}"
    except NO_RECORD:
        return f"; perhaps released: {receipt.name} beside it cannot be read"


NO_RECORD = (OSError, ValueError, KeyError, TypeError, AttributeError)


def _read(roots: list[Path], name: str, read: Callable[[Path], T], found: list[Used]) -> Iterator[tuple[Path, T]]:
    """Each file of this name with what `read` makes of it. One that is no such record is added to `found` and passed over."""
    for root in roots:
        if not root.is_dir():
            raise UsageError("there is no such folder of runs", where=str(root))
        for file in sorted(root.rglob(name)):
            try:
                record = read(file)
            except (SlipwayError, *NO_RECORD) as error:
                why = f"it cannot be read as what its name says ({type(error).__name__}: {str(error).splitlines()[0][:120]})"
                found.append(Used(str(file), NOT_READ, "", why))
                continue
            yield file, record


def _list(names: set[str]) -> bytes:
    return canonical_json(sorted(names))
