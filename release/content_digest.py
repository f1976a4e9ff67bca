"""The `Content-Digest` header (RFC 9530), by which both ends of plain HTTP notice a body that changed on its way."""

from __future__ import annotations

import base64
import hashlib

HEADER = "Content-Digest"
DAMAGED = "DamagedInTransit"  # the embedded Hub's error code for a body that is not what its digest says


def content_digest(body: bytes) -> str:
    """The header's value for a body that is in memory."""
    return digest_value(hashlib.sha256(body).digest())


def digest_value(sha256: bytes) -> str:
    """The header's value for the 32 bytes of a SHA-256."""
    return f"sha-256=:{base64.b64encode(sha256).decode()}:"
