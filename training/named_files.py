"""Files that a checkpoint's own settings name, and that `from_pretrained` then reads in place of those that everybody knows.

    named_files(path)      # [("config.json (transformers_weights)", "other.safetensors")]

transformers 5.23: `transformers_weights` in `modeling_utils._get_resolved_checkpoint_files`, `configuration_files` in
`PreTrainedConfig.get_config_dict`, `fast_tokenizer_files` in `PreTrainedTokenizerBase.from_pretrained`, and the weights of
an adapter in the folder of a whole model in `integrations.peft`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Where names stand: the file, its key, and what it may name, which are the files that are read without it as well.
NAMES = (
    ("config.json", "transformers_weights", ("model.safetensors", "model.safetensors.index.json")),
    ("config.json", "configuration_files", ("config.json",)),
    ("tokenizer_config.json", "fast_tokenizer_files", ("tokenizer.json",)),
)
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", ("adapter_model.bin", "adapter_model.pt")


def named_files(path: Path) -> list[tuple[str, str]]:
    """Where a name stands, and the name, of every file in a checkpoint's directory that would be read in another's place.

    A list of versions may name files that are not there: nothing reads them.
    """
    found = [(f"{file} ({key})", name) for file, key, usual in NAMES for name in _listed(path / file, key, usual)]
    if (path / ADAPTER).is_file():
        found += [(ADAPTER, name) for name in ADAPTER_WEIGHTS if (path / name).is_file()]
    return found


def _listed(file: Path, key: str, usual: tuple[str, ...]) -> Iterator[str]:
    value = _settings(file).get(key)
    for name in value if isinstance(value, list) else [value]:
        if isinstance(name, str) and name not in usual and (value == name or (file.parent / name).is_file()):
            yield name


def _settings(file: Path) -> dict[str, Any]:
    """Empty where there are none: what cannot be read names nothing, and whoever reads the file says what is wrong with it."""
    try:
        settings = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}
