"""Base models: from a Hub id with an optional revision, or a local directory; loaded, and what is known of them."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from training.checkpoint import Checkpoint
from training.errors import HubError, UsageError
from training.packaged import PACKAGED
from training.run_record import (
    FeedbackSource,
    Made,
    ParentCheckpoint,
    RunRecord,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MODEL_FILES = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt", "README.md", "*.bin")
HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(/[\w.-]+)?(@[\w./-]+)?$")


@dataclass(frozen=True)
class BaseModel:
    """A base model on disk, and what is known of where it came from."""

    checkpoint: Checkpoint
    parent: ParentCheckpoint


def resolve_base(source: str) -> BaseModel:
    """Find the checkpoint that a recipe names: a run's directory, a checkpoint directory, or a Hub id[@revision].

    Raises UsageError where there is nothing of that name, HubError where the Hub does not give it.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        directory = path / "checkpoint" if (path / "checkpoint").is_dir() else path
        checkpoint = Checkpoint.open(directory)
        record_file = directory.parent / "run.json"
        record = RunRecord.read(record_file) if record_file.is_file() else None
        origin = record.parent("base") if record else None
        made_here = record is not None and record.method != "base"
        return BaseModel(
            checkpoint,
            ParentCheckpoint(
                role="base",
                name=source,
                hub_id=None if origin is None or made_here else origin.hub_id,
                revision=None if origin is None or made_here else origin.revision,
                digest=checkpoint.digest,
                license=origin.license if origin else _license(directory),
                note=None if origin is None or made_here else origin.note,
                feedback=feedback_behind(record) if record else [],
                made=_made(record, checkpoint.digest),
            ),
        )
    if source.endswith(".gguf") or source in PACKAGED:
        raise UsageError(
            "a GGUF model has to be unpacked into a checkpoint first",
            found=source,
            next_step=f"python -m training base {source} --out runs/base, then name runs/base in the recipe",
        )
    directory, revision = download(source)
    checkpoint = Checkpoint.open(directory)
    hub_id = source.partition("@")[0]
    record = _published_record(directory / "run.json")
    return BaseModel(
        checkpoint,
        ParentCheckpoint(
            role="base",
            name=source,
            hub_id=hub_id,
            revision=revision,
            digest=checkpoint.digest,
            license=_license(directory),
            feedback=feedback_behind(record) if record else [],
            made=_made(record, checkpoint.digest),
        ),
    )


def _published_record(file: Path) -> RunRecord | None:
    """The record of a release of ours; None where there is none, or a file of the same name is something else."""
    try:
        return RunRecord.read(file)
    except UsageError:
        return None


def _made(record: RunRecord | None, digest: str) -> Made | None:
    """How a checkpoint was trained, where the record beside it is of these bytes; what was only copied has no stage."""
    if record is None or record.method == "base" or record.checkpoint_digest != digest:
        return None
    return Made.of(record)


def feedback_behind(record: RunRecord) -> list[FeedbackSource]:
    """The votes that a run learned from, by its own data, by those who sampled and scored it, or by a parent; each once."""
    found = [feedback for data in record.data for feedback in data.feedback_behind()]
    found += [feedback for parent in record.parents for feedback in parent.feedback]
    return list({feedback.record: feedback for feedback in found}.values())


def found_checkpoint(source: str) -> Checkpoint:
    """The checkpoint that a recipe names: a directory, a run's, or a Hub id, which is downloaded. It is not hashed."""
    path = Path(source).expanduser()
    if path.is_dir():
        return Checkpoint.open(path / "checkpoint" if (path / "checkpoint").is_dir() else path)
    return Checkpoint.open(download(source)[0])


def download(source: str, patterns: Sequence[str] = MODEL_FILES) -> tuple[Path, str | None]:
    """Bring `org/name[@revision]` into the Hub client's cache; return its directory and commit."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    if not HUB_ID.match(source):
        raise UsageError(
            "this is neither a directory nor a Hub id",
            found=source,
            expected="a directory, org/name, org/name@revision, a .gguf file, or one of " + ", ".join(PACKAGED),
        )
    repo_id, _, revision = source.partition("@")
    try:
        directory = Path(
            snapshot_download(
                repo_id,
                revision=revision or None,
                allow_patterns=list(patterns),
            )
        )
    except LocalEntryNotFoundError as error:
        raise HubError(
            f"there is no directory {source} here, the Hub cannot be reached, and no model of that id is in the cache",
            where=endpoint(),
            found=source,
            next_step="check HF_ENDPOINT and the network, or give a local directory",
        ) from error
    except HfHubHTTPError as error:
        raise HubError(
            f"there is no directory {source} here, and the Hub does not give a model of that id",
            where=endpoint(),
            found=str(error).splitlines()[0],
            next_step="check the path or the id and its revision; a private model needs HF_TOKEN",
        ) from error
    return directory, directory.name


def endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co")


def load_policy(checkpoint: Checkpoint, dtype: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A causal language model and its tokenizer. Raises UsageError where weights are NaN or there is no template."""
    import torch
    from transformers import AutoModelForCausalLM

    from training.grouped_attention import use_grouped_attention

    tokenizer = load_tokenizer(checkpoint)
    model = AutoModelForCausalLM.from_pretrained(checkpoint.path, dtype=getattr(torch, dtype))
    require_finite(model, checkpoint)
    use_grouped_attention(model)
    return model, tokenizer


def load_tokenizer(checkpoint: Checkpoint, template: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer, with a padding token; `template` is its chat template where it has none of its own.

    Raises UsageError where there is no chat template, or no end token.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint.path)
    if tokenizer.chat_template is None:
        tokenizer.chat_template = template
    if tokenizer.chat_template is None:
        raise UsageError(
            "the tokenizer has no chat template, so there is no telling how a conversation is written",
            where=str(checkpoint.path),
            expected="chat_template.jinja, or chat_template in tokenizer_config.json",
            next_step="start from an instruction-tuned model, or copy its family's template into the directory",
        )
    if tokenizer.eos_token_id is None:
        raise UsageError(
            "the tokenizer has no end token, so answers would be learned and sampled without an end",
            where=str(checkpoint.path / "tokenizer_config.json"),
            expected="eos_token: the token that ends an assistant's turn",
            found=f"eos_token: {tokenizer.eos_token}",
            next_step='add it, e.g. "eos_token": "<|im_end|>" where the chat template ends its turns with that',
        )
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def require_finite(model: PreTrainedModel, checkpoint: Checkpoint) -> None:
    """Raise UsageError naming the first tensor that holds NaN or infinity."""
    import torch

    for name, tensor in model.state_dict().items():
        if not torch.isfinite(tensor).all():
            bad = int((~torch.isfinite(tensor)).sum())
            raise UsageError(
                f"the weights are not finite: {name}",
                where=str(checkpoint.path),
                expected="finite numbers",
                found=f"{bad} of {tensor.numel()} are NaN or infinite",
                next_step="use a checkpoint from before the training diverged",
            )


def _license(directory: Path) -> str | None:
    """What the card beside the weights names: the licence's own name where it is on no list of the Hub's. None where it
    names none, or several."""
    from huggingface_hub import ModelCard
    from yaml import YAMLError

    readme = directory / "README.md"
    if not readme.is_file():
        return None
    try:
        data = ModelCard.load(readme, ignore_metadata_errors=True).data
    except (YAMLError, ValueError) as error:  # its own classes, and UnicodeDecodeError
        raise UsageError(
            "the metadata of the checkpoint's card cannot be read, so its licence is not known",
            where=str(readme),
            expected="YAML between the --- lines at the top",
            found=" ".join(str(error).split())[:300],
            next_step="mend the README.md, or take it away",
        ) from error
    named = getattr(data, "license", None)
    if named == "other":
        named = getattr(data, "license_name", None) or named
    if isinstance(named, list):
        named = named[0] if len(named) == 1 else None
    return named if isinstance(named, str) else None
