"""A checkpoint is a directory that `from_pretrained` loads; its digest names exactly what the model does.

    checkpoint = Checkpoint.open(Path("runs/a/checkpoint"))
    checkpoint.digest    # sha256:9f2c...

The digest is the SHA-256 of the sorted manifest (path, size, SHA-256) of every file that changes what the model does:
weights, config, generation config, tokenizer, chat template. README, plots and records do not count, so describing a
checkpoint never changes its name. Nothing here imports torch: headers of safetensors files are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from training.errors import UsageError
from training.named_files import named_files
from training.records import Record, sha256_of_file

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
# Formats that can run code when they are read, or that we do not pin.
PICKLED_SUFFIXES = (
    *(".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5"),
    *(".pk", ".pt2", ".dill", ".joblib", ".hdf5", ".keras", ".pyc"),
)
# Files that change what the model does, beside the weights. Templates may also lie in `additional_chat_templates/`.
BEHAVIOUR_FILES = frozenset(
    {
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "vocab.txt",
        "merges.txt",
        "spiece.model",
        "sentencepiece.bpe.model",
        "tokenizer.model",
        "chat_template.jinja",
        "chat_template.json",
        "adapter_config.json",
        "preprocessor_config.json",
        "processor_config.json",
    }
)
SAVE_AGAIN = (
    "load model and tokenizer where you trust them, and save_pretrained both into an empty directory: "
    "all that is read from it is in its digest"
)


class FileEntry(Record):
    """One file of a manifest: its path inside the checkpoint, its size in bytes and its hex SHA-256."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint directory whose weights were found whole. Make one with `Checkpoint.open`."""

    path: Path

    @classmethod
    def open(cls, path: Path) -> Checkpoint:
        """Check that the directory holds complete safetensors weights and a config, and that these name no files outside of
        the digest.

        Raises UsageError for a missing directory, missing, pickled, truncated or incomplete weights, naming the file.
        """
        if not path.is_dir():
            raise UsageError(
                "there is no checkpoint directory here", where=str(path), next_step="give a directory, or a Hub id"
            )
        if not (path / "config.json").is_file():
            raise UsageError(
                "the checkpoint has no config.json",
                where=str(path),
                expected="a directory that from_pretrained loads",
                found=_listing(path),
                next_step="save the whole model with save_pretrained",
            )
        for where, name in named_files(path):
            raise UsageError(
                f"{where} lets from_pretrained read {name}, which the digest does not cover",
                where=str(path),
                expected="the names of files that save_pretrained writes",
                found=name,
                next_step=SAVE_AGAIN,
            )
        for name in weight_files(path):
            read_safetensors_header(path / name)
        return cls(path)

    @cached_property
    def manifest(self) -> tuple[FileEntry, ...]:
        """Every file that changes what the model does, sorted by path. Hashes all weights: seconds a gigabyte."""
        return tuple(
            FileEntry(path=name, size=(self.path / name).stat().st_size, sha256=sha256_of_file(self.path / name))
            for name in covered_files(self.path)
        )

    @cached_property
    def digest(self) -> str:
        """`sha256:` and the SHA-256 of the manifest."""
        return manifest_digest(self.manifest)

    @property
    def config(self) -> dict[str, Any]:
        return dict(json.loads((self.path / "config.json").read_text(encoding="utf-8")))

    @property
    def dtype(self) -> str:
        """The weights' type by the config, e.g. "bfloat16"; "float32" where it names none, as transformers has it."""
        return self.named_dtype or "float32"

    @property
    def named_dtype(self) -> str | None:
        return dtype_named(self.config)

    @property
    def chat_template(self) -> str | None:
        """The Jinja text of the chat template, or None."""
        file = self.path / "chat_template.jinja"
        if file.is_file():
            return file.read_text(encoding="utf-8")
        settings = self.path / "tokenizer_config.json"
        if settings.is_file():
            template = json.loads(settings.read_text(encoding="utf-8")).get("chat_template")
            return template if isinstance(template, str) else None
        return None


def dtype_named(config: dict[str, Any]) -> str | None:
    """The type that a config names for the weights, or for its text model; None where it names none, and transformers loads
    them in the files' own."""
    nested = config.get("text_config")
    places = (config, nested if isinstance(nested, dict) else {})
    return next((str(named) for at in places for key in ("dtype", "torch_dtype") if (named := at.get(key))), None)


def manifest_digest(manifest: tuple[FileEntry, ...]) -> str:
    """The digest of a manifest, whatever directory or repository it was read from.

    Each line is `sha256 SP size SP path LF`, sorted by path; the digest is `sha256:` and the SHA-256 of these lines.
    """
    lines = "".join(
        f"{entry.sha256} {entry.size} {entry.path}\n" for entry in sorted(manifest, key=lambda entry: entry.path)
    )
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def changes_behaviour(path: Path) -> bool:
    """Whether a file of a checkpoint, by its path inside it, changes what the model does."""
    hidden = any(part.startswith(".") for part in path.parts)
    if hidden:
        return False
    if len(path.parts) == 1:
        return path.name in BEHAVIOUR_FILES or path.suffix in (".safetensors", ".py") or path.name == WEIGHTS_INDEX
    return path.parts[0] in ("additional_chat_templates", "chat_templates")


def covered_files(path: Path) -> list[str]:
    """Paths inside a checkpoint's directory of the files that its digest covers, sorted."""
    inside = (file.relative_to(path) for file in path.rglob("*") if file.is_file())
    return sorted(name.as_posix() for name in inside if changes_behaviour(name))


def weight_files(path: Path) -> list[str]:
    """Names of the safetensors files that hold the weights, from the index where there is one.

    Raises UsageError where there are none, where only pickled ones are, or where a shard is missing.
    """
    index = path / WEIGHTS_INDEX
    if index.is_file():
        try:
            mapping = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
            shards = sorted({str(name) for name in mapping.values()})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                "the index of the weights cannot be read",
                where=str(index),
                found=repr(error),
                next_step="copy or download the file again",
            ) from error
        outside = [name for name in shards if not _is_shard(name)]
        if outside:
            raise UsageError(
                f"the index names {outside[0]} as weights, which the digest does not cover",
                where=str(index),
                expected="files in the checkpoint's own folder whose names end in .safetensors and begin with no dot",
                found=", ".join(outside[:3]),
                next_step=SAVE_AGAIN,
            )
        missing = [name for name in shards if not (path / name).is_file()]
        if missing:
            raise UsageError(
                f"the checkpoint lacks {len(missing)} of its {len(shards)} weight files",
                where=str(index),
                expected=", ".join(missing),
                found="no such file",
                next_step="copy or download the missing shard, then run the command again",
            )
        return shards
    if (path / WEIGHTS).is_file():
        return [WEIGHTS]
    if (path / "adapter_model.safetensors").is_file():
        raise UsageError(
            "this directory holds an adapter, not a whole model",
            where=str(path),
            expected=WEIGHTS,
            found="adapter_model.safetensors",
            next_step=f"python -m training merge {path} --base BASE --out runs/merged, then give runs/merged",
        )
    pickled = sorted(file.name for file in path.iterdir() if file.suffix.casefold() in PICKLED_SUFFIXES)
    if pickled:
        raise UsageError(
            "the weights are pickled: reading them can run code, so Slipway does not",
            where=str(path),
            expected=WEIGHTS,
            found=", ".join(pickled[:3]),
            next_step="load it once where you trust it, and save_pretrained(..., safe_serialization=True)",
        )
    raise UsageError(
        "the checkpoint has no weights",
        where=str(path),
        expected=f"{WEIGHTS} or {WEIGHTS_INDEX}",
        found=_listing(path),
        next_step="save the whole model with save_pretrained",
    )


def _is_shard(name: str) -> bool:
    """Whether what an index names is a file of weights that the digest covers."""
    return len(Path(name).parts) == 1 and name.endswith(".safetensors") and changes_behaviour(Path(name))


def read_safetensors_header(path: Path) -> dict[str, dict[str, Any]]:
    """The tensors' entries of a safetensors file: name -> {dtype, shape, data_offsets}.

    Raises UsageError where the file is truncated, or its header does not cover exactly the bytes that follow it.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        prefix = file.read(8)
        length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else -1
        if not 2 <= length <= size - 8:
            raise _broken(path, f"a header of {length} bytes", f"a file of {size} bytes")
        try:
            header = json.loads(file.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            spans = sorted(tuple(entry["data_offsets"]) for entry in tensors.values())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _broken(path, "a JSON header with data_offsets", repr(error)) from error
    end = 0
    for start, stop in spans:
        if start != end or stop < start:
            raise _broken(path, f"the next tensor at byte {end}", f"at byte {start}")
        end = stop
    if 8 + length + end != size:
        raise _broken(path, f"{8 + length + end} bytes", f"{size} bytes")
    return tensors


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """The words that whoever wrote a safetensors file put into its header. Raises UsageError where the file is damaged."""
    read_safetensors_header(path)
    with path.open("rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    metadata = header.get("__metadata__") or {}
    if not isinstance(metadata, dict):
        raise _broken(path, "names and words as __metadata__", type(metadata).__name__)
    return {str(name): str(words) for name, words in metadata.items()}


def _broken(path: Path, expected: str, found: str) -> UsageError:
    return UsageError(
        "the safetensors file is truncated or damaged",
        where=str(path),
        expected=expected,
        found=found,
        next_step="copy or download the file again",
    )


def _listing(path: Path) -> str:
    names = sorted(file.name for file in path.iterdir())
    return ", ".join(names[:8]) + (" ..." if len(names) > 8 else "") if names else "an empty directory"
