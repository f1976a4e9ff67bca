"""A run whose checkpoint can be written as GGUF: a tiny llama with a byte-level BPE tokenizer.

make_run(tmp_path / "run", max_position_embeddings=2048)
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from byte_level import byte_level_tokenizer

if TYPE_CHECKING:
    from release.hub_client import HubClient

TEXT = "The quick brown fox said: it's 1305 apples, isn't it? \n\n def f(x):\n    return x + 1"


def make_run(folder: Path, **changes: Any) -> Path:
    """A run directory with a llama of a few thousand parameters and a byte-level BPE tokenizer that was trained on TEXT."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    tokenizer = byte_level_tokenizer([TEXT] * 3, 300, template)
    torch.manual_seed(0)
    settings = {
        "vocab_size": len(tokenizer) + 4,  # rows without a token, as checkpoints with padded embeddings have
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "tie_word_embeddings": True,
        "initializer_range": 0.15,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    model = LlamaForCausalLM(LlamaConfig(**(settings | changes)))
    model.save_pretrained(folder / "checkpoint")
    tokenizer.save_pretrained(folder / "checkpoint")
    return folder


def release(hub: HubClient, repo_id: str, checkpoint: Path) -> None:
    """The checkpoint's files on the Hub under the name that an export gives as its base, tagged v1.0.0."""
    hub.api.delete_repo(repo_id, missing_ok=True)  # of another test file, with its tag
    hub.api.create_repo(repo_id)
    hub.api.upload_folder(repo_id=repo_id, folder_path=checkpoint)
    hub.api.create_tag(repo_id, tag="v1.0.0")
