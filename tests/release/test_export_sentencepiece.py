"""GGUF of models with SentencePiece's BPE, as Llama 2 and Mistral 7B have: llama.cpp reads texts into the same tokens."""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from release.exports import parity
from release.exports.export import Identity, export
from training.errors import UsageError

pytest.importorskip("xllamacpp")
TEXT = "The quick brown fox said: it's 1305 apples, isn't it? \n\n def f(x):\n    return x + 1 [INST] [/INST] the theatre these"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] != 'assistant' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }}{{ eos_token }}{% endif %}{% endfor %}"
)


def pieces() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary as SentencePiece makes it, trained on TEXT, with the merges that transformers makes of it."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers.convert_slow_tokenizer import generate_merges

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.train_from_iterator([TEXT] * 3, trainers.BpeTrainer(vocab_size=120, show_progress=False))
    named = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trained = sorted(backend.get_vocab().items(), key=lambda entry: entry[1])
    long, short = ([piece for piece, _ in trained if (len(piece) > 1) == wanted] for wanted in (True, False))
    words = [*long, "th", *short]  # so that "the" is made in two ways
    vocabulary = {piece: at for at, piece in enumerate([*named, *words])}
    scores = {piece: -float(at) for at, piece in enumerate(words)}
    return vocabulary, generate_merges(vocabulary, scores)


def save(folder: Path, *, legacy: bool, **changes: Any) -> Path:
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig, LlamaTokenizer, MistralConfig

    vocabulary, merges = pieces()
    tokenizer = LlamaTokenizer(vocab=vocabulary, merges=merges, legacy=legacy)
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    kind = MistralConfig if "sliding_window" in changes else LlamaConfig
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.15,
    }
    model = AutoModelForCausalLM.from_config(kind(**(settings | changes)))
    model.save_pretrained(folder / "checkpoint")
    tokenizer.save_pretrained(folder / "checkpoint")
    file = folder / "checkpoint" / "tokenizer_config.json"  # which transformers does not write it to
    file.write_text(json.dumps(json.loads(file.read_text()) | {"legacy": legacy}))
    return folder


def _second_split(merges: list[list[str]]) -> int:
    """Where the second of two ways to make one piece stands."""
    made = ["".join(pair) for pair in merges]
    return next(at for at in range(1, len(made)) if made[at] == made[at - 1])


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "spaces" / "chat"))
    return importlib.import_module


@pytest.fixture(autouse=True)
def short_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "ANSWER_TOKENS", 4)


@pytest.mark.parametrize("legacy", [True, False], ids=["a space behind every special token", "none"])
def test_llama_cpp_reads_conversations_into_the_same_tokens(legacy: bool, tmp_path: Path) -> None:
    run = save(tmp_path / "run", legacy=legacy)
    made = export(run, ["F16"], run / "gguf", Identity("tiny", "org/tiny@v1.0.0", "apache-2.0"))
    assert made.refused == {}
    loss = made.record.files[0].loss
    assert (loss.prompts, loss.same_tokens, loss.greedy_agreement) == (12, 12, 1)
    assert loss.kl_mean < 2e-5


@pytest.mark.parametrize("older", [False, True], ids=["as transformers 5 writes it", "as it wrote it before"])
@pytest.mark.parametrize("legacy", [True, False])
def test_a_chat_space_reads_a_conversation_into_the_tokens_of_transformers(
    legacy: bool, older: bool, tmp_path: Path, chat: Any
) -> None:
    from transformers import AutoTokenizer

    folder = save(tmp_path / "run", legacy=legacy) / "checkpoint"
    if older:
        spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
        normalizer = {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, spaces]}
        file = folder / "tokenizer.json"
        changed = json.loads(file.read_text()) | {"normalizer": normalizer, "pre_tokenizer": None}
        file.write_text(json.dumps(changed))
    said = ["The fox said it", "quick apples", "these"]
    messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant", "user"), said, strict=True)]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    expected = tokenizer.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    assert chat("template").ChatTemplate(folder).ids(messages) == expected


def test_a_mistral_is_written_up_to_its_sliding_window(tmp_path: Path) -> None:
    from gguf import GGUFReader

    run = save(tmp_path / "run", legacy=True, sliding_window=384)
    made = export(run, ["F16"], run / "gguf", Identity("tiny", "org/tiny@v1.0.0", "apache-2.0"))
    assert made.record.files[0].loss.same_tokens == 12
    assert int(GGUFReader(run / "gguf" / "tiny-F16.gguf").fields["llama.context_length"].contents()) == 384


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (lambda model: model["merges"].pop(len(model["merges"]) // 2), "no merge of"),
        (
            lambda model: model["merges"].append(model["merges"].pop(_second_split(model["merges"]))),
            "stand in two places",
        ),
        (lambda model: model["vocab"].pop("<0x41>"), "1 of 256 bytes have no piece, the first <0x41>"),
    ],
    ids=["a split that is no merge", "an order that no score gives", "a byte without a piece"],
)
def test_a_tokenizer_that_llama_cpp_would_read_in_another_way_is_refused(
    spoil: Any, found: str, tmp_path: Path
) -> None:
    run = save(tmp_path / "run", legacy=True)
    file = run / "checkpoint" / "tokenizer.json"
    described = json.loads(file.read_text())
    spoil(described["model"])
    file.write_text(json.dumps(described))
    shutil.rmtree(run / "gguf", ignore_errors=True)
    with pytest.raises(UsageError, match=found):
        export(run, ["F16"], run / "gguf", Identity("tiny", "org/tiny@v1.0.0", "apache-2.0"))
