"""How many parameters a safetensors file holds, from its header, which is anybody's and may say anything.

header_counts(file)     # {"F32": 134515008}, or None for a file that only bears the name

Format: github.com/huggingface/safetensors, "Format": 8 bytes of length, then a JSON object of that length.
"""

from __future__ import annotations

import json
import re
from typing import Any, BinaryIO

HEADER_LIMIT = 16 << 20  # bytes; the header of 100,000 tensors is about 10 MB
DIMENSIONS_LIMIT = 64
PARAMETERS_LIMIT = 1 << 60
DTYPES_LIMIT = 64
_DTYPE = re.compile(r"[A-Z][A-Z0-9_]{0,19}")


def header_counts(file: BinaryIO) -> dict[str, int] | None:
    """Parameters by dtype. None where it is no such header, or says more than one can: nothing is multiplied beyond a limit."""
    length = int.from_bytes(file.read(8), "little")
    if length > HEADER_LIMIT:
        return None
    try:
        header = json.loads(file.read(length))
    except (ValueError, RecursionError):
        return None
    counts: dict[str, int] = {}
    for name, tensor in header.items() if isinstance(header, dict) else ():
        if name == "__metadata__":
            continue
        dtype, size = tensor.get("dtype") if isinstance(tensor, dict) else None, _size(tensor)
        if not isinstance(dtype, str) or not _DTYPE.fullmatch(dtype) or size is None:
            return None
        counts[dtype] = counts.get(dtype, 0) + size
        if counts[dtype] > PARAMETERS_LIMIT or len(counts) > DTYPES_LIMIT:
            return None
    return counts


def _size(tensor: Any) -> int | None:
    shape = tensor.get("shape") if isinstance(tensor, dict) else None
    if not isinstance(shape, list) or len(shape) > DIMENSIONS_LIMIT:
        return None
    size = 1
    for dimension in shape:
        if not isinstance(dimension, int) or isinstance(dimension, bool) or not 0 <= dimension <= PARAMETERS_LIMIT:
            return None
        size *= dimension
        if size > PARAMETERS_LIMIT:
            return None
    return size
