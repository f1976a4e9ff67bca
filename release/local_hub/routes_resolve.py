"""Files at a revision, whole or in ranges, with the headers from which clients build their caches.

What a repository contains is somebody else's work: it is served so that a browser never runs it in this origin.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import quote

from starlette.responses import Response, StreamingResponse

from release.local_hub.answers import RESOURCE_POLICY
from release.local_hub.refusals import ContentGone, EntryNotFound
from release.local_hub.storage import BLOCK
from release.local_hub.tree import Entry
from release.local_hub.web import Call, json_route

# Shown by a browser in a card; everything else is text or a download.
IMAGES = {".png", ".jpg", ".jpeg", ".gif", ".webp", ".svg", ".avif"}
TEXTS = {".md", ".txt", ".json", ".jsonl", ".yaml", ".yml", ".py", ".html", ".htm", ".xhtml", ".js", ".css", ".toml"}
SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


def resolve(call: Call) -> Response:
    """GET and HEAD of a file."""
    repository = call.repository(content=True)
    commit, path = repository.resolve(call.param("revision")), call.param("path")
    entry = commit.tree.get(path)
    if entry is None:
        raise EntryNotFound(path, commit.oid)
    if not repository.blobs.has(entry.sha256, entry.size):
        raise ContentGone(f"{path} of {repository.kind} {repository.id}")
    headers = {
        "X-Repo-Commit": commit.oid,
        "ETag": f'"{entry.etag}"',
        "Accept-Ranges": "bytes",
        "Last-Modified": formatdate(repository.blobs.path(entry.sha256).stat().st_mtime, usegmt=True),
        "Access-Control-Expose-Headers": "X-Repo-Commit, ETag, X-Linked-ETag, X-Linked-Size",
        **_safety(path, download="download" in call.query),
    }
    if entry.lfs:
        headers |= {"X-Linked-ETag": f'"{entry.sha256}"', "X-Linked-Size": str(entry.size)}
    if repository.private or repository.settings.get("gated"):
        headers["Cache-Control"] = "private, no-store"
    else:
        headers[RESOURCE_POLICY] = "cross-origin"
    return content(call, repository.blobs.path(entry.sha256), entry, headers)


def _safety(path: str, *, download: bool) -> dict[str, str]:
    suffix, name = Path(path).suffix.lower(), path.rsplit("/", 1)[-1]
    if suffix in IMAGES and not download:
        kind, disposition = mimetypes.guess_type(name)[0] or "application/octet-stream", "inline"
    elif (suffix in TEXTS or not suffix) and not download:
        kind, disposition = "text/plain; charset=utf-8", "inline"
    else:
        kind, disposition = "application/octet-stream", "attachment"
    return {
        "Content-Type": kind,
        "Content-Disposition": f"{disposition}; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": SANDBOX,
        "X-Content-Type-Options": "nosniff",
    }


def content(call: Call, file: Path, entry: Entry, headers: dict[str, str]) -> Response:
    """The bytes of a file, or the range of them that was asked for, under these headers (ETag among them)."""
    request = call.request
    wanted = [tag.strip() for tag in request.headers.get("if-match", "*").split(",")]
    if headers["ETag"] not in wanted and wanted != ["*"]:  # compared strongly, RFC 9110, 13.1.1
        return Response(status_code=412, headers=headers)
    known = [tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")]
    if headers["ETag"] in known or known == ["*"]:  # compared weakly, RFC 9110, 13.1.2
        return Response(status_code=304, headers=headers)
    start, end, status = 0, entry.size, 200
    asked = request.headers.get("range")
    if asked and request.headers.get("if-range", headers["ETag"]) == headers["ETag"]:
        found = _RANGE.fullmatch(asked.strip())
        if found and (found.group(1) or found.group(2)):
            status, (start, end) = 206, _bounds(found.group(1), found.group(2), entry.size)
            if start >= end:
                return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{entry.size}"})
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{entry.size}"
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)
    return StreamingResponse(_blocks(file, start, end), status, headers)


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """A range header's numbers as a half-open interval; it is empty when the range cannot be satisfied."""
    if not first:  # the last N bytes
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size


def _blocks(file: Path, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a range. Opened for each block: of a reader who goes away in between, nothing stays open."""
    while start < end:
        with file.open("rb") as opened:
            opened.seek(start)
            block = opened.read(min(BLOCK, end - start))
        if not block:
            return
        start += len(block)
        yield block


routes = [
    json_route("/{kind:kinds}/{org}/{name}/resolve/{revision}/{path:path}", resolve, ("GET", "HEAD")),
    json_route("/{org}/{name}/resolve/{revision}/{path:path}", resolve, ("GET", "HEAD")),
    json_route("/{kind:kinds}/{org}/{name}/raw/{revision}/{path:path}", resolve, ("GET", "HEAD")),
    json_route("/{org}/{name}/raw/{revision}/{path:path}", resolve, ("GET", "HEAD")),
]
