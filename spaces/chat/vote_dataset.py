"""The dataset repository that votes go to, as it stands on the Hub: whether they may go there, and what it says of labellers.

    commit = private_head("org/name-votes")                 # made where there is none; Withheld where it is not private
    forgotten = forgotten_in("org/name-votes", commit)      # labellers who asked for deletion
    salt_is_told("org/name-votes", commit, mark_of(salt))   # Withheld where another salt hashed its labellers

All but `checked_id`, `forgotten_of` and `mark_of` ask the Hub, and raise what its client raises.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Collection
from pathlib import Path

from huggingface_hub import create_repo, dataset_info, hf_hub_download, list_repo_files
from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError
from huggingface_hub.utils import validate_repo_id
from limits import Unavailable

FORGOTTEN = "forgotten.json"
SALT_MARK = (
    "labeller_salt.sha256"  # what `printf %s "$LABELLER_SALT" | sha256sum` says; the salt itself is in no dataset
)


class Withheld(Unavailable):
    """Votes must not go into this dataset as it is; the text says why, and what to do. It holds nothing secret."""


def checked_id(dataset: str) -> str:
    """The id, where a Hub could take it. Raises Unavailable, before there is a vote that could not be pushed."""
    try:
        validate_repo_id(dataset)
    except HFValidationError as error:
        raise Unavailable(f"{dataset!r} is not the id of a dataset: {error}") from error
    if "/" not in dataset:
        raise Unavailable(f"{dataset!r} is not the id of a dataset: it has the form OWNER/NAME.")
    return dataset


def private_head(dataset: str) -> str | None:
    """The newest commit. A dataset that is not there is made, private; Withheld where others can see one that is."""
    create_repo(dataset, repo_type="dataset", private=True, exist_ok=True)
    found = dataset_info(dataset)
    if found.private is not True:  # create_repo leaves one that is there as it is
        raise Withheld(
            f"The dataset {dataset} is not private, and labellers agree to a private one, so nothing is pushed. Make it private: "
            f"hf repos settings {dataset} --type dataset --private"
        )
    return found.sha


def forgotten_in(dataset: str, revision: str | None) -> set[str]:
    """The labellers that the dataset's forgotten.json names; none where it has no such file."""
    content = _content(dataset, FORGOTTEN, revision)
    return set() if content is None else forgotten_of(content, f"{FORGOTTEN} of {dataset}")


def forgotten_of(content: bytes, where: str) -> set[str]:
    """The hashes that a forgotten.json names. Raises ValueError, with `where`, where it is no list of them."""
    try:
        names = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{where} is not JSON: {error}") from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{where} is not a list of labeller ids")
    return set(names)


def mark_of(salt: bytes) -> str:
    """By which a dataset tells one salt from another."""
    return hashlib.sha256(salt).hexdigest()


def salt_is_told(dataset: str, revision: str | None, mark: str) -> bool:
    """Whether the dataset says that this salt hashed its labellers; False where it says nothing.

    Raises Withheld where it names another: each labeller would be a second person, who agrees with the first.
    """
    content = _content(dataset, SALT_MARK, revision)
    if content is None:
        return False
    told = content.decode(errors="replace").strip()
    if told != mark:
        raise Withheld(
            f"The labellers of {dataset} were hashed with another salt, of SHA-256 {told[:12]}, and this page's has {mark[:12]}: "
            "each of them would count as two people. Set the secret LABELLER_SALT to that salt; where it was never set, it is the "
            f"file `salt` beside the votes. Where it is lost, gather in another dataset, or delete {SALT_MARK} there and take it "
            "that who voted before is another labeller from now on."
        )
    return True


def votes_elsewhere(dataset: str, here: Collection[str]) -> list[bytes]:
    """What the dataset's files of votes hold, but for those of these names. No copy stays on this disk."""
    paths = [
        path
        for path in list_repo_files(dataset, repo_type="dataset")
        if path.startswith("votes/") and path.endswith(".jsonl") and Path(path).name not in here
    ]
    with tempfile.TemporaryDirectory() as folder:  # the client's cache would outlive a deletion request
        return [
            Path(hf_hub_download(dataset, path, repo_type="dataset", local_dir=folder)).read_bytes() for path in paths
        ]


def _content(dataset: str, path: str, revision: str | None) -> bytes | None:
    try:
        return Path(hf_hub_download(dataset, path, repo_type="dataset", revision=revision)).read_bytes()
    except LocalEntryNotFoundError:  # the Hub could not be asked; this is an EntryNotFoundError too
        raise
    except EntryNotFoundError:
        return None
