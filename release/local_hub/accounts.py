"""Users, organisations and access tokens of a Hub, in one file that is replaced as a whole.

accounts = Accounts(root)
accounts.create_user("slipway")
token = accounts.create_token("slipway", scope="write")     # shown once; only its SHA-256 is kept
accounts.caller(token).may_write("slipway")
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from release.local_hub.records import read_record, write_record
from release.local_hub.repository import now
from release.local_hub.storage import locked
from training.errors import UsageError

Scope = Literal["read", "write"]
NAME = re.compile(r"(?!.*(--|\.\.))[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")
# Words that stand in a namespace's place in the addresses of the Hub itself.
RESERVED = frozenset(
    {
        "api",
        "datasets",
        "spaces",
        "models",
        "xet",
        "lfs",
        "static",
        "login",
        "settings",
        "resolve",
        "leaderboard",
        "collections",
    }
)


@dataclass(frozen=True)
class Caller:
    """Who asks: nobody (`user` is None), or a user with the namespaces and the scope of the token."""

    user: str | None = None
    scope: Scope | None = None
    namespaces: frozenset[str] = frozenset()  # lower case
    organisations: tuple[str, ...] = ()
    token_name: str = ""
    login: Scope | None = (
        None  # of a browser, whose `scope` is read: that of its token, for the forms of this Hub's own pages
    )

    def may_read(self, namespace: str) -> bool:
        """Whether private repositories of the namespace are visible."""
        return namespace.lower() in self.namespaces

    def may_write(self, namespace: str) -> bool:
        return self.scope == "write" and namespace.lower() in self.namespaces


ANONYMOUS = Caller()


class Accounts:
    """Names are unique among users and organisations, whatever their case."""

    def __init__(self, root: Path) -> None:
        self.file, self.lock = root / "accounts.json", root / "accounts.lock"

    def create_user(self, name: str) -> None:
        """Raises UsageError when the name is taken or not a name."""
        with self._changing() as data:
            self._claim(data, name)
            data["users"][name.lower()] = {"name": name, "created": now()}

    def create_organisation(self, name: str, members: tuple[str, ...] = ()) -> None:
        with self._changing() as data:
            self._claim(data, name)
            unknown = [member for member in members if member.lower() not in data["users"]]
            if unknown:
                raise UsageError(f"there is no user {unknown[0]}", expected="members that are users of this Hub")
            listed = sorted(member.lower() for member in members)
            data["organisations"][name.lower()] = {"name": name, "members": listed, "created": now()}

    def add_member(self, organisation: str, user: str) -> None:
        with self._changing() as data:
            if organisation.lower() not in data["organisations"] or user.lower() not in data["users"]:
                raise UsageError(f"there is no organisation {organisation} or no user {user}")
            members = data["organisations"][organisation.lower()]["members"]
            if user.lower() not in members:
                members.append(user.lower())

    def create_token(self, user: str, scope: Scope = "write", name: str = "token") -> str:
        """A new token of the user."""
        alphabet = string.ascii_letters + string.digits
        token = "hf_" + "".join(secrets.choice(alphabet) for _ in range(34))
        self.accept_token(user, token, scope, name)
        return token

    def accept_token(
        self, user: str, token: str, scope: Scope = "write", name: str = "token", *, instead: bool = False
    ) -> None:
        """Let a token that was chosen elsewhere stand for the user; `instead` of those of theirs that have this name."""
        with self._changing() as data:
            if user.lower() not in data["users"]:
                raise UsageError(f"there is no user {user}")
            for key, kept in [*data["tokens"].items()] if instead else ():
                if (kept["user"], kept["name"]) == (user.lower(), name) and key != _hash(token):
                    del data["tokens"][key]
            data["tokens"][_hash(token)] = {"user": user.lower(), "scope": scope, "name": name, "created": now()}

    def revoke_token(self, token: str) -> bool:
        """From now on the token is nobody's. False if it was so before."""
        with self._changing() as data:
            return data["tokens"].pop(_hash(token), None) is not None

    def revoke_all(self, user: str) -> int:
        """From now on the user has no token; how many they had. Raises UsageError for nobody's name."""
        with self._changing() as data:
            if user.lower() not in data["users"]:
                raise UsageError(f"there is no user {user}")
            theirs = [key for key, kept in data["tokens"].items() if kept["user"] == user.lower()]
            for key in theirs:
                del data["tokens"][key]
            return len(theirs)

    def remove_member(self, organisation: str, user: str) -> None:
        """Raises UsageError where the user is none."""
        with self._changing() as data:
            members = data["organisations"].get(organisation.lower(), {}).get("members", [])
            if user.lower() not in members:
                raise UsageError(f"{user} is no member of {organisation}")
            members.remove(user.lower())

    def caller(self, token: str) -> Caller | None:
        """Whose token it is; None if nobody's."""
        data = self._read()
        found = data["tokens"].get(_hash(token))
        if found is None:
            return None
        user = data["users"][found["user"]]["name"]
        organisations = [org for org in data["organisations"].values() if found["user"] in org["members"]]
        names = tuple(sorted(org["name"] for org in organisations))
        return Caller(user, found["scope"], frozenset({user.lower(), *map(str.lower, names)}), names, found["name"])

    def namespaces_of(self, user: str) -> frozenset[str]:
        """The user and the organisations that they are a member of, in lower case."""
        member = user.lower()
        return frozenset(
            {member} | {key for key, org in self._read()["organisations"].items() if member in org["members"]}
        )

    def has_tokens(self) -> bool:
        return bool(self._read()["tokens"])

    def kind_of(self, name: str) -> Literal["user", "organisation"] | None:
        data = self._read()
        if name.lower() in data["users"]:
            return "user"
        return "organisation" if name.lower() in data["organisations"] else None

    def spelling(self, name: str) -> str:
        """The name as its owner spells it."""
        data = self._read()
        found = data["users"].get(name.lower()) or data["organisations"].get(name.lower())
        return str(found["name"]) if found else name

    def _claim(self, data: dict[str, Any], name: str) -> None:
        if not NAME.fullmatch(name) or name.lower() in RESERVED:
            raise UsageError(
                f"{name!r} cannot be the name of a user or an organisation",
                expected="letters, digits, '-', '_' and '.', at most 96, starting with a letter or digit",
            )
        if name.lower() in data["users"] or name.lower() in data["organisations"]:
            raise UsageError(f"the name {name} is taken", next_step="choose another one")

    def _read(self) -> dict[str, Any]:
        data: dict[str, Any] = read_record(self.file) or {"users": {}, "organisations": {}, "tokens": {}}
        return data

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        with locked(self.lock):
            data = self._read()
            yield data
            write_record(self.file, data)


def _hash(token: str) -> str:
    # The tokens are 200 random bits, so that a plain hash cannot be searched through.
    return hashlib.sha256(token.encode()).hexdigest()
