"""Answers in a conversation end where training ends them: at the token that ends a turn in the chat template, too."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from own_task import TEXTS, write_suite, write_task
from tiny_model import make_model, make_tokenizer

from evals.__main__ import main
from evals.backends import Backend
from evals.evaluated import Evaluated, Weights, find
from evals.prefix_tree import PrefixTreeLM
from evals.prepare import Choices, Prepared, prepare
from evals.saved import SavedRun
from evals.suite import open_suite
from training.chat import stop_tokens

DOCUMENT, TURN = 0, 2  # <|endoftext|>, <|im_end|>
MOST = 24
GREEDY = {"until": [], "max_gen_toks": MOST, "do_sample": False}


def other_model() -> tuple[Any, Any]:
    """Tokenizer and configs end documents, the template ends turns, and the model says that often."""
    model, tokenizer = make_model(context=512).eval(), make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    model.config.eos_token_id = model.generation_config.eos_token_id = DOCUMENT
    model.config.pad_token_id = model.generation_config.pad_token_id = DOCUMENT
    model.config.tie_word_embeddings = False
    output = model.lm_head.weight.detach().clone()
    output[TURN] = 1.2 * output[tokenizer.convert_tokens_to_ids("r")]  # where it would say "r" it ends the turn
    model.lm_head.weight = torch.nn.Parameter(output)
    return model, tokenizer


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("other")
    for part in other_model():
        part.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite")
    for name in ("plain", "chat"):
        write_task(folder, TEXTS, name, generation_kwargs=GREEDY)
    return write_suite(
        folder,
        "task: plain, group: other, file: plain.yaml",
        "task: chat, group: other, file: chat.yaml, chat_template: true",
    )


def run(source: Path, suite: Path, out: Path, *more: str) -> dict[str, list[tuple[str, int]]]:
    """Of each task the texts, and how many tokens they have."""
    assert main(["run", str(source), "--suite", str(suite), "--out", str(out), "--dtype", "float32", *more]) == 0
    saved = SavedRun.open(out)
    return {
        task: [(sample.response or "", sample.detail["response_tokens"]) for sample in saved.samples(task)]
        for task in ("plain", "chat")
    }


def test_in_a_conversation_answers_end_where_they_do_in_training_and_elsewhere_as_before(
    other: Path, suite: Path, tmp_path: Path
) -> None:
    evaluated = find(str(other))
    model, tokenizer = other_model()
    assert evaluated.stop_tokens(True) == stop_tokens(tokenizer, model.generation_config) == [DOCUMENT, TURN]
    assert evaluated.stop_tokens(False) == [DOCUMENT]
    own = run(other, suite, tmp_path / "own")
    ended = [tokens for _, tokens in own["chat"] if tokens < MOST]
    assert ended, "the model ends turns"
    assert all(tokens == MOST for _, tokens in own["plain"]), "and documents never"
    hf = run(other, suite, tmp_path / "hf", "--backend", "hf")
    assert [text for text, _ in hf["chat"]] == [text for text, _ in own["chat"]]


def test_answers_are_kept_under_another_name_only_where_the_turns_end_adds_a_stop(
    other: Path, suite: Path, models: Path
) -> None:
    def stops(source: Path, place: int) -> list[int]:
        evaluated: Evaluated = find(str(source))
        ready: list[Prepared] = prepare(open_suite(str(suite)), evaluated, Choices(None, 0, None))[0]
        return Backend("slipway", Weights(evaluated, "float32", "cpu"), 0).stops_of_turns(ready[place])

    assert stops(other, 1) == [DOCUMENT, TURN]
    assert stops(other, 0) == stops(models / "parent", 0) == stops(models / "parent", 1) == []


def test_lm_evals_command_stops_there_as_well_where_it_applies_the_template() -> None:
    model, tokenizer = other_model()
    lm = PrefixTreeLM(model, tokenizer=tokenizer, batch_size=4)
    turns = [[{"role": "user", "content": f"Question {n}: which word"}] for n in range(9)]
    texts = [tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True) for turn in turns]
    requests = [SimpleNamespace(args=(text, dict(GREEDY))) for text in texts]
    before = lm.generate_until(requests)
    assert [lm.apply_chat_template(turn) for turn in turns] == texts
    after = lm.generate_until(requests)
    assert before != after
    for long, short in zip(before, after, strict=True):
        assert long.startswith(short.rstrip("\ufffd")), "a cut within a character"
