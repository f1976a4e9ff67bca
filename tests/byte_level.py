"""A byte-level BPE tokenizer with ChatML's special tokens, trained on a text: what llama.cpp reads as transformers does."""

from __future__ import annotations

from typing import Any

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_level_tokenizer(texts: list[str], size: int, chat_template: str) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    document, start, end = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token=document,
        bos_token=start,
        eos_token=end,
        pad_token=end,
        chat_template=chat_template,
    )
