"""An adapter on disk, as peft's save_pretrained writes it: its settings, its digest, and the tokenizer that came with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.checkpoint import BEHAVIOUR_FILES, Checkpoint, FileEntry, manifest_digest
from training.errors import UsageError
from training.pretrained import load_tokenizer
from training.records import sha256_of_file

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MODELS = {"CAUSAL_LM": "AutoModelForCausalLM", "SEQ_CLS": "AutoModelForSequenceClassification"}
TEMPLATE = "chat_template.jinja"
# What a trainer saves beside an adapter of the tokenizer that it was trained with.
TOKENIZER_FILES = sorted(BEHAVIOUR_FILES - {"config.json", "generation_config.json", CONFIG})


def adapter_settings(adapter: Path) -> dict[str, Any]:
    """adapter_config.json of a directory that holds a whole adapter for a kind of model that can be merged here."""
    for name in (CONFIG, WEIGHTS):
        if not (adapter / name).is_file():
            raise UsageError(
                "there is no adapter here",
                where=str(adapter),
                expected=f"{CONFIG} and {WEIGHTS}, as peft's save_pretrained writes them",
                found=f"no {name}",
                next_step="give the directory that holds them",
            )
    settings: dict[str, Any] = json.loads((adapter / CONFIG).read_text(encoding="utf-8"))
    if settings.get("task_type") not in MODELS:
        raise UsageError(
            "adapters of this kind are not merged here",
            where=str(adapter / CONFIG),
            expected="task_type " + " or ".join(MODELS),
            found=str(settings.get("task_type")),
            next_step="set task_type to what the adapter was trained as",
        )
    return settings


def adapter_digest(adapter: Path) -> str:
    """A digest as a checkpoint's, of the adapter's two files and of those of its tokenizer, where it has one."""
    names = [CONFIG, WEIGHTS, *_tokenizer_files(adapter)]
    return manifest_digest(
        tuple(
            FileEntry(path=name, size=(adapter / name).stat().st_size, sha256=sha256_of_file(adapter / name))
            for name in names
        )
    )


def tokenizer_for(adapter: Path, base: Checkpoint, embeddings: int) -> PreTrainedTokenizerBase:
    """The tokenizer that the adapter was trained with: its own where one lies beside it, else its base's.

    A chat template beside it goes before the base's, which fills in where it has none. Raises UsageError where a token has none
    of the model's `embeddings`.
    """
    from transformers import AutoTokenizer

    files = _tokenizer_files(adapter)
    if not files:
        return load_tokenizer(base)
    if files == [TEMPLATE]:
        template = (adapter / TEMPLATE).read_text(encoding="utf-8")
        tokenizer = load_tokenizer(base, template)
        tokenizer.chat_template = template
    else:
        tokenizer = load_tokenizer(Checkpoint(adapter), AutoTokenizer.from_pretrained(base.path).chat_template)
    if len(tokenizer) > embeddings:
        raise UsageError(
            "the adapter's tokenizer has tokens that the base model has no embedding for",
            where=str(adapter),
            expected=f"at most {embeddings} tokens",
            found=f"{len(tokenizer)}",
            next_step="give --base the model as it was trained on, its embeddings resized",
        )
    return tokenizer


def _tokenizer_files(adapter: Path) -> list[str]:
    return [name for name in TOKENIZER_FILES if (adapter / name).is_file()]
