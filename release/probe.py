"""The probe: a model's logits on a fixed text and its greedy continuation, by which behaviour is compared, not only bytes.

    probe = take_probe(load(directory))                      # in this process
    examination = load_in_fresh_process(directory)           # as a stranger's machine would
    probe_difference(expected, found)                        # largest difference of logits

Always float32 on the CPU with stock settings, so that two machines can be compared.

    python -m release.probe DIRECTORY        # prints the probe and the loading report as JSON
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release.records import Probe
from training.checkpoint import SAVE_AGAIN, Checkpoint
from training.errors import UsageError
from training.records import Record
from training.reference import readable
from training.run_record import package_versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TOP = 10  # logits kept
GREEDY = 16  # tokens continued
# Largest difference of a float32 logit that still counts as the same model: other processors and library versions sum
# in another order. A changed weight is found by its hash; this finds bytes that a loader reads differently.
TOLERANCE = 1e-2
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors")


@dataclass(frozen=True)
class Loaded:
    """A model in float32 on the CPU, its tokenizer, and what loading it reported."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]


class Examination(Record):
    """What a fresh process found: how the load went, and the probe."""

    missing: list[str]
    unexpected: list[str]
    mismatched: list[str]
    probe: Probe


def load_tokenizer(directory: Path) -> Any:
    """The tokenizer, from these files only and without running code from them."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(directory, local_files_only=True, trust_remote_code=False)


def load(directory: Path) -> Loaded:
    """The model and tokenizer as stock `from_pretrained` makes them, in float32, and from nothing but what the digest covers.

    Raises UsageError where the files do not make a model, or where files take part in it that the digest does not cover.
    """
    from release.decoys import decoyed

    failure: Exception | None = None
    with decoyed(directory) as seen:
        try:
            loaded = _load(seen.folder)
        except Exception as error:  # noqa: BLE001 - tokenizers and safetensors raise bare Exceptions at broken files
            failure = error
    if not seen.read and failure is not None and seen.decoys and _loads(directory):
        Checkpoint.open(directory)  # where a setting names the file, this raises with its name
        seen.read.update(seen.decoys)
    if seen.read:
        names = sorted(seen.read)
        raise UsageError(
            f"loading it reads what its digest does not cover: {', '.join(names[:3])}",
            where=str(directory),
            expected="weights, settings and tokenizer in the files that save_pretrained writes",
            found=", ".join(names[:20]),
            next_step=SAVE_AGAIN,
        )
    if failure is not None:
        raise UsageError(
            "from_pretrained cannot load the checkpoint",
            where=str(directory),
            found=f"{type(failure).__name__}: {' '.join(str(failure).split())[:400]}",
            next_step="save it again with save_pretrained, model and tokenizer",
        ) from failure
    return loaded


def _load(directory: Path) -> Loaded:
    import torch
    from transformers.utils import logging

    from release.model_class import model_class

    logging.set_verbosity_error()  # the report comes back as values
    logging.disable_progress_bar()
    model, report = model_class(directory).from_pretrained(
        directory,
        dtype=torch.float32,
        local_files_only=True,
        trust_remote_code=False,
        use_safetensors=True,
        ignore_mismatched_sizes=True,  # so that a wrong shape is reported by its name
        output_loading_info=True,
    )
    return Loaded(
        model.eval(),
        load_tokenizer(directory),
        missing=sorted(report["missing_keys"]),
        unexpected=sorted(report["unexpected_keys"]),
        mismatched=sorted(entry[0] if isinstance(entry, tuple) else entry for entry in report["mismatched_keys"]),
    )


def _loads(directory: Path) -> bool:
    """Whether the directory as it lies, with all its files, makes a model."""
    try:
        _load(directory)
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def take_probe(loaded: Loaded) -> Probe:
    """Logits at the last position of a fixed text that the tokenizer reads (`release/model_class.py` says of which for what
    is no language model), and at most GREEDY tokens of continuation."""
    import torch

    from release.model_class import continuation, values

    text, tokens = readable(loaded.tokenizer)
    ids = torch.tensor([tokens])  # (1, tokens)
    with torch.inference_mode():
        logits = values(loaded.model, ids)  # (vocabulary,)
        top = logits.topk(min(TOP, logits.numel()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # generate's advice on settings that are fixed here
            greedy = continuation(loaded.model, ids, GREEDY)
    return Probe(
        text=text,
        input_ids=ids[0].tolist(),
        top_tokens=top.indices.tolist(),
        top_logits=[round(value, 6) for value in top.values.tolist()],
        greedy=greedy,
        packages=package_versions(PACKAGES),
    )


def probe_difference(expected: Probe, found: Probe) -> float:
    """The largest difference of a logit, over ranks and over the tokens that both name;
    infinite where they cannot be compared (NaN, other input, no token in common)."""
    if expected.input_ids != found.input_ids or len(expected.top_logits) != len(found.top_logits):
        return float("inf")
    by_rank = [abs(a - b) for a, b in zip(expected.top_logits, found.top_logits, strict=True)]
    theirs = dict(zip(found.top_tokens, found.top_logits, strict=True))
    by_token = [
        abs(logit - theirs[token])
        for token, logit in zip(expected.top_tokens, expected.top_logits, strict=True)
        if token in theirs
    ]
    differences = by_rank + by_token
    if not by_token or any(math.isnan(difference) for difference in differences):
        return float("inf")
    return max(differences)


def load_in_fresh_process(directory: Path) -> Examination:
    """Load the directory in a new interpreter that has no network, no token and an empty Hub cache, and probe it.

    Raises UsageError with the process's own words where the directory does not load.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-home-") as home:
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        packages = str(Path(__file__).parents[1])
        environment |= {"HF_HUB_OFFLINE": "1", "HF_HOME": home}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [packages, os.environ.get("PYTHONPATH")]))
        process = subprocess.run(
            [sys.executable, "-m", "release.probe", str(directory)], capture_output=True, text=True, env=environment
        )
    if process.returncode != 0:
        raise UsageError(
            "the checkpoint does not load in a fresh process",
            where=str(directory),
            found=process.stderr.strip()[-600:],
        )
    return Examination.model_validate_json(process.stdout)


def main() -> None:
    loaded = load(Path(sys.argv[1]))
    examination = Examination(
        missing=loaded.missing,
        unexpected=loaded.unexpected,
        mismatched=loaded.mismatched,
        probe=take_probe(loaded),
    )
    print(json.dumps(examination.model_dump(mode="json")))


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        sys.exit(error.render())
