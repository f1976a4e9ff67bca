"""Chunks of rows give the numbers and gradients of the whole vocabulary's width at once, to the bit."""

from __future__ import annotations

import pytest
import torch

from training import chosen_tokens
from training.chosen_tokens import chosen_logprobs
from training.ppo_math import entropy, token_logprobs


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_numbers_and_gradients_are_those_of_the_formulas_to_the_bit(dtype, monkeypatch) -> None:
    monkeypatch.setattr(chosen_tokens, "CHUNK", 2 * 501)  # two rows at a time, and one left over
    torch.manual_seed(0)
    logits = (8 * torch.randn(3, 5, 501)).to(dtype)
    tokens = torch.randint(501, (3, 5))
    weights = torch.randn(3, 5)
    ours, theirs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    logprobs, entropies = chosen_logprobs(ours, tokens)
    expected = token_logprobs(theirs, tokens)
    assert torch.equal(logprobs, expected)
    assert torch.equal(entropies, entropy(logits))
    (logprobs * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.equal(ours.grad, theirs.grad)


def test_the_gradient_is_that_of_finite_differences() -> None:
    torch.manual_seed(1)
    logits, tokens = torch.randn(2, 3, 7), torch.randint(7, (2, 3))
    weights, direction, step = torch.randn(2, 3), torch.randn(2, 3, 7), 1e-2
    variable = logits.clone().requires_grad_()
    (chosen_logprobs(variable, tokens)[0] * weights).sum().backward()
    ahead, behind = ((chosen_logprobs(logits + sign * step * direction, tokens)[0] * weights).sum() for sign in (1, -1))
    assert float((variable.grad * direction).sum()) == pytest.approx(float((ahead - behind) / (2 * step)), rel=1e-2)


def test_entropies_that_nobody_asked_for_are_zeros() -> None:
    assert not chosen_logprobs(torch.randn(1, 2, 5), torch.zeros(1, 2, dtype=torch.long), with_entropy=False)[1].any()


def test_at_a_temperature_probabilities_are_those_that_were_sampled_from_also_in_bfloat16() -> None:
    torch.manual_seed(3)
    logits = (4 * torch.randn(1, 64, 512)).bfloat16()
    tokens = torch.randint(0, 512, (1, 64))
    sampled_from = torch.log_softmax(logits.float() / 0.7, dim=-1)
    logprobs, entropies = chosen_logprobs(logits, tokens, temperature=0.7)
    assert torch.allclose(logprobs, sampled_from.gather(-1, tokens[..., None])[..., 0], atol=1e-5)
    assert torch.allclose(entropies, -(sampled_from.exp() * sampled_from).sum(-1), atol=1e-4)
    wide = logits.float().requires_grad_()
    chosen_logprobs(wide, tokens, temperature=0.7)[0].sum().backward()
    expected = (torch.nn.functional.one_hot(tokens, 512) - sampled_from.exp()) / 0.7
    assert wide.grad is not None
    assert torch.allclose(wide.grad, expected, atol=1e-5)
