"""The digest of a checkpoint's files, computed here and nowhere trusted: it must equal the one in space.json.

    checkpoint_digest(folder)  ->  "sha256:52a5..."

Slipway computes it by the same rule when it scores and publishes a checkpoint; its tests hold the two against each other.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

# Files that change what the model does, by which the digest names it.
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
        "tokenizer.model",
        "sentencepiece.bpe.model",
        "chat_template.jinja",
        "chat_template.json",
        "adapter_config.json",
        "preprocessor_config.json",
        "processor_config.json",
        "model.safetensors.index.json",
    }
)
TEMPLATE_FOLDERS = ("additional_chat_templates", "chat_templates")


def checkpoint_digest(folder: Path) -> str:
    """`sha256:` and the SHA-256 of the lines `sha256 SP size SP path LF` of every file that changes the behaviour."""
    lines = []
    for file in sorted(folder.rglob("*"), key=lambda file: file.relative_to(folder).as_posix()):
        path = file.relative_to(folder)
        if file.is_file() and _changes_behaviour(path):
            with file.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            lines.append(f"{digest} {file.stat().st_size} {path.as_posix()}\n")
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _changes_behaviour(path: Path) -> bool:
    if any(part.startswith(".") for part in path.parts):
        return False
    if len(path.parts) == 1:
        return path.name in BEHAVIOUR_FILES or path.suffix in (".safetensors", ".py")
    return path.parts[0] in TEMPLATE_FOLDERS
