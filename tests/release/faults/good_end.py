"""What is good: that readers saw one release or the other all along, and nothing that is not for them; and how a Hub stands
after `resume` and after `rollback`.

Each gives what is not so, in words; nothing where all is well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults.reader import Reader
from faults.world import REPO, SPACE, Scenario, files_of

from release.hub_files import HUB_OWN_FILE
from release.local_hub.repository import Repository
from release.local_hub.store import Store
from release.records import Receipt

FIRST = ["Release v1.0.0", "initial commit"]


def seen_problems(reader: Reader, scenario: Scenario) -> list[str]:
    """Of anybody, where anybody may read the release, and of those who were let in."""
    first = (
        {"nothing", "shut"}
        if scenario.gated
        else {"nothing", "old", "an empty Space"}
        if reader.member
        else {"nothing"}
    )
    others = {"other"} & set(reader.known)
    return _seen_else(reader, ({"old"} if scenario.old else first) | {"new"} | others)


def barred_problems(reader: Reader, scenario: Scenario) -> list[str]:
    """Of a reader who may see nothing of the new release, or, where it is gated, no content of its files."""
    problems = _seen_else(
        reader, ({"old"} if scenario.old else set()) | {"nothing", *(["shut"] if scenario.gated else [])}
    )
    problems += [f"a reader saw {word}" for word in sorted(reader.found)]
    for name in reader.known.keys() - {"old"}:
        files = {path: sha256 for path, sha256 in reader.known[name].items() if sha256 not in scenario.old.values()}
        given = sorted(path for path, sha256 in files.items() if sha256 in reader.contents)
        problems += [f"a reader saw the content of {', '.join(given)} of {name}"] if given else []
    return problems


def _seen_else(reader: Reader, allowed: set[str]) -> list[str]:
    problems = []
    for main, tags, space in reader.states:
        wrong = [tag for tag in tags if tag.partition(" ")[2] not in allowed]
        if main not in allowed or space not in allowed or wrong:
            problems.append(f"a reader saw main {main}, tags {tags}, Space {space}")
    return problems


def released_problems(
    store: Store, scenario: Scenario, runs: Sequence[Path], *, other: bool, booted: bool
) -> list[str]:
    """`other`: somebody else's bytes may stand there too; `booted`: the receipts of `runs` have the Space's answer."""
    repository, space = store.find("model", REPO), store.find("space", SPACE)
    if repository is None or space is None:
        return ["the repository or its Space is missing"]
    refs, main = repository.refs(), repository.resolve("main")
    content, new = _content(repository), scenario.new
    if other and content != new:
        new = files_of(scenario.other)
    receipts = [Receipt.read(run / "receipt.json") for run in runs if (run / "receipt.json").is_file()]
    wanted = ["Release v2.0.0", *FIRST] if scenario.old else FIRST
    checks = {
        "main's files": content == new,
        "history": [commit.title for commit in repository.history(main.oid)] == wanted,
        "branches": [ref for ref in refs if ref.startswith("refs/heads/")] == ["refs/heads/main"],
        "staging": _nothing_staged_apart(store),
        "tag": refs.get(f"refs/tags/{scenario.tag}") == main.oid,
        "earlier tag": not scenario.old or refs["refs/tags/v1.0.0"] == main.parent,
        "visibility": repository.private == space.private == scenario.private,
        "gate": _gate(repository) == scenario.gated,
        "Space": _served(space) == main.oid,
        "receipts": all(receipt.commit == main.oid for receipt in receipts) and bool(receipts),
        "Space's answer": all(_answered(receipt) == booted for receipt in receipts),
    }
    return [f"in the end the {name} is not right" for name, good in checks.items() if not good]


def rolled_back_problems(store: Store, scenario: Scenario) -> list[str]:
    repository, space = store.find("model", REPO), store.find("space", SPACE)
    if not scenario.old:
        seen = [item.id for item in (repository, space) if item is not None and not item.private]
        return [f"after the rollback {seen} can be seen"] if seen else []
    assert repository is not None
    assert space is not None
    refs, main = repository.refs(), repository.resolve("main")
    titles = [commit.title for commit in repository.history(main.oid)]
    # The history of a release that was closed to some stays closed to them: its files are still there to be asked for.
    closed = titles != FIRST
    checks = {
        "main's files": _content(repository) == scenario.old,
        "history": titles in (FIRST, ["Roll back to v1.0.0", "Release v2.0.0", *FIRST]),
        "branches": [ref for ref in refs if ref.startswith("refs/heads/")] == ["refs/heads/main"],
        "staging": _nothing_staged_apart(store),
        "visibility": repository.private == space.private == (closed and scenario.private),
        "gate": _gate(repository) == (closed and scenario.gated),
        "Space": _served(space) == refs["refs/tags/v1.0.0"],
    }
    return [f"after the rollback the {name} is not right" for name, good in checks.items() if not good]


def _gate(repository: Repository) -> Any:
    return repository.settings.get("gated", False)


def _nothing_staged_apart(store: Store) -> bool:
    return not any("-staging-" in repository.id for repository in store.repositories("model"))


def _content(repository: Repository) -> dict[str, str]:
    """path -> SHA-256 of the bytes that lie on the Hub's disk for main."""
    return {
        path: hashlib.sha256(repository.blobs.read(entry.sha256)).hexdigest()
        for path, entry in repository.resolve("main").tree.items()
        if path != HUB_OWN_FILE
    }


def _answered(receipt: Receipt) -> bool:
    return receipt.space is not None and receipt.space.boot is not None and bool(receipt.space.boot.answer)


def _served(space: Repository) -> str:
    entry = space.resolve("main").tree.get("space.json")
    return "" if entry is None else str(json.loads(space.blobs.read(entry.sha256))["revision"])
