"""Check a Hub's folder, every byte of it: blobs by their hashes, commits, refs, names, accounts; and say what is broken.

    for damage in check(Path("hub")):
        print(damage.where, damage.what, damage.affects)

Servers may run meanwhile. Nothing is changed, except by `set_aside`, which takes damaged blobs out of the way so that
whoever has the right bytes can send them again, by the command that `Damage.send_again` has.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from release.local_hub.commits import names
from release.local_hub.records import problem
from release.local_hub.routes_xet import Xorbs
from release.local_hub.send_again import sending_commands
from release.local_hub.storage import BLOCK, Blobs, pointer_of
from release.local_hub.store import FORMAT, KINDS, OWN_NAME
from release.local_hub.tree import Entry
from training.command import log
from training.counted import counted
from training.errors import UsageError

MISSING = "it is missing"
Uses = dict[str, dict[str, Entry]]  # blob -> "model org/name@commit: path" -> entry
_OID = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Damage:
    """What is broken: a path beneath the root, what is wrong with it, and which files of repositories it is part of.

    `send_again`: of content, the command by which it is mended (FILE is one's own copy).
    """

    where: str
    what: str
    affects: tuple[str, ...] = ()
    send_again: str | None = None


def check(root: Path) -> list[Damage]:
    """Everything that is broken under `root`, by path. Raises UsageError where there is no Hub."""
    if not (root / "store.json").exists():
        raise UsageError("there is no Hub", where=str(root), expected="the folder that `hub --root` was given")
    damages: list[Damage] = []
    identity = _record(root, root / "store.json", damages)
    if isinstance(identity, dict) and identity.get("format") != FORMAT:
        damages.append(Damage("store.json", f"its format is not {FORMAT}"))
    if (root / "accounts.json").exists():
        accounts = _record(root, root / "accounts.json", damages)
        if isinstance(accounts, dict) and not {"users", "organisations", "tokens"} <= accounts.keys():
            damages.append(Damage("accounts.json", "users, organisations or tokens are missing"))
    for file in sorted([*(root / "collections").glob("*.json"), *(root / "webhooks").glob("*.json")]):
        _record(root, file, damages)
    uses: Uses = defaultdict(dict)
    commands: dict[str, str] = {}
    for label, folder in _named(root, damages):
        _check_repository(root, folder, label, damages, uses)
        for sha256, command in sending_commands(root, folder, label).items():
            commands.setdefault(sha256, command)
    _check_blobs(root, damages, uses, commands)
    return sorted(damages, key=lambda damage: damage.where)


def set_aside(root: Path, damages: list[Damage]) -> list[str]:
    """Move the damaged blobs among `damages` to `damaged/`, where nothing looks for them; their names."""
    moved = []
    (root / "damaged").mkdir(exist_ok=True)
    for damage in damages:
        file = root / damage.where
        if damage.where.startswith("blobs/") and file.is_file():
            file.rename(root / "damaged" / f"{file.parent.name}{file.name}")
            moved.append(damage.where)
    if any(damage.where.startswith("blobs/") for damage in damages):  # no client may count on having sent these chunks
        for folder in sorted((root / "xet").glob("*")):
            Xorbs(folder, Blobs(root)).forget_lost()
    return moved


def how_to_mend(damages: Sequence[Damage], moved: Sequence[str]) -> str:
    """What is set aside or missing can be sent again; what still lies there would be taken for what it was."""
    gone = [damage for damage in damages if damage.where in moved or damage.what == MISSING]
    commands = list(dict.fromkeys(damage.send_again for damage in gone if damage.send_again))
    if not commands:
        return "restore them from a copy, or use --set-aside, which says how to send content again"
    listed = "".join(f"\n    {command}" for command in commands)
    return (
        f"{len(moved)} {'was' if len(moved) == 1 else 'were'} set aside; send what is gone again, with this Hub's HF_ENDPOINT and "
        f"HF_TOKEN, FILE being your own copy of it:{listed}\n  then fsck once more"
    )


def _named(root: Path, damages: list[Damage]) -> Iterator[tuple[str, Path]]:
    """Every repository that has a name: `model org/name` and its folder."""
    labels: dict[Path, str] = {}
    for kind in KINDS:
        for file in sorted((root / "names" / f"{kind}s").glob("*/*.json")):
            named = _record(root, file, damages)
            if not isinstance(named, dict) or "moved_to" in named:
                continue
            folder, label = root / "repositories" / str(named.get("folder")), f"{kind} {named.get('id')}"
            own = _record(root, folder / OWN_NAME, damages) if (folder / OWN_NAME).is_file() else None
            if isinstance(own, dict) and str(own.get("id")).lower() != str(named.get("id")).lower():
                continue  # a move that was broken off: this name leads to the other
            if not (folder / "repo.json").is_file():
                damages.append(Damage(_where(root, file), f"{folder.name} is not a repository"))
            elif folder in labels:
                damages.append(Damage(_where(root, file), f"its repository is {labels[folder]} as well", (label,)))
            else:
                labels[folder] = label
                yield label, folder


def _check_repository(root: Path, folder: Path, label: str, damages: list[Damage], uses: Uses) -> None:
    _record(root, folder / "repo.json", damages, label)
    secrets = [file for file in [folder / "runtime" / "secrets.json"] if file.is_file()]
    for file in [*sorted((folder / "discussions").glob("*.json")), *secrets]:
        _record(root, file, damages, label)
    commits = {
        file.stem: _commit(root, file, label, damages, uses) for file in sorted((folder / "commits").glob("*.json"))
    }
    for oid, parent in commits.items():
        if parent is not None and parent not in commits:
            damages.append(Damage(_where(root, folder / "commits" / f"{oid}.json"), f"its parent {parent} is missing"))
    refs = _record(root, folder / "refs.json", damages, label)
    if refs is None:
        return
    listed = refs.get("refs") if isinstance(refs, dict) else None
    if not isinstance(listed, dict):
        damages.append(Damage(_where(root, folder / "refs.json"), "it lists no refs", (label,)))
        return
    for ref, oid in listed.items():
        if oid not in commits:
            what = f"{ref} leads to commit {oid}, which is not there"
            damages.append(Damage(_where(root, folder / "refs.json"), what, (label,)))


def _commit(root: Path, file: Path, label: str, damages: list[Damage], uses: Uses) -> str | None:
    """Note which blobs a commit uses; its parent."""
    where, name = _where(root, file), f"{label}@{file.stem[:12]}"
    body = _json(root, file, damages)
    if body is None:
        return None
    if not _OID.fullmatch(file.stem) or not isinstance(body, dict) or not names(file.stem, body):
        damages.append(Damage(where, "its content is not what its name promises", (name,)))
        return None
    for path, fields in body["tree"].items():
        entry = Entry(**fields)
        uses[entry.sha256][f"{name}: {path}"] = entry
    parent: str | None = body["parent"]
    return parent


def _check_blobs(root: Path, damages: list[Damage], uses: Uses, commands: dict[str, str]) -> None:
    blobs = Blobs(root)
    there = {file.parent.name + file.name: file for file in sorted(blobs.folder.glob("*/*"))}
    log(f"checking {counted(len(there), 'blob')}")
    for sha256, file in there.items():
        users = uses.get(sha256, {})
        try:
            wrong = _wrong(file, sha256, list(users.values()))
        except FileNotFoundError:
            continue  # `hub gc` removed it meanwhile
        if wrong:
            damages.append(Damage(_where(root, file), wrong, tuple(sorted(users)), commands.get(sha256)))
    for sha256, users in uses.items():
        if sha256 not in there:
            where = f"blobs/{sha256[:2]}/{sha256[2:]}"
            damages.append(Damage(where, MISSING, tuple(sorted(users)), commands.get(sha256)))


def _wrong(file: Path, sha256: str, entries: list[Entry]) -> str | None:
    """What is wrong with a blob, or with what commits say of it."""
    size = file.stat().st_size
    digest, git = hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)
    is_regular = any(not entry.lfs for entry in entries)
    with file.open("rb") as opened:
        while block := opened.read(BLOCK):
            digest.update(block)
            if is_regular:
                git.update(block)
    if digest.hexdigest() != sha256:
        return f"its SHA-256 is {digest.hexdigest()}"
    for entry in entries:
        pointer = pointer_of(sha256, size)
        large = hashlib.sha1(f"blob {len(pointer)}\0".encode() + pointer, usedforsecurity=False).hexdigest()
        if entry.size != size or entry.oid != (large if entry.lfs else git.hexdigest()):
            return "a commit says another size or git id of it"
    return None


def _json(root: Path, file: Path, damages: list[Damage]) -> Any:
    """The file's value; None, and a note, where it cannot be read."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        damages.append(Damage(_where(root, file), f"it cannot be read: {error}"))
        return None


def _record(root: Path, file: Path, damages: list[Damage], label: str | None = None) -> Any:
    """A record's value, as far as it can be read; a note where its bytes are not what was written (records.py)."""
    affects = (label,) if label else ()
    try:
        raw = file.read_bytes()
    except OSError as error:
        damages.append(Damage(_where(root, file), f"it cannot be read: {error}", affects))
        return None
    wrong = problem(raw)
    if wrong:
        damages.append(Damage(_where(root, file), wrong, affects))
        return None
    return json.loads(raw)


def _where(root: Path, file: Path) -> str:
    return file.relative_to(root).as_posix()
