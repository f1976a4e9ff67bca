"""PPO's functions agree with values worked out by hand, with plain loops, and with finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from training.ppo_math import (
    adapted_kl_coef,
    advantages_and_returns,
    combined,
    entropy,
    kl_per_token,
    masked_mean,
    moments,
    policy_loss,
    shaped_rewards,
    token_logprobs,
    value_loss,
    whiten,
)

ALL = torch.ones(1, 3, dtype=torch.bool)


def test_log_probabilities_are_those_of_a_softmax_worked_by_hand() -> None:
    logits = torch.tensor([[[0.0, math.log(3.0)]]])
    assert token_logprobs(logits, torch.tensor([[1]])).item() == pytest.approx(math.log(0.75))


def test_log_probabilities_of_bfloat16_logits_are_summed_in_float32() -> None:
    logits = torch.randn(2, 5, 1000, dtype=torch.bfloat16)
    tokens = torch.randint(1000, (2, 5))
    expected = torch.log_softmax(logits.double(), -1).gather(-1, tokens[..., None])[..., 0]
    found = token_logprobs(logits, tokens)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), expected, atol=1e-5)


def test_the_score_is_paid_at_the_last_token_and_kl_is_charged_at_each() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    kl = torch.tensor([[0.1, 0.2, 9.0], [0.0, 0.5, -0.5]])
    rewards = shaped_rewards(torch.tensor([1.0, 2.0]), kl, mask, kl_coef=0.1)
    assert torch.allclose(rewards, torch.tensor([[-0.01, 0.98, 0.0], [0.0, -0.05, 2.05]]))


def test_gae_agrees_with_its_recursion_worked_by_hand() -> None:
    # gamma 0.5, lambda 0.5: delta = [1 + .5*2 - 1, 0 + .5*4 - 2, 3 - 4] = [1, 0, -1]
    # A = [1 + .25*(-.25), 0 + .25*(-1), -1] = [.9375, -.25, -1]
    advantages, returns = advantages_and_returns(
        torch.tensor([[1.0, 0.0, 3.0]]), torch.tensor([[1.0, 2.0, 4.0]]), ALL, gamma=0.5, lam=0.5
    )
    assert torch.allclose(advantages, torch.tensor([[0.9375, -0.25, -1.0]]))
    assert torch.allclose(returns, torch.tensor([[1.9375, 1.75, 3.0]]))


def test_with_lambda_one_the_return_is_the_discounted_sum_of_rewards() -> None:
    rewards, values = torch.randn(4, 6), torch.randn(4, 6)
    _, returns = advantages_and_returns(rewards, values, torch.ones(4, 6, dtype=torch.bool), gamma=0.9, lam=1.0)
    expected = torch.stack([sum(0.9**k * rewards[:, t + k] for k in range(6 - t)) for t in range(6)], dim=1)
    assert torch.allclose(returns, expected, atol=1e-5)


def test_what_stands_in_the_padding_changes_no_advantage() -> None:
    mask = torch.tensor([[True, True, True, False, False]])
    rewards, values = torch.randn(1, 5) * mask, torch.randn(1, 5)
    short = advantages_and_returns(rewards[:, :3], values[:, :3], mask[:, :3], 0.97, 0.9)
    long = advantages_and_returns(rewards, values + 100 * ~mask, mask, 0.97, 0.9)
    for a, b in zip(short, long, strict=True):
        assert torch.allclose(a, b[:, :3])
        assert (b[:, 3:] == 0).all()


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "clipped"),
    [
        (1.1, 2.0, -2.2, 0.0),
        (1.5, 2.0, -2.4, 1.0),  # above 1 + eps with a good action: clipped
        (0.5, 2.0, -1.0, 0.0),  # below 1 - eps with a good action: not clipped
        (0.5, -2.0, 1.6, 1.0),  # below 1 - eps with a bad action: clipped
        (1.5, -2.0, 3.0, 0.0),
    ],
)
def test_the_policy_loss_clips_only_what_would_move_further_out(
    ratio: float, advantage: float, loss: float, clipped: float
) -> None:
    value, fraction = policy_loss(
        torch.tensor([[math.log(ratio)]]),
        torch.zeros(1, 1),
        torch.tensor([[advantage]]),
        torch.ones(1, 1, dtype=torch.bool),
        0.2,
    )
    assert value.item() == pytest.approx(loss, rel=1e-5)
    assert fraction.item() == clipped


def test_the_policy_gradient_is_the_advantage_where_the_policy_has_not_moved() -> None:
    logprobs = torch.randn(2, 3, dtype=torch.float64)
    advantages = torch.randn(2, 3, dtype=torch.float64)
    moved = logprobs.clone().requires_grad_()
    loss, _ = policy_loss(moved, logprobs, advantages, torch.ones(2, 3, dtype=torch.bool), 0.2)
    loss.backward()
    assert torch.allclose(moved.grad, -advantages / 6)


def test_the_losses_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, False], [True, True, True]])
    old, advantages, returns = (torch.randn(2, 3, dtype=torch.float64) for _ in range(3))
    start = (old + 0.3 * torch.randn(2, 3, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: policy_loss(x, old, advantages, mask, 0.2)[0], (start,))
    assert torch.autograd.gradcheck(lambda x: value_loss(x, old, returns, mask, 0.2)[0], (start,))


def test_the_value_loss_takes_the_worse_of_clipped_and_unclipped() -> None:
    # value 1.0 from 0.0, clipped to 0.2; return 1.0: unclipped error 0, clipped error .64
    loss, fraction = value_loss(
        torch.ones(1, 1), torch.zeros(1, 1), torch.ones(1, 1), torch.ones(1, 1, dtype=torch.bool), 0.2
    )
    assert loss.item() == pytest.approx(0.32)
    assert fraction.item() == 1.0


def test_whitened_values_have_mean_zero_and_variance_one_over_the_mask_only() -> None:
    mask = torch.rand(8, 9) > 0.3
    values = torch.randn(8, 9) * 5 + 3 + 1000 * ~mask
    white = whiten(values, mask)
    assert masked_mean(white, mask).abs() < 1e-5
    assert masked_mean(white**2, mask).item() == pytest.approx(1.0, abs=1e-4)
    assert (white[~mask] == 0).all()


def test_the_summed_token_kl_estimates_the_kl_of_two_distributions() -> None:
    p, q = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.2, 0.3, 0.5])
    samples = torch.multinomial(p, 200_000, replacement=True, generator=torch.Generator().manual_seed(0))
    estimate = kl_per_token(p.log()[samples], q.log()[samples]).mean()
    assert estimate.item() == pytest.approx((p * (p / q).log()).sum().item(), abs=0.01)


def test_the_entropy_of_a_uniform_distribution_is_the_log_of_its_size() -> None:
    assert entropy(torch.zeros(1, 1, 8)).item() == pytest.approx(math.log(8))


def test_the_entropys_gradient_agrees_with_finite_differences() -> None:
    # entropy computes in float32, so the differences are taken by hand, on a wide step
    logits = torch.tensor([[[0.3, -1.0, 0.8]]], requires_grad=True)
    entropy(logits).sum().backward()
    for place in range(3):
        step = torch.zeros(1, 1, 3)
        step[0, 0, place] = 1e-2
        slope = (entropy(logits.detach() + step) - entropy(logits.detach() - step)).item() / 2e-2
        assert logits.grad[0, 0, place].item() == pytest.approx(slope, abs=1e-4)


@pytest.mark.parametrize(
    ("kl", "factor"),
    [
        (6.0, 1.0),
        (6.6, 1.01),  # a tenth above the target: 1 + 0.1 * 0.1
        (5.4, 0.99),
        (60.0, 1.02),  # far above: the error is clipped to 0.2
        (-3.0, 0.98),  # an estimate may be negative; clipped to -0.2
    ],
)
def test_the_adapted_coefficient_follows_the_kl_and_never_by_more_than_the_clipped_error(
    kl: float, factor: float
) -> None:
    assert adapted_kl_coef(0.2, kl, target=6.0, gain=0.1) == pytest.approx(0.2 * factor)


def test_moments_of_batches_together_are_those_of_all_numbers() -> None:
    # by hand: 1, 3 have mean 2 and squares 2; with 8 the mean is 4, the squares 9 + 1 + 16 = 26
    by_hand = combined(moments(torch.tensor([1.0, 3.0])), moments(torch.tensor([8.0])))
    assert by_hand == (3, pytest.approx(4.0), pytest.approx(26.0))
    assert by_hand.std == pytest.approx(13.0**0.5)
    values = 1000 + torch.randn(100, generator=torch.Generator().manual_seed(0))
    found = moments(values[:7])
    for start in range(7, 100, 31):
        found = combined(found, moments(values[start : start + 31]))
    assert found.mean == pytest.approx(values.double().mean().item())
    assert found.std == pytest.approx(values.double().std().item())
    assert moments(values[:1]).std == 0.0
