"""Gates on the weights: only safetensors, whole, consistent with their index, and finite."""

from __future__ import annotations

import json
from math import prod
from typing import TYPE_CHECKING, Any

from release.gates.candidate import Candidate, passed, refused, skipped
from release.readable import runs_code
from release.records import Verdict
from training.checkpoint import WEIGHTS_INDEX, Checkpoint, read_safetensors_header, weight_files
from training.counted import counted
from training.errors import SlipwayError

if TYPE_CHECKING:
    import torch

FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
OTHER_TYPES = 0.01  # share of the values that may be of another type: some models keep norms or routers in float32
NAMED = 5  # how many names an explanation carries


def weights_safetensors_only(candidate: Candidate) -> Verdict:
    """No file that can run code when it is read, whatever its name; headers cover the files; the index and the shards agree."""
    gate = "weights_safetensors_only"
    pickled = [entry.path for entry in candidate.files if runs_code(entry.path, candidate.bundle / entry.path)]
    if pickled:
        return refused(
            gate,
            f"{_names(pickled)} can run code when it is read",
            remedy="keep only safetensors weights in the checkpoint; delete pickles and optimizer states",
            pickled=pickled,
        )
    try:
        shards = weight_files(candidate.bundle)
        tensors = {name: sorted(read_safetensors_header(candidate.bundle / name)) for name in shards}
    except SlipwayError as error:
        return refused(
            gate,
            f"{error.what}: expected {error.expected}, found {error.found}",
            remedy=error.next_step or "write the checkpoint again",
            **error.as_dict(),
        )
    evidence: dict[str, Any] = {"files": len(shards), "tensors": sum(len(names) for names in tensors.values())}
    stray = [
        entry.path
        for entry in candidate.files
        if entry.path.endswith(".safetensors") and "/" not in entry.path and entry.path not in shards
    ]
    if stray:
        return refused(
            gate,
            f"{_names(stray)} belongs to no index, so it is left from another save",
            remedy="delete it from the checkpoint, then plan again",
            stray=stray,
            **evidence,
        )
    if WEIGHTS_INDEX in {entry.path for entry in candidate.files}:
        wrong = _index_disagreements(candidate, tensors)
        if wrong:
            return refused(
                gate,
                f"the index and the shards disagree: {'; '.join(wrong[:NAMED])}",
                remedy="write the checkpoint again with save_pretrained",
                disagreements=wrong[:50],
                **evidence,
            )
    return passed(
        gate,
        f"{evidence['tensors']} tensors in {counted(evidence['files'], 'safetensors file')}, no pickles",
        **evidence,
    )


def _index_disagreements(candidate: Candidate, tensors: dict[str, list[str]]) -> list[str]:
    mapping: dict[str, str] = json.loads((candidate.bundle / WEIGHTS_INDEX).read_text(encoding="utf-8"))["weight_map"]
    stored = [(name, shard) for shard, names in tensors.items() for name in names]
    wrong = [
        f"{name} is not in {shard}" for name, shard in sorted(mapping.items()) if name not in tensors.get(shard, [])
    ]
    wrong += [f"{name} of {shard} is not in the index" for name, shard in stored if mapping.get(name) != shard]
    return wrong


def dtype_as_config(candidate: Candidate) -> Verdict:
    """The weights are stored in the type that config.json names, but for a hundredth that may be kept more precisely; in one
    type where it names none, for then transformers loads them as they are."""
    gate, checkpoint = "dtype_as_config", Checkpoint(candidate.bundle)
    if "quantization_config" in checkpoint.config:
        return skipped(gate, "config.json says that the weights are quantised, so they are of several types")
    counts: dict[str, int] = {}
    for shard in weight_files(candidate.bundle):
        for entry in read_safetensors_header(candidate.bundle / shard).values():
            if (stored := FLOATS.get(entry["dtype"])) is not None:
                counts[stored] = counts.get(stored, 0) + prod(entry["shape"])
    named = checkpoint.named_dtype
    kind = named or max(counts, key=lambda name: counts[name], default="float32")
    values, others = sum(counts.values()), sum(counts.values()) - counts.get(kind, 0)
    evidence = {"config": named, "values": counts}
    if others > OTHER_TYPES * values:
        told = ", ".join(f"{count:,} values in {name}" for name, count in sorted(counts.items()))
        return refused(
            gate,
            f"config.json {f'says {named}' if named else 'names no type'}, the files hold {told}: who loads them gets other "
            "numbers than were scored",
            remedy="save the model again with save_pretrained, in the type that it was trained and scored in",
            **evidence,
        )
    said = "as config.json says" if named else "in which they are loaded, for config.json names no type"
    return passed(gate, f"{values:,} values in {kind}, {said}", **evidence)


def weights_finite(candidate: Candidate) -> Verdict:
    """No NaN and no infinity in any tensor, read shard by shard."""
    from safetensors import safe_open

    gate = "weights_finite"
    values, bad = 0, {}
    for shard in weight_files(candidate.bundle):
        with safe_open(candidate.bundle / shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118 - safe_open is no mapping
                tensor = file.get_tensor(name)
                values += tensor.numel()
                if not _all_finite(tensor):
                    spoiled = tensor.numel() - int(tensor.float().isfinite().count_nonzero())
                    bad[name] = {"file": shard, "not_finite": spoiled, "of": tensor.numel()}
    if bad:
        first, counts = next(iter(bad.items()))
        return refused(
            gate,
            f"{counted(len(bad), 'tensor')} with NaN or infinity; first {first}: {counts['not_finite']} of {counts['of']} values",
            remedy="the training diverged: lower the learning rate, or release an earlier checkpoint",
            tensors=bad,
            values=values,
        )
    return passed(gate, f"{values:,} values, all finite", values=values)


def _all_finite(tensor: torch.Tensor) -> bool:
    """Whether its smallest and largest value are finite: NaN and infinity come through both, ten times as fast as
    looking at every value."""
    if not tensor.is_floating_point() or tensor.numel() == 0:
        return True
    smallest, largest = (tensor.float() if tensor.itemsize == 1 else tensor).aminmax()  # float8 has no aminmax
    return bool(smallest.isfinite()) and bool(largest.isfinite())


def _names(names: list[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
