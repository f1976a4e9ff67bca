"""Bodies of requests as they arrive: bounded in size and in patience, checked against their digest, written block by block."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from release.content_digest import DAMAGED, HEADER, digest_value
from release.local_hub.refusals import Refusal

STALL_LIMIT = 60.0  # seconds without a byte of a body
POLITENESS = 32 << 20  # bytes that are read past a limit and thrown away before the refusal


async def body_blocks(request: Request, limit: int, block: int = 1 << 20) -> AsyncIterator[bytes]:
    """The body in blocks of about `block` bytes.

    Raises 413 as soon as it is longer than `limit`, 408 where nothing comes for STALL_LIMIT seconds, and 400 at its end
    where it is not what its Content-Digest says.
    """
    waiting, size = bytearray(), 0
    promised, digest = request.headers.get(HEADER, ""), hashlib.sha256()
    declared = int(request.headers.get("content-length") or 0)
    stream = request.stream()
    while True:
        try:
            async with asyncio.timeout(STALL_LIMIT):
                part = await anext(stream, None)
        except TimeoutError as error:
            raise Refusal(408, "The body stopped coming", headers={"Connection": "close"}) from error
        if part is None:
            break
        size += len(part)
        if max(size, declared) > limit:
            # A client that is cut off in mid-sentence never reads why, so hear it out, within reason.
            if size < min(declared, limit + POLITENESS):
                continue
            raise Refusal(413, f"The body is larger than {limit} bytes", headers={"Connection": "close"})
        if promised.startswith("sha-256="):
            digest.update(part)
        waiting += part
        if len(waiting) >= block:
            yield bytes(waiting)
            waiting.clear()
    if promised.startswith("sha-256=") and promised != digest_value(digest.digest()):
        raise Refusal(400, "The body changed on its way: it is not what its Content-Digest says", DAMAGED)
    if waiting:
        yield bytes(waiting)


async def written(write: Callable[[bytes], Any], blocks: AsyncIterator[bytes]) -> None:
    """Hand each block to `write`, in a thread, while the next one arrives."""
    writing: asyncio.Future[Any] | None = None
    try:
        async for block in blocks:
            if writing is not None:
                await writing
            writing = asyncio.ensure_future(run_in_threadpool(write, block))
    finally:
        if writing is not None:
            await writing
