"""A GGUF file as a checkpoint: dequantised weights, tokenizer and chat template."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

# What llama.cpp calls (tokenizer.ggml.pre) splitting digits one by one, and then GPT-2's words; `\p{N}` in its vocabulary code.
SINGLE_DIGITS = {"codeshell", "command-r", "refact", "smollm", "starcoder"}


def unpack_gguf(gguf: Path, out: Path) -> None:
    """Dequantise a GGUF file into safetensors, with its tokenizer and chat template.

    transformers marks a model that it read from GGUF as quantised and refuses to save it, so its state goes into a
    model built anew from the same config. It reads vocabulary and merges, but not the rule by which text is split before
    them; `_split_as_named` adds it.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with _parsed_once():
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
        _split_as_named(tokenizer, gguf)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config)
    plain.load_state_dict(read.state_dict())
    plain.generation_config = read.generation_config
    # bfloat16 holds what a 4- or 8-bit quantisation can tell, in half of the bytes.
    plain = plain.to(torch.bfloat16)
    _set_stop_token(plain, tokenizer)
    plain.save_pretrained(out)
    tokenizer.save_pretrained(out)


@contextmanager
def _parsed_once() -> Iterator[None]:
    """While open, transformers parses a GGUF file once, and not for config, weights and tokenizer each.

    Nor does it list the names of all tensors anew for each of the model's modules.
    """
    import gguf

    names = ("GGUFReader", "get_tensor_name_map")
    originals = {name: getattr(gguf, name) for name in names}
    for name in names:
        setattr(gguf, name, functools.cache(originals[name]))
    try:
        yield
    finally:
        for name, original in originals.items():
            setattr(gguf, name, original)


def _split_as_named(tokenizer: PreTrainedTokenizerBase, file: Path) -> None:
    """Split text by the rule that the file names, where it is one that transformers read as GPT-2's words alone."""
    import gguf
    from tokenizers import pre_tokenizers

    field = gguf.GGUFReader(str(file)).get_field("tokenizer.ggml.pre")
    if field is None or field.contents() not in SINGLE_DIGITS:
        return
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), backend.pre_tokenizer]
    )


def _set_stop_token(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Make tokenizer, config and generation config agree on the token that ends a turn."""
    for settings in (model.config, model.generation_config):
        settings.bos_token_id = tokenizer.bos_token_id
        settings.eos_token_id = tokenizer.eos_token_id
        settings.pad_token_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
