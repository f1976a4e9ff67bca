"""The two binary formats of the Xet upload protocol: xorbs (runs of compressed chunks) and shards (how files are made).

    for start, header in chunk_headers(file): ...            # a xorb
    for file in files_of_shard(shard_bytes): file.sha256, file.segments

Format: the Hub's documentation, pages "Xorb Formation & Serialization Format" and "MDB Shard File Format".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import lz4.frame

CHUNK_LIMIT = 1 << 20  # bytes of a chunk; the protocol's largest is 128 KiB
CHUNKS_LIMIT = 1 << 16  # of a xorb; the protocol's own limit is 8,192
_CHUNK_HEADER = 8  # version, compressed size (24 bit), scheme, uncompressed size (24 bit)
_SHARD_HEADER = 48
_ENTRY = 48
_BOOKEND = b"\xff" * 32
_WITH_VERIFICATION, _WITH_METADATA = 1 << 31, 1 << 30
NONE, LZ4, BYTE_GROUPING_LZ4 = 0, 1, 2


class XetError(ValueError):
    """The bytes are not what the format says."""


@dataclass(frozen=True)
class ChunkHeader:
    """Where a chunk's compressed bytes lie in the xorb, and how to unpack them."""

    offset: int
    compressed: int
    scheme: int
    size: int


@dataclass(frozen=True)
class Segment:
    """Chunks [start, end) of a xorb, which unpack to `size` bytes of a file."""

    xorb: str
    start: int
    end: int
    size: int


@dataclass(frozen=True)
class ShardFile:
    """A file as its segments; `sha256` of the whole, if the client sent it."""

    sha256: str | None
    segments: tuple[Segment, ...]


def chunk_headers(file: BinaryIO) -> list[ChunkHeader]:
    """The chunks of a xorb, in order; its footer, if it has one, is not needed. Raises XetError."""
    headers: list[ChunkHeader] = []
    offset = 0
    end = file.seek(0, 2)
    while offset + _CHUNK_HEADER <= end:
        file.seek(offset)
        raw = file.read(_CHUNK_HEADER)
        if raw[:7] == b"XETBLOB":
            break
        header = ChunkHeader(
            offset + _CHUNK_HEADER, int.from_bytes(raw[1:4], "little"), raw[4], int.from_bytes(raw[5:8], "little")
        )
        offset = header.offset + header.compressed
        if raw[0] != 0 or header.scheme > BYTE_GROUPING_LZ4 or not 0 < header.size <= CHUNK_LIMIT or offset > end:
            raise XetError(f"chunk {len(headers)} of the xorb is not valid")
        headers.append(header)
        if len(headers) > CHUNKS_LIMIT:
            raise XetError(f"the xorb has more than {CHUNKS_LIMIT} chunks")
    if not headers:
        raise XetError("the xorb has no chunks")
    return headers


def unpack(data: bytes, header: ChunkHeader) -> bytes:
    """A chunk's content. Raises XetError when it does not unpack to its size."""
    if header.scheme == NONE:
        content = data
    else:
        try:
            # The limit keeps a small chunk from unpacking to gigabytes.
            content = lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=header.size + 1)
        except RuntimeError as error:
            raise XetError(f"a chunk is not LZ4: {error}") from error
    if len(content) != header.size:
        raise XetError(f"a chunk unpacks to {len(content)} bytes, not {header.size}")
    return _ungroup(content) if header.scheme == BYTE_GROUPING_LZ4 else content


def _ungroup(grouped: bytes) -> bytes:
    """Undo byte grouping: all first bytes of each four stood together, then all second bytes, and so on."""
    result, taken = bytearray(len(grouped)), 0
    for lane in range(4):
        count = len(range(lane, len(grouped), 4))
        result[lane::4] = grouped[taken : taken + count]
        taken += count
    return bytes(result)


def files_of_shard(shard: bytes) -> Iterator[ShardFile]:
    """The files that a shard describes. Raises XetError."""
    try:
        yield from _files(shard)
    except struct.error as error:
        raise XetError("the shard ends too early") from error


def _files(shard: bytes) -> Iterator[ShardFile]:
    if shard[:14] != b"HFRepoMetaData":
        raise XetError("not a shard")
    position = _SHARD_HEADER
    while True:
        name, flags, count = struct.unpack_from("<32sII", shard, position)
        position += _ENTRY
        if name == _BOOKEND:
            return
        segments = []
        for _ in range(count):
            xorb, _, size, start, end = struct.unpack_from("<32sIIII", shard, position)
            segments.append(Segment(hash_text(xorb), start, end, size))
            position += _ENTRY
        if flags & _WITH_VERIFICATION:
            position += _ENTRY * count
        sha256 = None
        if flags & _WITH_METADATA:
            (raw,) = struct.unpack_from("<32s", shard, position)
            sha256 = hash_text(raw)
            position += _ENTRY
        yield ShardFile(sha256, tuple(segments))


def hash_text(raw: bytes) -> str:
    """A hash as the protocol writes it: four little-endian numbers of 64 bits, each in hexadecimal."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))
