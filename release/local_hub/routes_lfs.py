"""Large files over git LFS: the batch answer, uploads in one piece or in parts, and their verification.

Uploads go to signed addresses, for clients send no token there. Bytes are hashed while they are written, in constant
memory, and only content that has the promised SHA-256 is stored.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse, Response

from release.local_hub.bodies import body_blocks, written
from release.local_hub.fields import Fields, items, objects, whole_number
from release.local_hub.refusals import ContentGone, Refusal
from release.local_hub.repository import Repository
from release.local_hub.routes_commit import may_use
from release.local_hub.routes_git import readable_by_git
from release.local_hub.routes_resolve import content
from release.local_hub.storage import BLOCK
from release.local_hub.tree import large
from release.local_hub.web import Call, json_route, stream_route

MULTIPART_FROM = 5 << 30  # bytes; below, one PUT: parts are written and hashed twice
PART_SIZE = 64 << 20  # bytes
BATCH_LIMIT = 1000
_SHA256 = re.compile(r"[0-9a-f]{64}")
_UPLOAD = re.compile(r"[0-9a-f]{32}")


def batch(call: Call) -> Response:
    """Upload instructions for each object; none for what is there already. For `git lfs`, addresses to download from."""
    repository, asked = readable_by_git(call), call.json()
    wanted = objects(asked, "objects")
    if asked.get("operation") not in ("upload", "download") or "objects" not in asked or len(wanted) > BATCH_LIMIT:
        raise Refusal(422, f"This Hub answers LFS batches of at most {BATCH_LIMIT} uploads or downloads")
    if asked["operation"] == "download":
        return _downloads(call, repository, wanted)
    # Whoever may read may propose. The bytes are held for this user, and it is the commit that says where they may go.
    user = call.require_write_token("upload")
    multipart = "multipart" in items(asked, "transfers")
    answers = []
    for item in wanted:
        oid, size = str(item.get("oid")), item.get("size")
        if not _SHA256.fullmatch(oid) or not isinstance(size, int) or not 0 <= size <= call.store.largest_file:
            limit = f"a number of bytes, at most {call.store.largest_file}"
            problem = {"code": 422, "message": f"The oid must be a SHA-256 and the size {limit}"}
            answers.append({"oid": oid, "size": size if isinstance(size, int) else 0, "error": problem})
        elif call.store.blobs.has(oid, size) and may_use(call, repository, oid) and call.store.blobs.keep(oid):
            answers.append({"oid": oid, "size": size})
        else:
            verify = {"href": f"{call.endpoint}/lfs/verify"}
            upload = _upload_action(call, user, oid, size, in_parts=multipart and size >= MULTIPART_FROM)
            answers.append({"oid": oid, "size": size, "authenticated": True, "actions": {**upload, "verify": verify}})
    return _batch_answer("multipart" if any("chunk_size" in str(answer) for answer in answers) else "basic", answers)


def _batch_answer(transfer: str, answers: list[dict[str, Any]]) -> Response:
    answer = {"transfer": transfer, "objects": answers, "hash_algo": "sha256"}
    return JSONResponse(answer, media_type="application/vnd.git-lfs+json")


def _downloads(call: Call, repository: Repository, asked: list[Fields]) -> Response:
    """Signed addresses of those objects that a commit of the repository holds, whichever branch leads to it."""
    answers: list[dict[str, Any]] = []
    wanted = {str(item.get("oid")): item.get("size") for item in asked}
    heads = set(repository.refs().values())
    history = (commit for head in heads for commit in repository.history(head))
    held = {entry.sha256: entry.size for commit in history for entry in commit.tree.values() if entry.lfs}
    for oid, size in wanted.items():
        if oid in held and held[oid] == size:
            href = f"{call.endpoint}/lfs/{oid}?size={size}&signature={call.store.sign('lfs-get', oid, str(size), '')}"
            answers.append({"oid": oid, "size": size, "authenticated": True, "actions": {"download": {"href": href}}})
        else:
            problem = {"code": 404, "message": "No commit of this repository holds it"}
            answers.append({"oid": oid, "size": size, "error": problem})
    return _batch_answer("basic", answers)


def download(call: Call) -> Response:
    """The bytes behind a signed address."""
    oid, size, _ = _checked(call, "lfs-get")
    if not call.store.blobs.has(oid, size):
        raise ContentGone(f"sha256 {oid}")
    entry = large(oid, size)
    headers = {"ETag": f'"{oid}"', "Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
    return content(call, call.store.blobs.path(oid), entry, headers | {"Cache-Control": "private, no-store"})


def _upload_action(call: Call, user: str, oid: str, size: int, *, in_parts: bool) -> dict[str, Any]:
    if not in_parts:
        signature = call.store.sign("lfs", oid, str(size), user)
        return {"upload": {"href": f"{call.endpoint}/lfs/{oid}?size={size}&user={quote(user)}&signature={signature}"}}
    upload = uuid.uuid4().hex
    signature = call.store.sign("lfs-parts", oid, str(size), user, upload)
    query = f"size={size}&user={quote(user)}&upload={upload}&signature={signature}"
    count = -(-size // PART_SIZE)
    parts = {f"{number:05}": f"{call.endpoint}/lfs/{oid}/parts/{number}?{query}" for number in range(1, count + 1)}
    header = {"chunk_size": str(PART_SIZE), **parts}
    return {"upload": {"href": f"{call.endpoint}/lfs/{oid}/complete?{query}", "header": header}}


def _checked(call: Call, purpose: str, *extra: str) -> tuple[str, int, str]:
    """oid, size and user of a signed address. Raises 403 if it was not signed here or has expired."""
    oid, size, user = call.param("oid"), call.query.get("size", ""), call.query.get("user", "")
    if not call.store.signed(call.query.get("signature", ""), purpose, oid, size, user, *extra):
        raise Refusal(403, "This upload address is not valid, or has expired; ask for a new one")
    return oid, int(size), user


async def upload_whole(call: Call) -> Response:
    """PUT of a whole file."""
    oid, size, user = _checked(call, "lfs")
    with await run_in_threadpool(call.store.blobs.writer) as writer:
        await written(writer.write, body_blocks(call.request, size))
        _refuse_other_content(oid, writer.sha256, size, writer.size)
        await run_in_threadpool(writer.finish)
    await run_in_threadpool(call.store.mark_held, user, oid)
    return Response(status_code=200, headers={"ETag": f'"{oid}"'})


def _refuse_other_content(oid: str, found: str, size: int, found_size: int) -> None:
    if (oid, size) != (found, found_size):
        raise Refusal(400, f"The content has SHA-256 {found} and {found_size} bytes, not {oid} and {size}")


async def upload_part(call: Call) -> Response:
    """PUT of a part; sending it again replaces it."""
    upload = call.query.get("upload", "")
    _checked(call, "lfs-parts", upload)
    number = whole_number(call.param("number"))
    if not _UPLOAD.fullmatch(upload) or number is None or not 1 <= number <= 10_000:
        raise Refusal(400, "There is no such part")
    digest, part = hashlib.sha256(), call.store.blobs.incoming / f"{upload}.{number}"
    temporary = part.with_name(f"{part.name}.{uuid.uuid4().hex}")
    try:
        with await run_in_threadpool(temporary.open, "wb") as file:

            def write(block: bytes) -> None:
                file.write(block)
                digest.update(block)

            await written(write, body_blocks(call.request, PART_SIZE))
        await run_in_threadpool(temporary.replace, part)
    finally:
        temporary.unlink(missing_ok=True)
    return Response(status_code=200, headers={"ETag": f'"{digest.hexdigest()}"'})


def complete(call: Call) -> Response:
    """Put the parts together, check the whole, store it."""
    upload = call.query.get("upload", "")
    oid, size, user = _checked(call, "lfs-parts", upload)
    listed = items(call.json(), "parts")
    parts = [call.store.blobs.incoming / f"{upload}.{number}" for number in range(1, len(listed) + 1)]
    if not call.store.holds(user, oid, size):  # the client may repeat a completion whose answer was lost
        with call.store.blobs.writer() as writer:
            for part in parts:
                if not part.is_file():
                    raise Refusal(400, f"Part {part.name.rpartition('.')[2]} has not been uploaded")
                with part.open("rb") as file:
                    while block := file.read(BLOCK):
                        writer.write(block)
            _refuse_other_content(oid, writer.sha256, size, writer.size)
            writer.finish()
        call.store.mark_held(user, oid)
    for part in parts:
        part.unlink(missing_ok=True)
    return JSONResponse({"oid": oid, "size": size})


def verify(call: Call) -> Response:
    """Whether an upload arrived."""
    user, asked = call.require_user(), call.json()
    if not isinstance(asked.get("size"), int) or not call.store.holds(user, str(asked.get("oid")), asked["size"]):
        raise Refusal(404, "This content has not been uploaded", "EntryNotFound")
    return JSONResponse({"oid": asked["oid"], "size": asked["size"]})


routes = [
    json_route("/{org}/{name}.git/info/lfs/objects/batch", batch, ("POST",)),
    json_route("/{kind:kinds}/{org}/{name}.git/info/lfs/objects/batch", batch, ("POST",)),
    json_route("/lfs/verify", verify, ("POST",)),
    json_route("/lfs/{oid}", download),
    stream_route("/lfs/{oid}", upload_whole, ("PUT",)),
    stream_route("/lfs/{oid}/parts/{number}", upload_part, ("PUT",)),
    json_route("/lfs/{oid}/complete", complete, ("POST",)),
]
