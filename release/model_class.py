"""Which class of transformers a checkpoint is: the one that its config.json names.

model_class(directory).from_pretrained(directory)      # AutoModelForCausalLM for language models, as always
values(model, ids)                                     # (values,): what it says of a text, whatever it is
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.errors import UsageError

if TYPE_CHECKING:
    import torch

CAUSAL = ("ForCausalLM", "LMHeadModel")


def architecture(directory: Path) -> str | None:
    """The first of config.json's `architectures`; None where it names none."""
    named = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("architectures") or [None]
    return named[0] if isinstance(named[0], str) else None


def is_causal(directory: Path) -> bool:
    name = architecture(directory)
    return name is None or name.endswith(CAUSAL)


def model_class(directory: Path) -> Any:
    """The class to load the checkpoint with. Raises UsageError where this version of transformers has none of that name."""
    import transformers

    name = architecture(directory)
    if name is None or name.endswith(CAUSAL):
        return transformers.AutoModelForCausalLM
    found = getattr(transformers, name, None)
    if not (isinstance(found, type) and issubclass(found, transformers.PreTrainedModel)):
        raise UsageError(
            f"it was not looked at: transformers {transformers.__version__} has no class {name}",
            where=str(directory / "config.json"),
            found=name,
            next_step="install the version of transformers that has it; code of the checkpoint's own is not run",
        )
    return found


def values(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """What a model says of token ids (1, tokens), as one row: logits at the last position or of the classes, or the last
    state of a body without a head. A sequence-to-sequence model is asked for its first token."""
    decoder = {}
    if model.config.is_encoder_decoder and model.can_generate():
        decoder = {"decoder_input_ids": ids.new_full((1, 1), _start(model))}
    output = model(ids, **decoder)
    row: torch.Tensor = (output.logits if "logits" in output else output[0])[0].float()
    return row if row.dim() == 1 else row[-1]


def continuation(model: Any, ids: torch.Tensor, tokens: int) -> list[int]:
    """At most `tokens` greedy tokens that follow, or answer, the ids (1, tokens); none where the model writes nothing."""
    import torch
    from transformers import GenerationConfig

    if not model.can_generate():
        return []
    settings = GenerationConfig(
        max_new_tokens=tokens, do_sample=False, eos_token_id=model.generation_config.eos_token_id, pad_token_id=0
    )
    if model.config.is_encoder_decoder:
        settings.decoder_start_token_id = _start(model)
    output = model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    written: list[int] = output[0, 1 if model.config.is_encoder_decoder else ids.shape[1] :].tolist()
    return written


def _start(model: Any) -> int:
    config, generation = model.config, model.generation_config
    start = getattr(config, "decoder_start_token_id", None)
    start = generation.decoder_start_token_id if start is None else start
    return int(config.bos_token_id if start is None else start)
