"""A tiny Llama with a real tokenizer and ChatML template, and a reward model of the same make; saved as checkpoints.

tests/conftest.py puts this folder on the path: `from tiny_model import make_model, save_model`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_tokenizer() -> Any:
    """Every byte is a token; the end of a turn also pads, as in SmolLM2."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocabulary = {token: index for index, token in enumerate([*special, *sorted(alphabet)])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token=special[0],
        bos_token=special[1],
        eos_token=special[2],
        pad_token=special[2],
    )
    fast.chat_template = (
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    return fast


def make_config(context: int = 256, **changes: Any) -> Any:
    from transformers import LlamaConfig

    tokenizer = make_tokenizer()
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        initializer_range=0.2,  # logits of a spread that adapters on frozen embeddings can move
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **changes,
    )


def make_model(seed: int = 0, context: int = 256) -> Any:
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    return LlamaForCausalLM(make_config(context))


def save_model(directory: Path, seed: int = 0, context: int = 256) -> Path:
    """A checkpoint directory of a language model with its tokenizer."""
    make_model(seed, context).save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


def save_reward_model(directory: Path, seed: int = 1, context: int = 256) -> Path:
    """A checkpoint directory of a classifier with one output."""
    import torch
    from transformers import LlamaForSequenceClassification

    torch.manual_seed(seed)
    LlamaForSequenceClassification(make_config(context, num_labels=1)).save_pretrained(directory)
    make_tokenizer().save_pretrained(directory)
    return directory


def greedy_answer(model: Any, prompt: list[int], tokens: int, stops: int | list[int] | None) -> list[int]:
    """The likeliest tokens after a prompt, by transformers' own generation, to one of `stops` or `tokens` of them."""
    import torch

    ids = torch.tensor([prompt])
    found = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        max_new_tokens=tokens,
        eos_token_id=stops,
        pad_token_id=0,
    )
    answer: list[int] = found[0, len(prompt) :].tolist()
    return answer
