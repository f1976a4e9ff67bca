"""Commits over HTTP: which way each file should travel (preupload), and the commit itself, read line by line."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from release.local_hub.bodies import body_blocks
from release.local_hub.card_check import check_card
from release.local_hub.commits import Commit
from release.local_hub.discussions import open_pull_request, opened_by
from release.local_hub.fields import objects, parsed, text
from release.local_hub.refusals import Moved, Refusal, RevisionNotFound
from release.local_hub.repository import Repository
from release.local_hub.starting_files import MATCHES_LIMIT, RULES_LIMIT, Ignored, is_large
from release.local_hub.tree import Change, Delete, Put, checked_path, large, regular
from release.local_hub.web import Call, json_route, stream_route
from release.local_hub.webhook_events import announce

LINE_LIMIT = 64 << 20  # bytes of one operation; a regular file travels within its line
COMMIT_LIMIT = 4 << 30  # bytes of a whole commit's text
OPERATIONS_LIMIT = 25_000
POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-[^\n]*\n)*oid sha256:([0-9a-f]{64})\nsize ([0-9]{1,18})\n?"
)
PREUPLOAD_LIMIT = 16 << 20  # bytes; each of at most 256 files brings a sample


def pushable(call: Call) -> Repository:
    """The repository, if the caller may commit to the revision in the path.

    Everyone who may read it may open a pull request (`create_pr`), and push to those that they opened.
    """
    proposes = call.query.get("create_pr") in {"1", "true"}
    if not proposes:
        proposes = opened_by(call.repository(), call.param("revision"), call.caller.user)
    repository = call.repository(write=not proposes)
    call.require_write_token(f"commit to {repository.kind} {repository.id}")
    return repository


def preupload(call: Call) -> Response:
    """For each file: `lfs` or `regular`, whether .gitignore skips it, and what stands there now."""
    repository = pushable(call)
    commit = repository.resolve(call.param("revision"))
    asked = call.json()
    attributes = _small_text(repository, commit, ".gitattributes")
    ignore = asked.get("gitIgnore")
    ignored = Ignored(ignore if isinstance(ignore, str) else _small_text(repository, commit, ".gitignore"))
    answers = []
    files = objects(asked, "files")
    if len(files) * attributes.count("\n") > MATCHES_LIMIT:
        raise Refusal(400, "The .gitattributes have so many lines that fewer files can be asked about at once")
    for file in files:
        try:
            path, size, sample = checked_path(file["path"]), int(file["size"]), base64.b64decode(file["sample"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise Refusal(400, "A file of a preupload has path, size and sample") from error
        now = commit.tree.get(path)
        answers.append(
            {
                "path": path,
                "uploadMode": "lfs" if is_large(path, size, sample, attributes) else "regular",
                "shouldIgnore": ignored(path),
                # None for content that was lost: the client, told that its file stands here, would not send it.
                "oid": now.etag if now and repository.blobs.has(now.sha256, now.size) else None,
            }
        )
    return JSONResponse({"files": answers, "commitOid": commit.oid})


def _small_text(repository: Repository, commit: Commit, path: str) -> str:
    entry = commit.tree.get(path)
    here = entry is not None and repository.blobs.has(entry.sha256)
    return repository.blobs.read(entry.sha256, RULES_LIMIT).decode(errors="replace") if entry and here else ""


async def commit(call: Call) -> Response:
    """Newline-separated JSON: a header, then file, lfsFile, deletedFile and deletedFolder operations."""
    try:
        draft = await run_in_threadpool(Draft, call)
    except Moved:
        async for _ in body_blocks(call.request, COMMIT_LIMIT):
            pass  # a client that is answered in mid-sentence may not read where to
        raise
    try:
        async for lines in _lines(call):
            await run_in_threadpool(draft.add_all, lines)
        return await run_in_threadpool(draft.finish)
    finally:
        await run_in_threadpool(draft.close)


async def _lines(call: Call) -> AsyncIterator[list[bytes]]:
    """The lines that each block of the body completes: a hop to another thread for each would cost more than its work."""
    waiting = b""
    async for block in body_blocks(call.request, COMMIT_LIMIT):
        *lines, waiting = (waiting + block).split(b"\n")
        yield lines
        if len(waiting) > LINE_LIMIT:
            raise Refusal(413, "An operation is too large; send the file through LFS", headers={"Connection": "close"})
    yield [waiting]


class Draft:
    """The commit that a request is describing. Its files are stored as they arrive; nobody sees them until `finish`."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.creates_pr = call.query.get("create_pr") in {"1", "true"}
        self.repository, self.user = pushable(call), call.require_user()
        self.ref = self._branch(call.param("revision"))
        self.header: dict[str, Any] | None = None
        self.changes: list[Change] = []
        self.small_files = self.repository.blobs.batch()

    def close(self) -> None:
        """Remove what was not finished."""
        self.small_files.__exit__()

    def _branch(self, revision: str) -> str:
        refs = self.repository.refs()
        for ref in (f"refs/heads/{revision}", revision):
            if ref in refs and not ref.startswith("refs/tags/"):
                return ref
        if not refs and revision == "main":
            return "refs/heads/main"
        raise RevisionNotFound(revision)

    def add_all(self, lines: list[bytes]) -> None:
        for line in lines:
            self.add(line)

    def add(self, line: bytes) -> None:
        """Take in one line."""
        if not line.strip():
            return
        try:
            operation = json.loads(line)
            key, value = operation["key"], operation["value"]
            if not isinstance(value, dict):
                raise TypeError("value")
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Refusal(400, "Each line of a commit is an object with key and value") from error
        if key == "header":
            self.header = parsed(json.dumps(value).encode())
            return
        if len(self.changes) >= OPERATIONS_LIMIT:
            raise Refusal(413, f"A commit has at most {OPERATIONS_LIMIT} operations", headers={"Connection": "close"})
        self.changes.append(self._change(str(key), value))

    def _change(self, key: str, value: dict[str, Any]) -> Change:
        if key in ("deletedFile", "deletedFolder"):  # also of names that were taken once and would not be now
            return Delete(str(value.get("path")), folder=key == "deletedFolder")
        path = checked_path(value.get("path"))
        if key == "file":
            content = _decoded(value)
            if path == "README.md":
                self._refuse_bad_card(content)
            if (
                pointer := POINTER.fullmatch(content)
            ) is not None:  # what git takes for a large file is one, or none at all
                named = {"oid": pointer[1].decode(), "size": int(pointer[2])}
                return Put(path, large(*self._stored(path, named)))
            return Put(path, regular(self.small_files, content))
        if key == "lfsFile":
            return Put(path, large(*self._stored(path, value)))
        raise Refusal(400, f"Unknown operation {key[:40]!r}")

    def _stored(self, path: str, value: dict[str, Any]) -> tuple[str, int]:
        """The uploaded content that an lfsFile names, if the caller sent it or the repository has it."""
        oid, size, blobs = str(value.get("oid")), value.get("size"), self.repository.blobs
        try:
            stored = blobs.path(oid).stat().st_size
        except (ValueError, FileNotFoundError):
            stored = -1
        if stored >= 0 and (size is None or size == stored) and may_use(self.call, self.repository, oid):
            blobs.keep(oid)
            return oid, stored
        raise Refusal(422, f"The content of {path} (oid {oid[:64]}) has not been uploaded, or has another size")

    def _refuse_bad_card(self, content: bytes) -> None:
        errors, _ = check_card(content.decode(errors="replace"), self.repository.kind)
        if errors:
            raise Refusal(400, "Invalid metadata in README.md: " + "; ".join(errors))

    def finish(self) -> Response:
        """Make the commit visible, or refuse it as a whole."""
        header = self.header or {}
        title, message, parent = (text(header, key) for key in ("summary", "description", "parentCommit"))
        if not title or not title.strip():
            raise Refusal(400, "A commit begins with a header that has a summary")
        details = {"author": self.user, "title": title[:1000], "message": (message or "")[:65536]}
        url = self.call.web_url(self.repository)
        answer: dict[str, Any] = {"success": True, "hookOutput": ""}
        self.small_files.finish()
        if self.creates_pr:
            number, made = open_pull_request(self.repository, self.ref, self.changes, parent=parent, **details)
            answer["pullRequestUrl"] = f"{url}/discussions/{number}"
            moved: list[tuple[str, str | None, str]] = [(f"refs/pr/{number}", None, made.oid)]
            announce(self.call, self.repository, "create", "discussion", number=number)
        else:
            before = self.repository.refs().get(self.ref)
            made = self.repository.commit(self.ref, self.changes, parent=parent, **details)
            moved = [(self.ref, made.parent, made.oid)] if made.oid != before else []
        if moved:
            announce(self.call, self.repository, "update", "repo.content", refs=moved)
        return JSONResponse({**answer, "commitUrl": f"{url}/commit/{made.oid}", "commitOid": made.oid})


def _decoded(value: dict[str, Any]) -> bytes:
    content = value.get("content")
    if not isinstance(content, str):
        raise Refusal(400, "A file operation has content")
    if value.get("encoding") != "base64":
        return content.encode(errors="replace")
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Refusal(400, "The content of a file is not base64") from error


def may_use(call: Call, repository: Repository, sha256: str) -> bool:
    """Whether the caller sent these bytes, or the repository's branches hold them already."""
    if call.caller.user is not None and call.store.holds(call.caller.user, sha256):
        return True
    heads = set(repository.refs().values())
    return any(entry.sha256 == sha256 for oid in heads for entry in repository.commit_of(oid).tree.values())


def duplicate_large_files(call: Call) -> Response:
    """Let a copy between repositories use the source's large files without sending them again."""
    source, asked = call.repository(content=True), call.json()
    target = asked.get("target")
    kind, repo_id = (text(target, key) for key in ("type", "name")) if isinstance(target, dict) else (None, None)
    call.find(kind or "model", repo_id or "", write=True)
    user, failed = call.require_user(), []
    here = {entry.sha256 for oid in set(source.refs().values()) for entry in source.commit_of(oid).tree.values()}
    for file in objects(asked, "files"):
        if (sha256 := text(file, "sha256") or "") in here:
            call.store.mark_held(user, sha256)
        else:
            failed.append({"sha256": sha256, "error": "not in this repository"})
    return JSONResponse({"failed": failed})


_REPO = "/api/{kind:kinds}/{org}/{name}"
routes = [
    json_route(f"{_REPO}/preupload/{{revision}}", preupload, ("POST",), limit=PREUPLOAD_LIMIT),
    stream_route(f"{_REPO}/commit/{{revision}}", commit, ("POST",)),
    json_route(f"{_REPO}/lfs-files/duplicate", duplicate_large_files, ("POST",)),
]
