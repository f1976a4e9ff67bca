"""`git clone` and `git fetch` over HTTP (git's smart protocol), read-only; large files arrive as git LFS pointers.

git clone http://127.0.0.1:8484/org/name              # datasets/org/name, spaces/org/name; with or without .git
git clone http://user:TOKEN@127.0.0.1:8484/org/name   # a private one
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from typing import IO

from starlette.responses import Response, StreamingResponse

from release.local_hub.git_store import advertisement, answer_wants
from release.local_hub.refusals import Refusal
from release.local_hub.repository import Repository
from release.local_hub.storage import BLOCK
from release.local_hub.web import Call, json_route

WANTS_LIMIT = 8 << 20  # bytes of the commits that a client names as its own
_HEADERS = {"Cache-Control": "private, no-store"}


def info_refs(call: Call) -> Response:
    """The refs. Pushing is refused: commits go through the Hub's own client."""
    repository = readable_by_git(call)
    if call.query.get("service") != "git-upload-pack":
        raise Refusal(403, "This Hub is read-only for git, and speaks its smart protocol; write with `hf upload`")
    kind = "application/x-git-upload-pack-advertisement"
    return Response(advertisement(repository), media_type=kind, headers=_HEADERS)


def upload_pack(call: Call) -> Response:
    """The objects that a client lacks, as a pack. It is made whole before the first byte of it is sent."""
    repository, body = readable_by_git(call), call.body
    if call.request.headers.get("content-encoding") in {"gzip", "x-gzip"}:
        body = _unpacked(body)
    pack = tempfile.TemporaryFile(dir=repository.blobs.incoming)  # noqa: SIM115 (closed when it has been sent)
    try:
        answer_wants(repository, body, pack)
    except BaseException:
        pack.close()
        raise
    headers = {**_HEADERS, "Content-Length": str(pack.tell())}
    return StreamingResponse(_blocks(pack), media_type="application/x-git-upload-pack-result", headers=headers)


def receive_pack(call: Call) -> Response:
    readable_by_git(call)
    raise Refusal(403, "This Hub is read-only for git; write with `hf upload`")


def readable_by_git(call: Call) -> Repository:
    """Raises 401 with the header at which git asks for a user and a password, which is a token."""
    try:
        return call.by_its_name(call.find(call.kind, call.repo_id.removesuffix(".git"), content=True))
    except Refusal as refusal:
        if refusal.status == 401:
            refusal.headers["WWW-Authenticate"] = 'Basic realm="a token of this Hub is the password"'
        raise


def _unpacked(body: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        whole = unpacking.decompress(body, WANTS_LIMIT)
    except zlib.error as error:
        raise Refusal(400, f"The body is not gzip: {error}") from error
    if unpacking.unconsumed_tail:
        raise Refusal(413, f"The body is larger than {WANTS_LIMIT} bytes", headers={"Connection": "close"})
    return whole


def _blocks(pack: IO[bytes]) -> Iterator[bytes]:
    with pack:
        pack.seek(0)
        while block := pack.read(BLOCK):
            yield block


routes = [
    route
    for base in ("/{kind:kinds}/{org}/{name}", "/{org}/{name}")
    for route in (
        json_route(f"{base}/info/refs", info_refs),
        json_route(f"{base}/git-upload-pack", upload_pack, ("POST",), limit=WANTS_LIMIT),
        json_route(f"{base}/git-receive-pack", receive_pack, ("POST",)),
    )
]
