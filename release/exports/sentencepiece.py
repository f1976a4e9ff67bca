"""A SentencePiece BPE tokenizer with byte fallback (Llama 2, TinyLlama, Mistral 7B), from tokenizer.json, as llama.cpp has it.

    if is_sentencepiece(described): pieces = read_pieces(described, size)

llama.cpp joins the two neighbours whose joined piece has the best score, whatever they are; tokenizers joins the pair that stands
first in the list of merges. These are the same where the list has every split of every piece, as transformers makes it of
SentencePiece's scores, piece after piece; a list that has not is refused. (Kudo and Richardson 2018; llama.cpp, llm_tokenizer_spm.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

BYTE = re.compile(r"<0x[0-9A-F]{2}>")
SPACE = "▁"
OUT_OF_REACH = -1e9  # the score of a piece that no merge makes


@dataclass(frozen=True)
class Pieces:
    """Scores by token id, (size,); whether a space is put before the text and behind every special token."""

    scores: list[float]
    space_prefix: bool


def is_sentencepiece(described: dict[str, Any]) -> bool:
    return described["model"]["type"] == "BPE" and bool(described["model"].get("byte_fallback"))


def read_pieces(described: dict[str, Any], size: int) -> Pieces | str:
    """The pieces, or what of the tokenizer llama.cpp would read in another way."""
    model = described["model"]
    vocabulary: dict[str, int] = model["vocab"]
    lacking = [f"<0x{byte:02X}>" for byte in range(256) if f"<0x{byte:02X}>" not in vocabulary]
    if lacking:
        return f"{len(lacking)} of 256 bytes have no piece, the first {lacking[0]}"
    prefix = _space_prefix(described)
    if isinstance(prefix, str):
        return prefix
    merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    made = ["".join(pair) for pair in merges]
    ranks: dict[str, int] = {}
    for rank, piece in enumerate(made):
        if piece in ranks and made[rank - 1] != piece:
            return f"merges that make {piece!r} stand in two places"
        ranks.setdefault(piece, rank)
    added = {token["content"] for token in described["added_tokens"]}
    listed = {(left, right) for left, right in merges}
    for pair in _splits(vocabulary, added):
        if pair not in listed:
            return f"no merge of {pair[0]!r} and {pair[1]!r}, which both are pieces, as is what they make"
    scores = [0.0] * size
    for piece, at in vocabulary.items():
        if piece not in added and not BYTE.fullmatch(piece) and len(piece) > 1:
            scores[at] = -float(ranks[piece]) if piece in ranks else OUT_OF_REACH
    return Pieces(scores, prefix)


def _splits(vocabulary: dict[str, int], added: set[str]) -> Iterator[tuple[str, str]]:
    """Every way to make a piece of two pieces."""
    pieces = {piece for piece in vocabulary if piece not in added and not BYTE.fullmatch(piece)}
    for piece in pieces:
        for at in range(1, len(piece)):
            if piece[:at] in pieces and piece[at:] in pieces:
                yield piece[:at], piece[at:]


def _space_prefix(described: dict[str, Any]) -> bool | str:
    """Whether texts, and what follows a special token, begin with a space; a str for a rule that llama.cpp does not have.

    Of Metaspace's `first`, where only the text's own beginning gets one, nothing is seen in conversations whose template
    begins with a special token; parity says whether that is so.
    """
    normalizer, before = described.get("normalizer"), described.get("pre_tokenizer")
    steps: Sequence[dict[str, Any]] = (normalizer or {}).get("normalizers", [normalizer] if normalizer else [])
    replaces = [
        step
        for step in steps
        if step["type"] == "Replace" and step["pattern"] == {"String": " "} and step["content"] == SPACE
    ]
    prepends = [step for step in steps if step["type"] == "Prepend" and step["prepend"] == SPACE]
    if replaces and len(replaces) + len(prepends) == len(steps) and before is None:
        return bool(prepends)
    if (
        not steps
        and before
        and before["type"] == "Metaspace"
        and before["replacement"] == SPACE
        and not before["split"]
    ):
        return bool(before["prepend_scheme"] == "always")
    return f"its texts are prepared by {normalizer} and {before}"
