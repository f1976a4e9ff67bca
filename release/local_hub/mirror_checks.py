"""What a source Hub lists, checked for its form before any of it is used: ids and paths become names of files here.

    check_repository(there, endpoint)       # its id, refs, gate
    check_commit(commit, where)
    check_tree(listed, where)

All raise VerificationMismatch naming the Hub's address of it: what no Hub lists is not taken.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn

from release.hub_files import HubFile
from release.hub_reader import HubCommit, HubRepository
from release.local_hub.refusals import Refusal
from release.local_hub.repository import check_ref_name
from release.local_hub.store import split_id
from release.local_hub.tree import checked_path
from training.errors import VerificationMismatch

_OID, _SHA256, _SDK = re.compile(r"[0-9a-f]{40}"), re.compile(r"[0-9a-f]{64}"), re.compile(r"[a-z]{1,40}")
SIZE_LIMIT = 1 << 50  # bytes


def check_repository(there: HubRepository, endpoint: str) -> None:
    """The id, the gate, a Space's sdk, and every branch and tag."""
    where = f"{endpoint}/{str(there.repo_id)[:200]}"
    try:
        split_id(str(there.repo_id))
    except Refusal:
        _refuse(where, "the id of a repository", there.repo_id)
    if there.gated not in (False, "auto", "manual"):
        _refuse(where, "false, auto or manual as its gate", there.gated)
    if there.sdk is not None and not _matches(_SDK, there.sdk):
        _refuse(where, "the name of an sdk", there.sdk)
    for name, oid in [*there.branches.items(), *there.tags.items()]:
        try:
            if not isinstance(name, str):
                _refuse(where, "the name of a branch or tag", name)
            name.encode()
            check_ref_name(name)
        except (Refusal, UnicodeEncodeError):
            _refuse(where, "the name of a branch or tag", name)
        check_oid(oid, where)


def check_oid(oid: object, where: str) -> None:
    if not _matches(_OID, oid):
        _refuse(where, "40 hexadecimal digits as the id of a commit", oid)


def check_commit(commit: HubCommit, where: str) -> None:
    """Its id and its words."""
    check_oid(commit.commit, where)
    for text in (commit.author, commit.title, commit.message):
        try:
            if not isinstance(text, str):
                _refuse(where, "a commit's author, title and message as texts", text)
            text.encode()
        except UnicodeEncodeError:
            _refuse(where, "a commit's author, title and message as texts", text)
    if not commit.author.isprintable():
        _refuse(where, "a commit's author in one line", commit.author)


def check_tree(listed: Mapping[str, HubFile], where: str) -> None:
    """Every path, size and hash of a commit."""
    for path, file in listed.items():
        try:
            checked_path(path)
        except Refusal as refusal:
            _refuse(where, "paths that this Hub keeps", refusal.message)
        if not isinstance(file.size, int) or not 0 <= file.size < SIZE_LIMIT:
            _refuse(f"{where}: {path}", "a number of bytes", file.size)
        if not _matches(_OID, file.git_oid):
            _refuse(f"{where}: {path}", "40 hexadecimal digits as a file's git id", file.git_oid)
        if file.sha256 is not None and not _matches(_SHA256, file.sha256):
            _refuse(f"{where}: {path}", "64 hexadecimal digits as a SHA-256", file.sha256)


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _refuse(where: str, expected: str, found: object) -> NoReturn:
    raise VerificationMismatch(
        "the source lists what no Hub lists; nothing of this commit was taken",
        where=where,
        expected=expected,
        found=ascii(found)[:200],
        next_step="check the address after --from; ask whoever runs that Hub",
    )
