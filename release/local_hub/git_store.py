"""A Hub's repository as dulwich's git server reads one: refs, commits, trees and files, made when they are asked for.

pack = answer_wants(repository, body)        # what `git clone` and `git fetch` are sent

Large files are their git LFS pointers, as in the real Hub's git repositories. Nothing is written: git has no copy here.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import IO, Any

from dulwich.errors import GitProtocolError, HangupException
from dulwich.object_store import PackCapableObjectStore
from dulwich.objects import Blob, ObjectID, RawObjectID, ShaFile, sha_to_hex
from dulwich.protocol import ReceivableProtocol
from dulwich.refs import DictRefsContainer, Ref
from dulwich.repo import BaseRepo
from dulwich.server import Backend, UploadPackHandler

from release.local_hub.git_objects import git_id, in_git
from release.local_hub.refusals import Refusal
from release.local_hub.repository import MAIN, Repository
from release.local_hub.storage import pointer_of
from release.local_hub.tree import Entry


def advertisement(repository: Repository) -> bytes:
    """The refs, as `git ls-remote` and the start of a clone read them."""
    out = io.BytesIO()
    proto = ReceivableProtocol(io.BytesIO().read, out.write)
    proto.write_pkt_line(b"# service=git-upload-pack\n")
    proto.write_pkt_line(None)
    _UploadPack(_OneRepository(repository), ["/"], proto, stateless_rpc=True, advertise_refs=True).handle()
    return out.getvalue()


def answer_wants(repository: Repository, body: bytes, out: IO[bytes]) -> None:
    """Write the pack of objects that a client wants and does not have. Raises Refusal 400 for what is no such request."""
    proto = ReceivableProtocol(io.BytesIO(body).read, out.write)
    try:
        _UploadPack(_OneRepository(repository), ["/"], proto, stateless_rpc=True).handle()
    except (GitProtocolError, HangupException, ValueError, AssertionError) as error:
        raise Refusal(400, f"Not a request of git upload-pack: {str(error) or type(error).__name__}") from error


class _UploadPack(UploadPackHandler):
    def capabilities(self) -> list[bytes]:
        """Without partial clones: fetching single objects afterwards would need wants that are no refs."""
        return [capability for capability in super().capabilities() if capability != b"filter"]

    def set_client_capabilities(self, caps: Iterable[bytes]) -> None:
        """git names the filter that it was given even where none was offered, and says that it is ignored."""
        super().set_client_capabilities([capability for capability in caps if not capability.startswith(b"filter")])


class _OneRepository(Backend):
    def __init__(self, repository: Repository) -> None:
        self.repository = repository

    def open_repository(self, path: str) -> Any:  # noqa: ARG002
        return _GitRepository(self.repository)


class _GitRepository(BaseRepo):
    """Read by UploadPackHandler only."""

    def __init__(self, repository: Repository) -> None:
        store = _Objects(repository)
        refs: dict[Any, bytes] = {ref.encode(): oid for ref, oid in store.refs.items()}
        if MAIN in store.refs:
            refs[b"HEAD"] = b"ref: " + MAIN.encode()
        super().__init__(store, DictRefsContainer(refs))

    def get_peeled(self, ref: Ref) -> ObjectID:
        """A tag of the Hub is a name of a commit, never an object of its own."""
        return self.refs[ref]


class _Objects(PackCapableObjectStore):
    """The objects to which the refs lead. Commits and trees are made together, files read one at a time."""

    def __init__(self, repository: Repository) -> None:
        super().__init__()
        self.repository = repository
        self.pack_compression_level = 1  # it goes over a local network
        self._heads = repository.refs()
        ids = {oid: git_id(repository, repository.commit_of(oid)) for oid in set(self._heads.values())}
        self.refs = {ref: ObjectID(ids[oid].encode()) for ref, oid in self._heads.items()}

    @cached_property
    def _made(self) -> dict[bytes, ShaFile | Entry]:
        made: dict[bytes, ShaFile | Entry] = {}
        known: dict[str, str] = {}
        for head in set(self._heads.values()):
            for one in in_git(self.repository, head, known):
                made[one.commit.id] = one.commit
                made.update({tree.id: tree for tree in one.trees.values()})
                made.update({entry.oid.encode(): entry for entry in one.on_hub.tree.values()})
        return made

    def contains_loose(self, sha: ObjectID) -> bool:
        return sha in self.refs.values() or _hex(sha) in self._made

    def contains_packed(self, sha: ObjectID | RawObjectID) -> bool:  # noqa: ARG002
        return False

    @property
    def packs(self) -> list[Any]:
        return []

    def __iter__(self) -> Iterator[ObjectID]:
        return (ObjectID(sha) for sha in self._made)

    def __getitem__(self, sha: ObjectID | RawObjectID) -> ShaFile:
        found = self._made[_hex(sha)]
        if not isinstance(found, Entry):
            return found
        pointer = pointer_of(found.sha256, found.size) if found.lfs else None
        return Blob.from_string(self.repository.blobs.read(found.sha256) if pointer is None else pointer)

    def get_raw(self, name: RawObjectID | ObjectID) -> tuple[int, bytes]:
        found = self[name]
        return found.type_num, found.as_raw_string()


def _hex(sha: ObjectID | RawObjectID) -> bytes:
    return sha if len(sha) == 40 else sha_to_hex(RawObjectID(sha))
