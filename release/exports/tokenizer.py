"""A checkpoint's tokenizer and chat template as GGUF metadata, from tokenizer.json.

    vocabulary = read_vocabulary(Checkpoint.open(path), size=49152)    # UsageError for a tokenizer that would differ
    write_vocabulary(writer, vocabulary)

llama.cpp splits text by rules that it knows by name (tokenizer.ggml.pre), so the rules in tokenizer.json are looked up among
those that are known to be the same. Whether they are is measured afterwards (parity.py holds token ids against each other).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from release.exports.sentencepiece import BYTE, Pieces, is_sentencepiece, read_pieces
from training.checkpoint import Checkpoint
from training.errors import UsageError
from training.pretrained import load_tokenizer

# llama.cpp's names of splitting rules, by the pre_tokenizer of tokenizer.json without ByteLevel.
_WORDS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"
_REST = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
SPLITS = {
    (): "gpt-2",
    ("digits",): "smollm",
    (f"split {_WORDS}\\p{{N}}{{1,3}}{_REST}",): "llama-bpe",
    (f"split {_WORDS}\\p{{N}}{_REST}",): "qwen2",
}


@dataclass(frozen=True)
class Vocabulary:
    """Everything of a tokenizer that a GGUF file holds. `types` are gguf.TokenType values.

    Byte-level BPE has merges, SentencePiece has scores.
    """

    pre: str
    tokens: list[str]
    types: list[int]
    merges: list[str]
    pieces: Pieces | None
    special: dict[str, int]  # bos, eos, eot, unk, pad -> token id
    adds_bos: bool
    adds_eos: bool
    template: str


def read_vocabulary(checkpoint: Checkpoint, size: int) -> Vocabulary:
    """The byte-level BPE or SentencePiece tokenizer, filled up to the `size` rows of the embeddings.

    Raises UsageError for a tokenizer of another kind, or one without a chat template.
    """
    from gguf import TokenType

    tokenizer = load_tokenizer(checkpoint)
    file = checkpoint.path / "tokenizer.json"
    if not file.is_file():
        raise _cannot(checkpoint, "tokenizer.json, as fast tokenizers write it", "no such file")
    described = json.loads(file.read_text(encoding="utf-8"))
    built = json.loads(tokenizer.backend_tokenizer.to_str())  # by the tokenizer's class, whatever the file says
    if is_sentencepiece(described):
        described = built
    elif (by_class := _pre(checkpoint, built)) != (by_file := _pre(checkpoint, described)):
        found = f"{by_file} by the file, {by_class} by {type(tokenizer).__name__}, which transformers takes"
        next_step = (
            "set tokenizer_class to TokenizersBackend in tokenizer_config.json, or save the tokenizer that is meant"
        )
        raise _cannot(checkpoint, "the split that transformers makes", found, next_step)
    _check_added(checkpoint, built["added_tokens"])
    model = described["model"]
    pieces = _pieces(checkpoint, described, size) if is_sentencepiece(described) else None
    pre = _pre(checkpoint, described) if pieces is None else "default"
    most = max([*model["vocab"].values(), *(added["id"] for added in described["added_tokens"])])
    if most >= size:
        raise _cannot(checkpoint, f"ids below the {size} rows of its embeddings", f"the id {most}")
    tokens = [f"[PAD{at}]" for at in range(size)]
    types = [int(TokenType.UNUSED)] * size
    for token, at in model["vocab"].items():
        byte = pieces is not None and BYTE.fullmatch(token)
        tokens[at], types[at] = token, int(TokenType.BYTE if byte else TokenType.NORMAL)
    for added in described["added_tokens"]:
        kind = TokenType.CONTROL if added["special"] else TokenType.USER_DEFINED
        if pieces is not None and added["content"] == model["unk_token"]:
            kind = TokenType.UNKNOWN
        tokens[added["id"]], types[added["id"]] = added["content"], int(kind)
    ids = tokenizer("a")["input_ids"]
    return Vocabulary(
        pre=pre,
        tokens=tokens,
        types=types,
        merges=[pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
        if pieces is None
        else [],
        pieces=pieces,
        special=_special(checkpoint, tokenizer),
        adds_bos=tokenizer.bos_token_id is not None and ids[0] == tokenizer.bos_token_id,
        adds_eos=tokenizer.eos_token_id is not None and ids[-1] == tokenizer.eos_token_id,
        template=str(checkpoint.chat_template),
    )


def write_vocabulary(writer: Any, vocabulary: Vocabulary) -> None:
    """Put the tokenizer and the chat template into a `gguf.GGUFWriter`."""
    writer.add_tokenizer_model("gpt2" if vocabulary.pieces is None else "llama")  # GGUF's names of either kind
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.pieces is None:
        writer.add_token_merges(vocabulary.merges)
    else:
        writer.add_token_scores(vocabulary.pieces.scores)
    add = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "eot": writer.add_eot_token_id,
        "unk": writer.add_unk_token_id,
        "pad": writer.add_pad_token_id,
    }
    for name, token in vocabulary.special.items():
        add[name](token)
    writer.add_add_bos_token(vocabulary.adds_bos)
    writer.add_add_eos_token(vocabulary.adds_eos)
    writer.add_add_space_prefix(vocabulary.pieces is not None and vocabulary.pieces.space_prefix)
    writer.add_chat_template(vocabulary.template)


def _pre(checkpoint: Checkpoint, described: dict[str, Any]) -> str:
    """llama.cpp's name of how this tokenizer splits a text. Raises UsageError where none is known to be the same."""
    model = described["model"]
    if model["type"] != "BPE":
        expected = "BPE, byte-level (as of GPT-2, Llama 3, Qwen, SmolLM) or of SentencePiece (Llama 2, Mistral 7B)"
        raise _cannot(checkpoint, expected, model["type"])
    if not model["merges"]:
        raise _cannot(checkpoint, "a BPE with merges, which llama.cpp insists on", "no merges")
    normalizer = described.get("normalizer")
    if normalizer is not None and normalizer["type"] != "NFC":
        raise _cannot(checkpoint, "no normalizer, or NFC", normalizer["type"])
    steps = described.get("pre_tokenizer") or {"type": "none"}
    rules = [_rule(step) for step in steps.get("pretokenizers", [steps])]
    byte_level = rules.pop() if rules else ""
    wanted = "bytes and words" if rules in ([], ["digits"]) else "bytes"
    if byte_level != wanted or tuple(rules) not in SPLITS:
        raise _cannot(checkpoint, f"one of the splits {', '.join(SPLITS.values())}", json.dumps(steps)[:200])
    return SPLITS[tuple(rules)]


def _check_added(checkpoint: Checkpoint, added_tokens: list[dict[str, Any]]) -> None:
    """llama.cpp finds an added token wherever its text stands, and leaves the spaces beside it alone."""
    for added in added_tokens:
        flags = [name for name in ("lstrip", "rstrip", "single_word") if added[name]]
        if flags:
            raise _cannot(
                checkpoint,
                "added tokens without lstrip, rstrip or single_word",
                f"{added['content']!r} with {', '.join(flags)}",
            )


def _pieces(checkpoint: Checkpoint, described: dict[str, Any], size: int) -> Pieces:
    found = read_pieces(described, size)
    if isinstance(found, str):
        raise _cannot(checkpoint, "SentencePiece's BPE as transformers writes it", found)
    return found


def _rule(step: dict[str, Any]) -> str:
    if step["type"] == "ByteLevel" and not step.get("add_prefix_space"):
        return "bytes and words" if step.get("use_regex", True) else "bytes"
    if step["type"] == "Digits" and step.get("individual_digits"):
        return "digits"
    if step["type"] == "Split" and "Regex" in step["pattern"] and step["behavior"] == "Isolated":
        return f"split {step['pattern']['Regex']}"
    return f"unknown {step['type']}"


def _special(checkpoint: Checkpoint, tokenizer: Any) -> dict[str, int]:
    """Token ids by their part; `eot` is a second token at which generation ends, where there is one."""
    named = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unk_token_id", "pad": "pad_token_id"}
    special = {part: getattr(tokenizer, name) for part, name in named.items() if getattr(tokenizer, name) is not None}
    settings = checkpoint.path / "generation_config.json"
    ends = json.loads(settings.read_text(encoding="utf-8")).get("eos_token_id") if settings.is_file() else None
    others = [
        token for token in (ends if isinstance(ends, list) else [ends]) if token not in (None, special.get("eos"))
    ]
    if others:
        special["eot"] = others[0]
    return special


def _cannot(
    checkpoint: Checkpoint,
    expected: str,
    found: str,
    next_step: str = "convert it with llama.cpp's own convert_hf_to_gguf.py",
) -> UsageError:
    return UsageError(
        "this tokenizer cannot be written as GGUF: llama.cpp would read texts in another way",
        where=str(checkpoint.path / "tokenizer.json"),
        expected=expected,
        found=found,
        next_step=next_step,
    )
