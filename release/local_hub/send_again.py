"""How content that a Hub has lost is sent again: for each blob of a repository the command of somebody who has the file.

    sending_commands(root, folder, "model slipway/demo")["ab12..."]     # hf upload slipway/demo FILE model.safetensors

Any commit's path will do, for content is stored by its hash: what is sent for one place is there for all. Where the file
stands as it was, the upload makes no commit.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from release.local_hub.repository import MAIN


def sending_commands(root: Path, folder: Path, label: str) -> dict[str, str]:
    """SHA-256 -> command, for every file of every commit that can be read. `label` is `kind org/name`.

    Of the refs that have a file main comes first, then other branches and pull requests; what only tags and history have is
    proposed in a pull request, which may be closed when it has been sent. A mirror is mirrored again.
    """
    kind, _, repo_id = label.partition(" ")
    settings, refs = (_read(folder / name) for name in ("repo.json", "refs.json"))
    source = settings.get("mirror_of")
    if isinstance(source, str):
        named = repo_id if kind == "model" else f"{kind}s/{repo_id}"
        mirror = shlex.join(["python", "-m", "release", "hub", "mirror", named, "--from", source, "--root", str(root)])
    commands: dict[str, str] = {}
    heads = refs.get("refs") if isinstance(refs.get("refs"), dict) else {}
    assert isinstance(heads, dict)
    for ref in sorted(heads, key=_rank):
        for sha256, path in _files(folder / "commits" / f"{heads[ref]}.json"):
            commands.setdefault(sha256, mirror if source else _upload(kind, repo_id, path, _option(ref)))
    for file in sorted((folder / "commits").glob("*.json")):
        for sha256, path in _files(file):
            commands.setdefault(sha256, mirror if source else _upload(kind, repo_id, path, ["--create-pr"]))
    return commands


def _rank(ref: str) -> tuple[int, str]:
    order = (MAIN, "refs/heads/", "refs/pr/")
    return next((number for number, start in enumerate(order) if ref.startswith(start)), len(order)), ref


def _option(ref: str) -> list[str]:
    """By which `hf upload` writes to this ref."""
    if ref == MAIN:
        return []
    if ref.startswith("refs/tags/"):
        return ["--create-pr"]
    return ["--revision", ref.removeprefix("refs/heads/")]


def _upload(kind: str, repo_id: str, path: str, options: list[str]) -> str:
    of_kind = [] if kind == "model" else ["--repo-type", kind]
    return shlex.join(["hf", "upload", repo_id, "FILE", path, *of_kind, *options])


def _files(commit: Path) -> list[tuple[str, str]]:
    """(SHA-256, path) of a commit's files; none where it cannot be read, which fsck reports by itself."""
    tree = _read(commit).get("tree")
    found = tree.items() if isinstance(tree, dict) else ()
    return [(str(entry["sha256"]), path) for path, entry in found if isinstance(entry, dict) and "sha256" in entry]


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
