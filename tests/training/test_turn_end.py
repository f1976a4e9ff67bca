"""Answers end where the chat template ends an assistant's turn, also where the tokenizer's end token is another.

So in the families of Gemma and Phi: `<|endoftext|>` ends a document, `<|im_end|>` (their own names for it) a turn, and the
generation config stops at either.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_model import make_model, make_tokenizer, save_model

from training.chat import answer_ids, demonstration_ids, prompt_ids, stop_tokens, turn_end
from training.checkpoint import Checkpoint
from training.data import Prompt
from training.errors import UsageError
from training.ilql_heads import ValueHeads
from training.ilql_recipe import Steering
from training.ilql_steering import SteeredPolicy
from training.online_run import sampled_rewards
from training.policy import ActorCritic
from training.pretrained import load_policy
from training.recipe import Generation, LoraSettings
from training.reward import reward_tokenizer
from training.rollout import sample

DOCUMENT, TURN = 0, 2  # <|endoftext|>, <|im_end|>
HI = [{"role": "user", "content": "Hi"}]


def other_tokenizer() -> Any:
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_end|>"]})
    tokenizer.eos_token = tokenizer.pad_token = "<|endoftext|>"
    return tokenizer


def save_other(directory: Path) -> Path:
    """A checkpoint whose tokenizer ends documents, whose template ends turns, and whose generation stops at both."""
    model = make_model()
    model.generation_config.eos_token_id = [DOCUMENT, TURN]
    model.save_pretrained(directory)
    other_tokenizer().save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    """Model and tokenizer; the model ends its answers often, in either way."""
    model, tokenizer = load_policy(Checkpoint.open(save_other(tmp_path_factory.mktemp("other") / "base")), "float32")
    make_likely(model)
    return model, tokenizer


def make_likely(model: Any) -> None:
    """Put both ends among the likely tokens, whatever came before."""
    bias = torch.zeros(model.config.vocab_size)
    bias[[DOCUMENT, TURN]] = 4.0
    model.lm_head.register_forward_hook(lambda _module, _inputs, output: output + bias)


class Seen:
    """A reward model that keeps what it is asked."""

    def __init__(self) -> None:
        self.sequences: list[list[int]] = []

    def score_ids(self, sequences: list[list[int]]) -> torch.Tensor:
        self.sequences += sequences
        return torch.zeros(len(sequences))


def test_a_turn_ends_as_the_template_says_and_sampling_stops_at_every_end(tmp_path: Path) -> None:
    tokenizer = other_tokenizer()
    assert (turn_end(tokenizer), tokenizer.eos_token_id) == (TURN, DOCUMENT)
    model = make_model()
    assert stop_tokens(tokenizer, model.generation_config) == [DOCUMENT, TURN]
    usual, plain = load_policy(Checkpoint.open(save_model(tmp_path / "usual")), "float32")
    assert stop_tokens(plain, usual.generation_config) == [plain.eos_token_id], (
        "where there is one end, it is the only one"
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    assert turn_end(tokenizer) == DOCUMENT, "a template without an end leaves the tokenizer's"
    tokenizer.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(UsageError, match="cannot be rendered"):
        turn_end(tokenizer)


def test_what_is_learned_of_an_answer_ends_with_its_turn() -> None:
    tokenizer = other_tokenizer()
    assert tokenizer.decode(answer_ids(tokenizer, HI, "yes")) == "yes<|im_end|>"
    two = [{"role": "assistant", "content": "yes"}, *HI, {"role": "assistant", "content": "no"}]
    _, labels = demonstration_ids(tokenizer, HI, two)
    assert tokenizer.decode([label for label in labels if label >= 0]) == "yes<|im_end|>no<|im_end|>"
    assert reward_tokenizer(tokenizer).pad_token_id == DOCUMENT != answer_ids(tokenizer, HI, "yes")[-1]


def test_rollouts_stop_at_either_end_and_keep_the_one_that_was_sampled(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    torch.manual_seed(0)
    actor = ActorCritic(model, LoraSettings(r=2))
    prompts = [prompt_ids(tokenizer, HI)] * 64
    for keep in (False, True):
        responses, _ = sample(actor, tokenizer, prompts, Generation(max_new_tokens=12), keep)
        rows = responses.tokens()
        assert not any({DOCUMENT, TURN} & set(row[:-1]) for row in rows)
        assert {row[-1] for row in rows} >= {DOCUMENT, TURN}
        assert [row[-1] in (DOCUMENT, TURN) for row in rows] == responses.ended.tolist()


def test_held_out_answers_of_the_online_methods_stop_at_either_end(loaded: tuple[Any, Any]) -> None:
    model, tokenizer = loaded
    rewards = Seen()
    sampled_rewards(model, tokenizer, rewards, [Prompt(HI)] * 64, Generation(max_new_tokens=12), [DOCUMENT, TURN])
    answers = [sequence[len(prompt_ids(tokenizer, HI)) :] for sequence in rewards.sequences]
    assert not any({DOCUMENT, TURN} & set(answer[:-1]) for answer in answers)
    assert {answer[-1] for answer in answers} >= {DOCUMENT, TURN}


def test_a_steered_answer_that_ends_its_turn_at_once_is_one_pass(loaded: tuple[Any, Any]) -> None:
    _, tokenizer = loaded
    model, passes = make_model(), []
    certain = torch.zeros(model.config.vocab_size)
    certain[TURN] = 1e4

    def end(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        passes.append(1)
        return output + certain

    model.lm_head.register_forward_hook(end)
    policy = SteeredPolicy(model, tokenizer, ValueHeads(32, 8, len(tokenizer)))
    assert policy.answers([HI], samples=2, steering=Steering(beta=0.0)) == [["", ""]]
    assert len(passes) == 1
