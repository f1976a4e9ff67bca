"""A task of one's own in lm-eval's format with its data, and a suite that names it: what many tests write."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROWS = [{"q": f"Question {n}: which word", "c": [f" is{n}", " it", " then?"], "a": n % 3} for n in range(9)]
CHOICES: dict[str, Any] = {
    "output_type": "multiple_choice",
    "doc_to_text": "q",
    "doc_to_choice": "c",
    "doc_to_target": "a",
    "target_delimiter": "",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
TEXTS: dict[str, Any] = {
    "output_type": "generate_until",
    "doc_to_text": "q",
    "doc_to_target": "{{c[a]}}",
    "generation_kwargs": {"until": [], "max_gen_toks": 4, "do_sample": False},
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def write_task(
    folder: Path, definition: dict[str, Any], name: str = "words", rows: Sequence[Any] = ROWS, **changes: Any
) -> Path:
    """Write NAME.yaml and NAME.jsonl into the folder; return the definition's path. Strings `!function x.y` are tags."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    whole = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(folder / f"{name}.jsonl")}},
        "test_split": "test",
        **definition,
        **changes,
    }
    text = yaml.safe_dump(whole, sort_keys=False)
    for line in text.splitlines():
        if "'!function " in line:
            text = text.replace(line, line.replace("'", ""))
    (folder / f"{name}.yaml").write_text(text)
    return folder / f"{name}.yaml"


def write_suite(folder: Path, *tasks: str, name: str = "mine") -> Path:
    """Write a suite of tasks given as YAML flow mappings without their braces."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.yaml"
    file.write_text("description: a test\ntasks:\n" + "".join(f"  - {{{task}}}\n" for task in tasks))
    return file
