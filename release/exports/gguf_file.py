"""A checkpoint as one GGUF file: hyperparameters, tokenizer, chat template, and every tensor in the type chosen for it.

    write_gguf(Checkpoint.open(path), Path("model-Q8_0.gguf"), "Q8_0", name="my-model")
    for name, weights in read_weights(checkpoint, Path("model-Q8_0.gguf")): ...   # what the file made of each tensor

One tensor is in memory at a time. The file holds what the checkpoint holds: weights that it shares are written once, and
general.source.* names the checkpoint by its digest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release.exports.architecture import Architecture, read_architecture, rope_divisors, write_architecture
from release.exports.quantisation import quantised, type_of
from release.exports.tokenizer import read_vocabulary, write_vocabulary
from training.checkpoint import Checkpoint, read_safetensors_header, weight_files
from training.errors import UsageError
from training.progress import Progress

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, np.dtype[Any]]

STEPS = 8  # of the progress that is shown
DIVISORS = "rope_freqs.weight"  # computed from the config


def write_gguf(
    checkpoint: Checkpoint, target: Path, precision: str, *, name: str, license_id: str | None = None
) -> dict[str, int]:
    """Write `target`; how many tensors got which type. Raises UsageError for what cannot be written rightly."""
    import gguf
    import numpy as np

    architecture = read_architecture(checkpoint)
    vocabulary = read_vocabulary(checkpoint, architecture.vocabulary)
    shapes = dict(_shapes(checkpoint, architecture))
    divisors = rope_divisors(architecture)
    writer = gguf.GGUFWriter(target, architecture.name)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    if license_id:
        writer.add_license(license_id)
    writer.add_source_url(f"checkpoint {checkpoint.digest}")
    file_type = {"F32": "ALL_F32"}.get(precision, f"MOSTLY_{precision}")
    writer.add_file_type(gguf.LlamaFileType[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    write_architecture(writer, architecture)
    write_vocabulary(writer, vocabulary)
    kinds = {
        (ours, theirs): type_of(ours, shape, precision, layers=architecture.layers, tied=architecture.tied)
        for (ours, theirs), shape in shapes.items()
    }
    if divisors is not None:
        writer.add_tensor_info(DIVISORS, (len(divisors),), np.dtype(np.float32), 4 * len(divisors))
    for (ours, theirs), kind in kinds.items():
        shape = shapes[ours, theirs]
        if kind in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
            dtype = np.dtype(np.float32 if kind == gguf.GGMLQuantizationType.F32 else np.float16)
            size = int(np.prod(shape)) * dtype.itemsize
            writer.add_tensor_info(ours, shape, dtype, size)
        else:
            in_bytes = gguf.quants.quant_shape_to_byte_shape(shape, kind)
            writer.add_tensor_info(ours, in_bytes, np.dtype(np.uint8), int(np.prod(in_bytes)), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if divisors is not None:
        writer.write_tensor_data(np.array(divisors, dtype=np.float32))
    counts: dict[str, int] = {}
    steps = max(1, len(kinds) // STEPS)
    with Progress(f"gguf {precision}", total=len(kinds) // steps) as progress:
        written = zip(kinds.items(), _weights(checkpoint, list(kinds)), strict=True)
        for at, (((ours, theirs), kind), weights) in enumerate(written, start=1):
            writer.write_tensor_data(quantised(_as_in_gguf(theirs, weights, architecture), kind))
            counts[kind.name] = counts.get(kind.name, 0) + 1
            if at % steps == 0:
                progress.advance(f"{ours} {kind.name}")
    writer.close()
    return counts


def _shapes(checkpoint: Checkpoint, architecture: Architecture) -> Iterator[tuple[tuple[str, str], tuple[int, ...]]]:
    """((name in GGUF, name in the checkpoint), shape) of every tensor that goes into the file."""
    import gguf

    arch = next(key for key, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name)
    names = gguf.get_tensor_name_map(arch, architecture.layers)
    found: dict[tuple[str, str], tuple[int, ...]] = {}
    for file in weight_files(checkpoint.path):
        for theirs, entry in read_safetensors_header(checkpoint.path / file).items():
            if theirs.endswith("rotary_emb.inv_freq"):  # computed from the config
                continue
            if (
                theirs == "lm_head.weight" and architecture.tied
            ):  # the same as the embeddings, which llama.cpp uses again
                continue
            ours = names.get_name(theirs, try_suffixes=(".weight", ".bias"))
            if ours is None:
                raise UsageError(
                    "a tensor of the checkpoint has no name in GGUF, so the file would be another model",
                    where=str(checkpoint.path / file),
                    expected=f"the tensors of {architecture.name}",
                    found=theirs,
                )
            found[ours, theirs] = tuple(entry["shape"])
    yield from sorted(found.items())


def _weights(checkpoint: Checkpoint, names: list[tuple[str, str]]) -> Iterator[Array]:
    """The tensors in this order, as float32 arrays."""
    import torch
    from safetensors import safe_open

    files = weight_files(checkpoint.path)
    where = {theirs: file for file in files for theirs in read_safetensors_header(checkpoint.path / file)}
    opened: dict[str, Any] = {file: safe_open(checkpoint.path / file, framework="pt") for file in files}
    for _, theirs in names:
        yield opened[where[theirs]].get_tensor(theirs).to(torch.float32).numpy()


def read_weights(checkpoint: Checkpoint, file: Path) -> Iterator[tuple[str, Array]]:
    """(name in the checkpoint, weights in float32) of every tensor that `write_gguf` wrote: dequantised, rows as in the checkpoint.

    Raises UsageError where the file does not hold exactly the tensors of this checkpoint.
    """
    import gguf
    import numpy as np

    architecture = read_architecture(checkpoint)
    shapes = dict(_shapes(checkpoint, architecture))
    tensors = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors if tensor.name != DIVISORS}
    differing = sorted(tensors.keys() ^ {ours for ours, _ in shapes})
    if differing:
        raise UsageError(
            "the file does not hold the tensors of this checkpoint",
            where=str(file),
            expected=f"{len(shapes)} tensors",
            found=f"{len(tensors)}; {differing[0]} is in one of the two only",
            next_step="export it again",
        )
    for (ours, theirs), shape in shapes.items():
        tensor = tensors[ours]
        weights = np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), dtype=np.float32).reshape(shape)
        yield theirs, _as_in_checkpoint(theirs, weights, architecture)


def _as_in_gguf(name: str, weights: Array, architecture: Architecture) -> Array:
    """Query and key rows in the order in which llama.cpp rotates them: pair i of a head is rows 2i and 2i + 1.

    transformers keeps pair i in rows i and i + head_dim / 2 (rotate_half). `weights` is (rows, columns) or a bias (rows,).
    """
    heads = _rotated_heads(name, architecture)
    if heads is None:
        return weights
    halves = weights.reshape(heads, 2, architecture.head_dim // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def _as_in_checkpoint(name: str, weights: Array, architecture: Architecture) -> Array:
    """The inverse of `_as_in_gguf`."""
    heads = _rotated_heads(name, architecture)
    if heads is None:
        return weights
    pairs = weights.reshape(heads, architecture.head_dim // 2, 2, *weights.shape[1:])
    return pairs.swapaxes(1, 2).reshape(weights.shape)


def _rotated_heads(name: str, architecture: Architecture) -> int | None:
    """How many heads the rows of a tensor are, where llama.cpp has them in another order; None for other tensors."""
    if not architecture.interleaves:
        return None
    return {"q_proj": architecture.heads, "k_proj": architecture.kv_heads}.get(name.split(".")[-2])


def display_name(checkpoint: Checkpoint) -> str:
    """What the file calls the model where nobody names it: the config's own name, or the directory's."""
    config: dict[str, Any] = json.loads((checkpoint.path / "config.json").read_text(encoding="utf-8"))
    named = str(config.get("_name_or_path") or "").rstrip("/").rpartition("/")[2]
    folder = checkpoint.path.resolve()
    return named or (folder.parent.name if folder.name == "checkpoint" else folder.name)
