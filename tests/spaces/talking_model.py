"""A tiny llama that talks until it is stopped, as a checkpoint and beside it as tiny-F16.gguf; and what a bundle says of both.

checkpoint = save_talking_model(folder / "checkpoint")
gguf_of(checkpoint), tokenizer_hashes(checkpoint)
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from byte_level import byte_level_tokenizer
from tiny_model import make_config

from release.exports.gguf_file import write_gguf
from release.space_bundle import TOKENIZER_FILES
from training.checkpoint import Checkpoint

SMOLLM = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are helpful<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def save_talking_model(folder: Path) -> Path:
    """A byte-level BPE tokenizer, random weights, and an end of turn so unlikely that it talks to the last token allowed."""
    import torch
    from transformers import LlamaForCausalLM

    tokenizer = byte_level_tokenizer(["You are helpful, user and assistant say"], 280, SMOLLM)
    torch.manual_seed(0)
    config = make_config(2048)
    config.vocab_size, config.tie_word_embeddings = len(tokenizer), False
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.eos_token_id] = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    write_gguf(Checkpoint.open(folder), folder.parent / "tiny-F16.gguf", "F16", name="tiny")
    return folder


def tokenizer_hashes(checkpoint: Path) -> dict[str, str]:
    return {name: sha256_of(checkpoint / name) for name in TOKENIZER_FILES if (checkpoint / name).is_file()}


def gguf_of(checkpoint: Path, **changes: Any) -> dict[str, Any]:
    file = checkpoint.parent / "tiny-F16.gguf"
    known = {"repo_id": str(file.parent), "revision": None, "path": file.name, "sha256": sha256_of(file)}
    return known | {"precision": "F16", "kl_mean": 1e-6, "greedy_agreement": 1.0} | changes


def sha256_of(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
