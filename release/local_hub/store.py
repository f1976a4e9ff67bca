"""A Hub's whole state under one folder: repositories by name, accounts, blobs. No database, no server needed.

store = Store(Path("hub"))
token = store.create_user("slipway")
repository = store.create_repository("model", "slipway/demo", author="slipway")
store.import_folder(Path("mirror"))       # mirror/{models,datasets,spaces}/ORG/NAME/...

<root>/store.json  uuid of the store            names/models/org/name.json  -> folder of the repository, whose name.json
                                                has the last word on what it is called
       secret      key that signs upload urls   repositories/<id>/          see repository.py
       accounts.json                            blobs/, incoming/           see storage.py
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import secrets
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from release.local_hub.accounts import NAME, Accounts, Scope
from release.local_hub.records import create_record, read_record, write_record
from release.local_hub.refusals import Conflict, Damaged, Refusal
from release.local_hub.repository import Repository
from release.local_hub.space_status import set_secret_value
from release.local_hub.starting_files import starting_files
from release.local_hub.storage import Blobs, fsync_path, locked, make_folder
from release.local_hub.tree import Put, regular
from training.errors import UsageError

log = logging.getLogger("slipway.hub")
KINDS = ("model", "dataset", "space")
FORMAT = 1
LARGEST_FILE = 500 << 30  # bytes, as on the Hub
OWN_NAME = "name.json"  # in the folder of a repository that was ever moved


class Store:
    """Everything that a server serves; several processes may use one root at the same time."""

    def __init__(self, root: Path, *, largest_file: int = LARGEST_FILE) -> None:
        """`largest_file`: bytes of a file that uploads may bring."""
        self.root, self.largest_file = root, largest_file
        if not root.is_dir():
            root.mkdir(mode=0o700, parents=True, exist_ok=True)  # private repositories' bytes lie there as they are
            fsync_path(root.parent)
        create_record(root / "store.json", {"uuid": str(uuid.uuid4()), "format": FORMAT})
        identity = read_record(root / "store.json")
        if identity["format"] != FORMAT:
            raise UsageError(
                "this store was written by another version", where=str(root), expected=str(FORMAT), found=str(identity)
            )
        self.uuid = str(identity["uuid"])
        self.accounts = Accounts(root)
        self.blobs = Blobs(root)
        make_folder(root / "names")
        for kind in KINDS:
            make_folder(root / "names" / f"{kind}s")
        for folder in ("repositories", "trash", "holders", "xet"):
            make_folder(root / folder)
        self._secret = self._read_or_make_secret()

    # Accounts

    def create_user(self, name: str, scope: Scope = "write") -> str:
        """Create a user and return a token of theirs, which is not kept anywhere."""
        self.accounts.create_user(name)
        return self.accounts.create_token(name, scope)

    def create_organisation(self, name: str, members: tuple[str, ...] = ()) -> None:
        self.accounts.create_organisation(name, members)

    def create_token(self, user: str, scope: Scope = "write") -> str:
        return self.accounts.create_token(user, scope)

    def revoke_token(self, token: str) -> bool:
        return self.accounts.revoke_token(token)

    # Repositories

    def find(self, kind: str, repo_id: str) -> Repository | None:
        """The repository of that name, in any case, also under a name it had before it was moved."""
        if kind not in KINDS:
            return None
        for _ in range(8):  # a repository may have been moved several times, but not in a circle
            named = self._named(self._name_file(kind, repo_id))
            if named is None:
                return None
            if "moved_to" not in named:
                return Repository(self.root / "repositories" / named["folder"], kind, named["id"], self.blobs)
            repo_id = named["moved_to"]
        return None

    def repositories(self, kind: str, *, strict: bool = False) -> Iterator[Repository]:
        """All of a kind, by name. Those whose name is damaged only a line in the log tells of; `strict` raises Damaged."""
        for file in self.name_files(kind):
            try:
                named = self._named(file)
            except Damaged as damaged:
                if strict:
                    raise
                log.error("%s", damaged)
                continue
            if named is not None and "moved_to" not in named:
                yield Repository(self.root / "repositories" / named["folder"], kind, named["id"], self.blobs)

    def name_files(self, kind: str) -> list[Path]:
        """The records of all names, old ones too."""
        return sorted((self.root / "names" / f"{kind}s").glob("*/*.json"))

    def create_repository(
        self,
        kind: str,
        repo_id: str,
        author: str,
        *,
        private: bool = False,
        initialise: bool = True,
        secret_values: Mapping[str, str] | None = None,
        copy_of: Repository | None = None,
        **settings: Any,
    ) -> Repository:
        """Create a repository with the Hub's first commit, or the history of `copy_of`. Raises Conflict if the name is taken."""
        _, name = split_id(repo_id)
        repo_id = self.spelt_id(repo_id)
        if kind not in KINDS:
            raise Refusal(400, f"Invalid repository type: {kind[:40]!r}")
        identity = uuid.uuid4().hex
        folder = self.root / "repositories" / identity
        Repository.initialise(folder, kind, {"private": private, **settings})
        repository = Repository(folder, kind, repo_id, self.blobs)
        if copy_of is not None:
            repository.copy_history(copy_of)
        elif initialise:
            files = starting_files(kind, name, settings.get("sdk"))
            changes = [Put(path, regular(self.blobs, text.encode())) for path, text in files.items()]
            repository.commit("refs/heads/main", changes, author=author, title="initial commit")
        for key, value in (secret_values or {}).items():
            set_secret_value(repository, key, value)
        try:
            self._give_name(kind, repo_id, identity)
        except Conflict:
            shutil.rmtree(folder)
            raise
        return repository

    def spelt_id(self, repo_id: str) -> str:
        """The id with its namespace as the owner spells it. Raises Refusal for what no repository can be called."""
        namespace, name = split_id(repo_id)
        return f"{self.accounts.spelling(namespace)}/{name}"

    def delete_repository(self, repository: Repository) -> None:
        """Gone at once for everybody; its blobs stay, for others may share them."""
        file = self._name_file(repository.kind, repository.id)
        with locked(self.root / "names" / "lock"):
            if read_record(file, {}).get("folder") == repository.folder.name:
                file.unlink()
        trash = self.root / "trash" / repository.folder.name
        try:
            repository.folder.rename(trash)
        except FileNotFoundError:
            return  # somebody else deleted it at the same time
        shutil.rmtree(trash)

    def move_repository(self, repository: Repository, new_id: str) -> None:
        """Rename; the old name leads here until somebody takes it. Raises Conflict if the new one is taken.

        What the folder's own name.json says is the moment of the move: a kill before leaves the old name, one after it the new.
        """
        new_id = self.spelt_id(new_id)
        old_file, new_file = (self._name_file(repository.kind, name) for name in (repository.id, new_id))
        make_folder(new_file.parent)
        with locked(self.root / "names" / "lock"):
            named = self._named(old_file)
            if named is None or named.get("folder") != repository.folder.name:
                raise Conflict(f"{repository.id} was moved or deleted at the same time")
            if old_file != new_file:  # else only the case changes
                if not self._is_free(new_file):
                    raise Conflict(f"There is a {repository.kind} repo of this name: {new_id}")
                write_record(repository.folder / OWN_NAME, {"id": repository.id})
            write_record(new_file, {"id": new_id, "folder": repository.folder.name})
            write_record(repository.folder / OWN_NAME, {"id": new_id})
            if old_file != new_file:
                write_record(old_file, {"moved_to": new_id})

    def import_folder(self, folder: Path) -> list[str]:
        """Take in `folder/{models,datasets,spaces}/ORG/NAME/...` under these ids; returns them as `kind org/name`."""
        from release.local_hub.mirror import import_folder  # mirror.py works on stores, so it cannot be imported above

        return import_folder(self, folder)

    # Who may use which stored bytes, and signatures

    def mark_held(self, user: str, sha256: str) -> None:
        """Note that the user has sent these bytes: knowing the hash of somebody's private file is not having it."""
        file = self._holder_file(user, sha256)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    def holds(self, user: str, sha256: str, size: int | None = None) -> bool:
        return self.blobs.has(sha256, size) and self._holder_file(user, sha256).is_file()

    def sign(self, *parts: str, lifetime: float = 6 * 3600) -> str:
        """A signature of the parts that is good for `lifetime` seconds: `expiry-hex`."""
        expiry = int(time.time() + lifetime)
        return f"{expiry}-{self._signature(expiry, parts)}"

    def signed(self, signature: str, *parts: str) -> bool:
        expiry, _, mark = signature.partition("-")
        if not expiry.isdigit() or len(expiry) > 12 or int(expiry) < time.time():
            return False
        return hmac.compare_digest(mark.encode(), self._signature(int(expiry), parts).encode())

    def _signature(self, expiry: int, parts: tuple[str, ...]) -> str:
        return hmac.new(self._secret, "\0".join([str(expiry), *parts]).encode(), hashlib.sha256).hexdigest()

    def _holder_file(self, user: str, sha256: str) -> Path:
        return self.root / "holders" / user.lower() / sha256[:2] / sha256

    def _name_file(self, kind: str, repo_id: str) -> Path:
        namespace, name = split_id(repo_id.lower())
        return self.root / "names" / f"{kind}s" / namespace / f"{name}.json"

    def _named(self, file: Path) -> dict[str, str] | None:
        """What a name leads to: {id, folder}, or {moved_to}, also where the move away from it was broken off; None for nothing."""
        named: dict[str, str] | None = read_record(file)
        if named is None or "moved_to" in named:
            return named
        own = read_record(self.root / "repositories" / named["folder"] / OWN_NAME, named)
        return named if own["id"].lower() == named["id"].lower() else {"moved_to": own["id"]}

    def _is_free(self, file: Path) -> bool:
        """Whether nothing bears this name: there is none, it leads elsewhere, or what it led to is gone."""
        named = self._named(file)
        return named is None or "moved_to" in named or not (self.root / "repositories" / named["folder"]).is_dir()

    def _give_name(self, kind: str, repo_id: str, folder: str) -> None:
        file = self._name_file(kind, repo_id)
        make_folder(file.parent)
        with locked(self.root / "names" / "lock"):
            if not self._is_free(file):
                raise Conflict(f"You already created this {kind} repo: {repo_id}")
            write_record(file, {"id": repo_id, "folder": folder})

    def _read_or_make_secret(self) -> bytes:
        file = self.root / "secret"
        with locked(self.root / "names" / "lock"):
            if not file.is_file():
                temporary = self.root / f".secret.{uuid.uuid4().hex}"
                temporary.touch(mode=0o600)
                temporary.write_bytes(secrets.token_bytes(32))
                temporary.replace(file)
        return file.read_bytes()


def split_id(repo_id: str) -> tuple[str, str]:
    """`namespace/name`, both checked: they become parts of file names. Raises Refusal."""
    namespace, slash, name = repo_id.partition("/")
    if not slash or not NAME.fullmatch(namespace) or not NAME.fullmatch(name) or name.lower().endswith(".git"):
        raise Refusal(400, f"Invalid repository name: {repo_id[:200]!r}")
    return namespace, name
