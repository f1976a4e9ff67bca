"""What decides a generated text beside the model: settings, stop strings, and the random numbers of each sample.

decoding = as_decoding({"max_gen_toks": 20, "do_sample": True, "temperature": 1.0, "top_p": 0.9})
numbers = uniform_numbers(seed=0, task="starter_toxicity", item="17", sample=3, count=20)
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from training.errors import UsageError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.decoding import Decoding

KNOWN = frozenset({"until", "max_gen_toks", "do_sample", "temperature", "top_p", "top_k"})


def as_decoding(generation: dict[str, Any], asker: str = "the request") -> Decoding:
    """lm-eval's generation settings as ours. Raises UsageError for those that we do not have."""
    from training.decoding import Decoding

    unknown = {key for key in generation if key not in KNOWN and generation[key] is not None}
    if unknown:
        raise UsageError(
            f"{asker} asks for generation settings that this backend does not have",
            where=f"generation of {asker}",
            expected="only " + ", ".join(sorted(KNOWN)),
            found=", ".join(sorted(unknown)),
            next_step="correct the suite or the task, or take --backend hf",
        )
    tokens = int(generation["max_gen_toks"])
    greedy = not generation.get("do_sample", False)
    return Decoding(
        max_new_tokens=tokens,
        temperature=0.0 if greedy else float(generation.get("temperature") or 1.0),
        top_p=1.0 if greedy else float(generation.get("top_p") or 1.0),
        top_k=0 if greedy else int(generation.get("top_k") or 0),
    )


def uniform_numbers(seed: int, task: str, item: str, sample: int, count: int) -> list[float]:
    """The randomness of one continuation: the same for every model, so that two models are compared on equal draws."""
    import numpy as np

    name = hashlib.sha256(f"{task}\n{item}\n{sample}".encode()).digest()
    words = [int.from_bytes(name[start : start + 4], "big") for start in range(0, 16, 4)]
    return list(np.random.default_rng([seed, *words]).random(count))


def stop_at(tokenizer: PreTrainedTokenizerBase, until: tuple[str, ...]) -> Callable[[int, list[int]], bool]:
    """Whether a stop string stands at the end of the text so far. A token is at least one byte, so few are read."""
    window = max(len(stop.encode()) for stop in until) + 4

    def ended(_row: int, tokens: list[int]) -> bool:
        tail = tokenizer.decode(tokens[-window:], skip_special_tokens=True)
        return any(stop in tail for stop in until)

    return ended


def cut_at(text: str, until: tuple[str, ...]) -> str:
    """The text before the first stop string in it."""
    return text[: min((text.find(stop) for stop in until if stop in text), default=len(text))]
