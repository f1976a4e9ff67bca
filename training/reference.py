"""reference.json: what a model said in memory before it was saved, so that a release can ask whether its files say it too.

    save_with_reference(model, tokenizer, scratch / "checkpoint")     # writes scratch/reference.json beside it
    difference(reference, loaded_model)                               # largest difference of a log-probability, in nats

The digest ties files to a record; this ties them to the model that was trained. What saving loses (a head that is not
tied as it was, an adapter left unmerged, a key that loads at random) is seen here and by no hash.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.records import Record

if TYPE_CHECKING:
    from transformers import PreTrainedModel

FILE = "reference.json"
TEXT = "The capital of France is"
TOP = 10  # tokens whose log-probabilities are kept
# Largest difference, in nats, between the model in memory, in its own precision, and the files in float32.
MOST = {"float32": 1e-2, "float16": 0.1, "bfloat16": 0.5}


class Reference(Record):
    """Next-token log-probabilities after `input_ids`, of the TOP likeliest tokens, computed in `dtype`."""

    schema_version: int = 1
    checkpoint_digest: str | None = None  # of the files that were saved then
    text: str
    input_ids: list[int]
    dtype: str
    top_tokens: list[int]
    top_logprobs: list[float]


def save_with_reference(model: Any, tokenizer: Any, saved: Path) -> None:
    """`save_pretrained` of both into `saved`, and what the model says just before into reference.json beside it.

    A model that predicts no tokens, as a reward model, has no reference.
    """
    if getattr(model, "can_generate", bool)():
        take(model, tokenizer).write(saved.parent / FILE)
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)


def take(model: PreTrainedModel, tokenizer: Any) -> Reference:
    """The reference of a model as it stands in memory; its mode is left as it was."""
    text, input_ids = readable(tokenizer)
    tokens, logprobs = _likeliest(model, input_ids)
    return Reference(
        text=text,
        input_ids=input_ids,
        dtype=str(model.dtype).removeprefix("torch."),
        top_tokens=tokens,
        top_logprobs=[round(value, 6) for value in logprobs],
    )


def readable(tokenizer: Any) -> tuple[str, list[int]]:
    """A fixed text with its token ids: TEXT, or of a tokenizer that cannot read it the first words of its own vocabulary.

    Raises ValueError where a tokenizer reads none of its own words; text could not have been trained on with it.
    """
    for text in _texts(tokenizer):
        try:
            ids = tokenizer(text)["input_ids"]
        except Exception:  # noqa: BLE001 - tokenizers raises no narrower class for a text without token ids
            continue
        if ids and None not in ids:
            return text, list(ids)
    raise ValueError("the tokenizer reads neither a sentence of English nor any word of its own vocabulary")


def _texts(tokenizer: Any) -> Iterator[str]:
    """TEXT, the vocabulary's first five ordinary tokens as one text, then each token by itself, by their ids."""
    yield TEXT
    ordinary = [token for token in sorted(tokenizer.get_vocab().values()) if token not in tokenizer.all_special_ids]
    yield tokenizer.decode(ordinary[:5])
    for token in ordinary:
        yield tokenizer.decode([token])


def difference(reference: Reference, model: PreTrainedModel) -> float:
    """The largest difference of a log-probability among the reference's tokens, in nats; infinite where one is no number."""
    found = _logprobs(model, reference.input_ids)
    known = found.shape[-1]
    if any(token >= known for token in reference.top_tokens):
        return math.inf
    pairs = zip(reference.top_tokens, reference.top_logprobs, strict=True)
    differences = [abs(float(found[token]) - logprob) for token, logprob in pairs]
    return max(differences) if all(math.isfinite(one) for one in differences) else math.inf


def _likeliest(model: PreTrainedModel, input_ids: list[int]) -> tuple[list[int], list[float]]:
    logprobs = _logprobs(model, input_ids)
    top = logprobs.topk(min(TOP, logprobs.numel()))
    return top.indices.tolist(), top.values.tolist()


def _logprobs(model: PreTrainedModel, input_ids: list[int]) -> Any:
    """Log-probabilities of the next token, `(vocabulary,)` in float32 on the CPU."""
    import torch

    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            ids = torch.tensor([input_ids], device=model.device)
            return model(input_ids=ids, use_cache=False).logits[0, -1].float().log_softmax(-1).cpu()
    finally:
        model.train(was_training)
