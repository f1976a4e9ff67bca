"""Xet uploads: accept chunks and the description of files made of them, check each file's SHA-256, store it whole.

Downloads do not use Xet: no answer carries X-Xet-Hash. A stock client cannot be told not to use it for uploads.
Every user has a content store of their own, so that nobody's chunks can stand in for another's. Clients remember, for an
address, which chunks they have sent there: so it is made of the store's UUID, and there is a new one when chunks are no
longer here (the Hub was restored from a copy, or `hub gc` removed them).
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from release.local_hub.accounts import NAME
from release.local_hub.bodies import body_blocks, written
from release.local_hub.callers import bearer_token
from release.local_hub.refusals import Refusal
from release.local_hub.routes_commit import pushable
from release.local_hub.storage import Blobs, fsync_path, locked, read_json, write_json
from release.local_hub.store import Store
from release.local_hub.web import Call, json_route
from release.local_hub.xet_format import (
    ChunkHeader,
    Segment,
    ShardFile,
    XetError,
    chunk_headers,
    files_of_shard,
    unpack,
)

XORB_LIMIT = 80 << 20  # bytes; the protocol's own limit is 64 MiB
SHARD_LIMIT = 128 << 20  # bytes; the protocol's own limit is 64 MiB
# What a file may unpack to: LZ4 makes at most 255 bytes of one, and a shard needs 48 for each run of chunks of at most 128 KiB.
# More is only repetition of the same chunks, for which no file is known; Xet's own server stores none of it, this one all.
PER_STORED_BYTE, PER_SHARD_BYTE, ALWAYS = 256, 4096, 64 << 20
LAYOUTS = 64  # xorbs whose chunks are held in memory at a time
TOKEN_LIFETIME = 3600.0  # seconds
GENERATIONS = "generations"  # a file beside a user's xorbs
_HASH = re.compile(r"[0-9a-f]{64}")

Place = tuple[str, int, int]  # blob, offset, length


def token(call: Call) -> Response:
    """Where to upload, and a short-lived token for it."""
    writes = "/xet-write-token" in call.request.scope["path"]
    if writes:
        pushable(call)
    else:
        call.repository(content=True)
    user = call.require_user()
    signature = call.store.sign("xet", user, call.caller.scope or "read", lifetime=TOKEN_LIFETIME)
    address = f"{call.endpoint}/xet/{_addresses(call.store, user)[-1]}"
    access, expiry = f"{user}:{call.caller.scope}:{signature}", signature.partition("-")[0]
    return JSONResponse(
        {"casUrl": address, "accessToken": access, "exp": int(expiry)},
        headers={"X-Xet-Cas-Url": address, "X-Xet-Access-Token": access, "X-Xet-Token-Expiration": expiry},
    )


def _uploader(request: Request) -> str:
    """The user of the access token. Raises 401 unless it may write to this content store."""
    store: Store = request.app.state.store
    user, _, rest = (bearer_token(request) or "").partition(":")
    scope, _, signature = rest.partition(":")
    known = scope == "write" and store.signed(signature, "xet", user, scope)
    if not known or request.path_params["cas"] not in _addresses(store, user):
        raise Refusal(401, "The Xet access token is not valid, or has expired")
    return user


def _addresses(store: Store, user: str) -> list[str]:
    """Of the user's content store, the newest last. Those before still lead there: an upload may be under way."""
    generations = read_json(store.root / "xet" / user.lower() / GENERATIONS, []) if NAME.fullmatch(user) else []
    return [str(uuid.uuid5(uuid.UUID(store.uuid), user.lower() + generation)) for generation in ["", *generations]]


def _folder(store: Store, user: str) -> Path:
    folder = store.root / "xet" / user.lower()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


async def upload_xorb(request: Request) -> Response:
    """Take in a xorb. It is not checked against its hash: what counts is the SHA-256 of the files made of it."""
    user, store = await run_in_threadpool(_uploader, request), request.app.state.store
    name = str(request.path_params["hash"])
    if not _HASH.fullmatch(name):
        raise Refusal(400, "Not a xorb's hash")
    xorbs = Xorbs(_folder(store, user), store.blobs)
    if await run_in_threadpool(xorbs.has, name):
        return JSONResponse({"was_inserted": False})
    temporary = store.blobs.incoming / uuid.uuid4().hex
    try:
        with await run_in_threadpool(temporary.open, "wb") as file:
            await written(file.write, body_blocks(request, XORB_LIMIT))
        await run_in_threadpool(xorbs.add, name, temporary)
    except XetError as error:
        raise Refusal(400, f"Not a xorb: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return JSONResponse({"was_inserted": True})


async def upload_shard(request: Request) -> Response:
    """Make the files that a shard describes."""
    user = await run_in_threadpool(_uploader, request)
    shard = b"".join([block async for block in body_blocks(request, SHARD_LIMIT)])
    store: Store = request.app.state.store
    try:
        await run_in_threadpool(make_files, store, Xorbs(_folder(store, user), store.blobs), user, shard)
    except XetError as error:
        raise Refusal(400, f"The shard was refused: {error}") from error
    return JSONResponse({"result": 1})


def make_files(store: Store, xorbs: Xorbs, user: str, shard: bytes) -> None:
    """Write every file of the shard as a blob of the user's. Raises XetError if a file is not what it should be, Refusal where it
    is larger than this Hub takes or has room for: before a byte of it is written."""
    places: dict[str, dict[int, Place]] = {}
    for file in files_of_shard(shard):
        if file.sha256 is None or not _HASH.fullmatch(file.sha256):
            raise XetError("a file comes without its SHA-256")
        try:
            _check_size(store, xorbs, file, len(shard))
            _make_file(store, xorbs, file, places)
        except ChunksGone:
            xorbs.forget({segment.xorb for segment in file.segments})
            raise
        store.mark_held(user, file.sha256)
    for name, chunks in places.items():
        xorbs.forget_bytes(name, chunks)


def _check_size(store: Store, xorbs: Xorbs, file: ShardFile, shard_size: int) -> None:
    """Hold what a file says of its size against its chunks, this Hub's limit, what may come of so few bytes, and the disk."""
    for segment in file.segments:
        found = xorbs.size_of(segment)
        if found != segment.size:
            raise XetError(f"a segment has {found} bytes, not {segment.size}")
    size = sum(segment.size for segment in file.segments)
    if size > store.largest_file:
        raise Refusal(413, f"A file of {size} bytes is larger than the {store.largest_file} that this Hub takes")
    stored = sum(xorbs.stored(name) for name in {segment.xorb for segment in file.segments})
    if size > max(ALWAYS, PER_STORED_BYTE * stored + PER_SHARD_BYTE * shard_size):
        raise XetError(f"{stored} bytes that were sent would make a file of {size}; send it over LFS")
    if size > shutil.disk_usage(store.root).free:
        raise Refusal(507, f"There is no room on the Hub's disk for a file of {size} bytes; nothing of it was stored")


def _make_file(store: Store, xorbs: Xorbs, file: ShardFile, places: dict[str, dict[int, Place]]) -> None:
    assert file.sha256 is not None
    with store.blobs.writer() as writer:
        for segment in file.segments:
            end = writer.size + segment.size
            for number, chunk in xorbs.chunks(segment):
                if writer.size + len(chunk) > end:
                    raise XetError(f"a segment has more than {segment.size} bytes")
                place = (file.sha256, writer.size, len(chunk))
                places.setdefault(segment.xorb, {})[number] = place
                writer.write(chunk)
            if writer.size != end:
                raise XetError(f"a segment has {end - writer.size} bytes less than {segment.size}")
        if writer.sha256 != file.sha256:
            raise ChunksGone(f"a file has SHA-256 {writer.sha256}, not {file.sha256}")
        writer.finish()


class ChunksGone(XetError):
    """The client counts on chunks that are not here, or not as it sent them."""


@dataclass(frozen=True)
class _Layout:
    """Of a xorb: the sizes of its chunks and how many bytes are kept; where they lie in it, or in files that were made of them."""

    sizes: tuple[int, ...]
    stored: int
    headers: tuple[ChunkHeader, ...]
    places: tuple[Place, ...]


class Xorbs:
    """One user's xorbs. Once all chunks of one stand in stored files, only a note of where they stand is kept."""

    def __init__(self, folder: Path, blobs: Blobs) -> None:
        self.folder, self.blobs = folder, blobs
        self._layout = lru_cache(LAYOUTS)(self._read_layout)  # a shard may name the same xorb a million times

    def has(self, name: str) -> bool:
        return (self.folder / name).is_file() or (self.folder / f"{name}.json").is_file()

    def add(self, name: str, temporary: Path) -> None:
        """Keep a xorb that lies in a temporary file. Raises XetError."""
        with temporary.open("rb+") as file:
            chunk_headers(file)
            os.fsync(file.fileno())
        temporary.replace(self.folder / name)
        fsync_path(self.folder)

    def size_of(self, segment: Segment) -> int:
        """To how many bytes a segment unpacks, by what its xorb says of its chunks. Raises XetError."""
        sizes = self._layout(segment.xorb).sizes
        numbers = _numbers(segment, len(sizes))
        return sum(sizes[numbers.start : numbers.stop])

    def stored(self, name: str) -> int:
        """How many bytes are kept of a xorb: as it was sent, or what its chunks are in files. Raises XetError."""
        return self._layout(name).stored

    def _read_layout(self, name: str) -> _Layout:
        try:
            with (self.folder / name).open("rb") as file:
                headers = chunk_headers(file)
                return _Layout(tuple(header.size for header in headers), file.seek(0, 2), tuple(headers), ())
        except FileNotFoundError:
            places: list[Place] | None = read_json(self.folder / f"{name}.json")
        if places is None:
            raise ChunksGone(f"xorb {name} has not been uploaded")
        sizes = tuple(length for _, _, length in places)
        return _Layout(sizes, sum(sizes), (), tuple((blob, offset, length) for blob, offset, length in places))

    def chunks(self, segment: Segment) -> Iterator[tuple[int, bytes]]:
        """The chunks of a segment with their numbers. Raises XetError."""
        layout = self._layout(segment.xorb)
        if layout.headers:
            try:
                file = (self.folder / segment.xorb).open("rb")
            except FileNotFoundError:  # another upload has just made files of all its chunks
                layout = self._read_layout(segment.xorb)
            else:
                with file:
                    for number in _numbers(segment, len(layout.headers)):
                        yield number, _read_chunk(file, layout.headers[number])
                return
        for number in _numbers(segment, len(layout.places)):
            blob, offset, length = layout.places[number]
            try:
                with self.blobs.path(blob).open("rb") as stored:
                    stored.seek(offset)
                    yield number, stored.read(length)
            except FileNotFoundError as error:
                raise ChunksGone(f"xorb {segment.xorb} is not here any more") from error

    def forget(self, names: Iterable[str]) -> None:
        """Let xorbs be sent again: under a new address, since clients would not send them to this one."""
        with locked(self.folder / f"{GENERATIONS}.lock"):
            write_json(self.folder / GENERATIONS, [*read_json(self.folder / GENERATIONS, [])[-20:], uuid.uuid4().hex])
        for name in names:  # a xorb whose bytes are here stays: it may be the file's description that was wrong
            (self.folder / f"{name}.json").unlink(missing_ok=True)

    def forget_lost(self, horizon: float = 0.0) -> None:
        """Forget xorbs whose chunks stood in files that are gone, and those from before `horizon` that no file was made of."""
        lost = set()
        for path in self.folder.iterdir():
            if path.suffix == ".json":
                if not all(self.blobs.has(blob) for blob, _, _ in read_json(path, [])):
                    lost.add(path.stem)
            elif _HASH.fullmatch(path.name) and path.stat().st_mtime < horizon:
                lost.add(path.name)
        if lost:
            self.forget(lost)
            for name in lost:
                (self.folder / name).unlink(missing_ok=True)

    def forget_bytes(self, name: str, chunks: dict[int, Place]) -> None:
        """Replace a xorb by the places of its chunks, if all are known; otherwise it stays as it is."""
        path = self.folder / name
        try:
            with path.open("rb") as file:
                count = len(chunk_headers(file))
        except FileNotFoundError:
            return
        if len(chunks) == count:
            write_json(self.folder / f"{name}.json", [chunks[number] for number in range(count)])
            path.unlink(missing_ok=True)


def _numbers(segment: Segment, count: int) -> range:
    if not segment.start < segment.end <= count:
        raise XetError(f"chunks {segment.start} to {segment.end} of a xorb that has {count}")
    return range(segment.start, segment.end)


def _read_chunk(file: Any, header: ChunkHeader) -> bytes:
    file.seek(header.offset)
    return unpack(file.read(header.compressed), header)


async def not_offered(_: Request) -> Response:
    """Deduplication across stores, upload grants and newer addresses: clients do without them after a 404."""
    raise Refusal(404, "This content store does not offer this address")


_REPO = "/api/{kind:kinds}/{org}/{name}"
routes = [
    json_route(f"{_REPO}/xet-write-token/{{revision}}", token),
    json_route(f"{_REPO}/xet-read-token/{{revision}}", token),
    Route("/xet/{cas}/v1/xorbs/{prefix}/{hash}", upload_xorb, methods=["POST"]),
    Route("/xet/{cas}/v1/shards", upload_shard, methods=["POST"]),
    Route("/xet/{rest:path}", not_offered, methods=["GET", "HEAD", "POST", "PUT"]),
]
