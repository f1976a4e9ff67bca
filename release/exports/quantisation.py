"""Which type each tensor of a GGUF file gets, and its bytes.

    type_of("blk.0.ffn_down.weight", (576, 1536), "Q4_K_M", layers=30, tied=True)     # gguf.GGMLQuantizationType.Q6_K
    quantised(weights, gguf.GGMLQuantizationType.Q4_K)                                 # bytes as an array of uint8

gguf's own numpy code makes the types of one scale a block; K-quants are made by llama.cpp itself (ggml_quantize_chunk of
ggml.h, in the library that xllamacpp carries), because gguf can only read them. The mixtures Q4_K_M and Q5_K_M, and what
takes a K-quant's place where a row is no multiple of 256, are llama.cpp's (src/llama-quant.cpp). What llama.cpp has and this
has not: importance matrices, types below 4 bits, and more bits for the few heads of 70B models.
"""

from __future__ import annotations

import ctypes
import re
from typing import TYPE_CHECKING, Any

from training.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGMLQuantizationType

    Array = np.ndarray[Any, np.dtype[Any]]

# The name of a file's precision -> the type of most of its tensors.
MOST = {
    "F32": "F32",
    "F16": "F16",
    "BF16": "BF16",
    "Q8_0": "Q8_0",
    "Q6_K": "Q6_K",
    "Q5_K_M": "Q5_K",
    "Q5_1": "Q5_1",
    "Q5_0": "Q5_0",
    "Q4_K_M": "Q4_K",
    "Q4_1": "Q4_1",
    "Q4_0": "Q4_0",
}
WHOLE = ("F32", "F16", "BF16")  # not quantised: parity with the checkpoint is all but exact
INSTEAD = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}  # where a row is no multiple of 256
K_BLOCK, BLOCK = 256, 32
F16_MOST = 65504.0


def type_of(name: str, shape: tuple[int, ...], precision: str, *, layers: int, tied: bool) -> GGMLQuantizationType:
    """The type of one tensor, named as in GGUF; `shape` is `(rows, columns)`, or `(columns,)` for norms and biases."""
    from gguf import GGMLQuantizationType

    if len(shape) == 1:
        return GGMLQuantizationType.F32
    chosen = MOST[precision]
    if precision in WHOLE:
        return GGMLQuantizationType[chosen]
    block = re.match(r"blk\.(\d+)\.(\w+)\.", name)
    if name == "output.weight" or (tied and name == "token_embd.weight"):
        chosen = "Q8_0" if chosen == "Q8_0" else "Q6_K"  # every token depends on it
    elif precision.endswith("_K_M") and block is not None and block[2] in ("attn_v", "ffn_down"):
        chosen = "Q6_K" if _more_bits(int(block[1]), layers) else chosen
    if shape[-1] % K_BLOCK and chosen in INSTEAD:
        chosen = INSTEAD[chosen]
    return GGMLQuantizationType[chosen if shape[-1] % BLOCK == 0 else "F16"]


def quantised(weights: Array, kind: GGMLQuantizationType) -> Array:
    """Float32 weights `(rows, columns)` as the bytes of a type, `(rows, bytes)`; float arrays for F32 and F16.

    Raises UsageError for weights that a half-precision number cannot hold.
    """
    import gguf
    import numpy as np

    if kind == gguf.GGMLQuantizationType.F16 and np.abs(weights).max(initial=0) > F16_MOST:
        raise UsageError(
            "a weight is larger than a half-precision number can be",
            expected=f"at most {F16_MOST:g}",
            found=f"{np.abs(weights).max():g}",
            next_step="export BF16 instead",
        )
    if kind.name in ("Q4_K", "Q5_K", "Q6_K"):
        return _by_llama_cpp(weights, kind)
    made: Array = gguf.quants.quantize(weights, kind)
    return made


def _more_bits(layer: int, layers: int) -> bool:
    """llama.cpp's choice of layers that get more bits: the first and last eighth, and every third between."""
    return layer < layers // 8 or layer >= 7 * layers // 8 or (layer - layers // 8) % 3 == 2


def _by_llama_cpp(weights: Array, kind: GGMLQuantizationType) -> Array:
    import gguf
    import numpy as np

    rows, columns = weights.shape
    block, size = gguf.GGML_QUANT_SIZES[kind]
    source = np.ascontiguousarray(weights, dtype=np.float32)
    made = np.empty((rows, columns // block * size), dtype=np.uint8)
    function = _quantize_chunk()
    written = function(
        int(kind),
        source.ctypes.data_as(ctypes.c_void_p),
        made.ctypes.data_as(ctypes.c_void_p),
        0,
        rows,
        columns,
        None,  # no importance matrix
    )
    if written != made.nbytes:
        raise RuntimeError(f"ggml_quantize_chunk wrote {written} bytes of {made.nbytes} of a {kind.name} tensor")
    return made


def _quantize_chunk() -> Any:
    """ggml_quantize_chunk(type, source, target, start, rows, columns, imatrix) -> bytes written."""
    try:
        from xllamacpp import xllamacpp

        function = ctypes.CDLL(xllamacpp.__file__).ggml_quantize_chunk
    except (ImportError, AttributeError) as error:
        raise UsageError(
            "K-quants are made by llama.cpp, and it is not installed or does not give its quantisation away",
            found=f"{type(error).__name__}: {error}",
            next_step="pip install 'slipway[gguf]', or export Q8_0, Q5_0 or Q4_0",
        ) from error
    function.restype = ctypes.c_size_t
    function.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    ]
    return function
