"""The gates on checkpoints of every kind: base models, encoders, sequence-to-sequence models."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_model import make_tokenizer, save_model

from release.plan import check_files
from release.probe import load, take_probe
from release.records import Verdict
from release.request import Request

CARD = "---\nlicense: mit\npipeline_tag: {task}\n---\n# A model\n"


def said(directory: Path, policy: str = "external", **changes: Any) -> dict[str, Verdict]:
    request = Request("me/mine", policy=policy, **changes)
    return {verdict.gate: verdict for verdict in check_files(directory, request)}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A language model without a chat template."""
    directory = save_model(tmp_path / "base")
    (directory / "chat_template.jinja").unlink()
    (directory / "README.md").write_text(CARD.format(task="text-generation"))
    return directory


def test_a_base_model_needs_no_chat_template_unless_something_claims_a_conversation(base: Path) -> None:
    verdicts = said(base)
    assert [gate for gate, verdict in verdicts.items() if verdict.outcome == "refused"] == []
    assert verdicts["chat_template_renders"].outcome == "skipped"
    assert "a base model" in verdicts["chat_template_renders"].explanation
    (base / "README.md").write_text(f"{CARD.format(task='text-generation')}`tokenizer.apply_chat_template(messages)`\n")
    verdict = said(base)["chat_template_renders"]
    assert verdict.outcome == "refused"
    assert "the card tells readers to use apply_chat_template" in verdict.explanation


def test_figures_of_its_authors_are_noted_where_anybodys_checkpoint_is_asked_about_and_refused_by_default(
    base: Path,
) -> None:
    (base / "README.md").write_text(f"{CARD.format(task='text-generation')}| MMLU | 45.2 |\n|---|---|\n")
    external, default = said(base)["card_complete"], said(base, "default")["card_complete"]
    assert external.outcome == "passed"
    assert "1 line with figures of its authors, not measured here" in external.explanation
    assert default.outcome == "refused"
    assert "author" in {problem["check"] for problem in default.evidence["problems"]}


def test_a_chat_space_of_a_base_model_is_refused_in_words(base: Path) -> None:
    verdict = said(base, space="me/mine-chat")["chat_template_renders"]
    assert verdict.outcome == "refused"
    assert "the chat Space me/mine-chat holds conversations" in verdict.explanation
    assert "leave --space out" in (verdict.remedy or "")


def _save(kind: str, directory: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM, BertForSequenceClassification, T5Config
    from transformers import T5ForConditionalGeneration as T5

    size = len(make_tokenizer())
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    made = {
        "t5": lambda: T5(
            T5Config(vocab_size=size, d_model=32, d_kv=16, d_ff=32, num_layers=1, num_heads=2, decoder_start_token_id=0)
        ),
        "classifier": lambda: BertForSequenceClassification(BertConfig(vocab_size=size, **shape)),
        "masked": lambda: BertForMaskedLM(BertConfig(vocab_size=size, **shape)),
    }[kind]()
    made.save_pretrained(directory)
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    tokenizer.save_pretrained(directory)


@pytest.mark.parametrize(
    ("kind", "task", "values", "greedy"),
    [
        ("t5", "summarization", 10, True),
        ("classifier", "text-classification", 2, False),
        ("masked", "fill-mask", 10, False),
    ],
)
def test_a_model_is_loaded_and_probed_as_the_class_that_its_config_names(
    tmp_path: Path, kind: str, task: str, values: int, greedy: bool
) -> None:
    directory = tmp_path / kind
    _save(kind, directory)
    (directory / "README.md").write_text(CARD.format(task=task))
    verdicts = said(directory)
    assert [gate for gate, verdict in verdicts.items() if verdict.outcome == "refused"] == []
    probe = take_probe(load(directory))
    assert len(probe.top_logits) == values
    assert bool(probe.greedy) == greedy
    assert take_probe(load(directory)) == probe


def test_a_class_that_transformers_has_not_is_told_as_not_looked_at(base: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(base, tmp_path / "other"))
    config = other / "config.json"
    config.write_text(config.read_text().replace("LlamaForCausalLM", "NobodysModelForRanking"))
    verdict = said(other)["loads_clean"]
    assert verdict.outcome == "refused"
    assert "it was not looked at: transformers" in verdict.explanation
    assert "has no class NobodysModelForRanking" in verdict.explanation
