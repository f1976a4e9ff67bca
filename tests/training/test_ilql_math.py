"""ILQL's functions agree with values worked out by hand, with a table of a small problem, and with finite differences."""

from __future__ import annotations

import math

import pytest
import torch

from training.ilql_math import (
    awac_loss,
    cql_loss,
    expectile_loss,
    polyak,
    q_targets,
    rewards_at_the_end,
    steered_logits,
    td_loss,
)

MASK = torch.tensor([[True, True, True], [True, True, False]])


def test_an_answers_reward_stands_at_its_last_token() -> None:
    found = rewards_at_the_end(torch.tensor([2.0, -1.0]), MASK)
    assert found.tolist() == [[0.0, 0.0, 2.0], [0.0, -1.0, 0.0]]


def test_a_target_is_the_reward_and_the_discounted_value_of_the_next_state_and_nothing_follows_the_last() -> None:
    rewards = torch.tensor([[0.0, 0.5, 2.0], [0.0, -1.0, 0.0]])
    values = torch.tensor([[9.0, 4.0, 6.0], [9.0, 2.0, 50.0]], requires_grad=True)
    targets = q_targets(rewards, values, MASK, gamma=0.5)
    # row 0: 0 + .5*4, .5 + .5*6, 2 + 0; row 1: 0 + .5*2, -1 + 0 (50 is padding), 0
    assert targets.tolist() == [[2.0, 3.5, 2.0], [1.0, -1.0, 0.0]]
    assert not targets.requires_grad


def test_a_target_with_lambda_mixes_the_next_value_with_what_the_answer_came_to() -> None:
    rewards = torch.tensor([[0.0, 0.5, 2.0], [0.0, -1.0, 0.0]])
    values = torch.tensor([[9.0, 4.0, 6.0], [9.0, 2.0, 50.0]])
    # row 0 from the end: 2; .5 + .5*(.75*6 + .25*2) = 3; .5*(.75*4 + .25*3) = 1.875. Row 1: -1; .5*(.75*2 + .25*-1) = .625
    assert q_targets(rewards, values, MASK, gamma=0.5, lam=0.25).tolist() == [[1.875, 3.0, 2.0], [0.625, -1.0, 0.0]]
    # lam 1: the discounted return, whatever the values are
    assert q_targets(rewards, values, MASK, gamma=0.5, lam=1.0).tolist() == [[0.75, 1.5, 2.0], [-0.5, -1.0, 0.0]]


def test_the_td_loss_is_the_mean_squared_error_over_the_answers_tokens() -> None:
    q = torch.tensor([[1.0, 2.0, 3.0], [0.0, 1.0, 99.0]])
    targets = torch.tensor([[0.0, 2.0, 1.0], [2.0, 1.0, 0.0]])
    assert td_loss(q, targets, MASK).item() == pytest.approx((1 + 0 + 4 + 4 + 0) / 5)


@pytest.mark.parametrize(("tau", "loss"), [(0.5, 0.5 * (4 + 1) / 2), (0.9, (0.9 * 4 + 0.1 * 1) / 2)])
def test_the_expectile_loss_weighs_too_low_a_value_by_tau_and_too_high_a_one_by_the_rest(
    tau: float, loss: float
) -> None:
    q, values = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]])  # V too low by 2, too high by 1
    mask = torch.ones(1, 2, dtype=torch.bool)
    assert expectile_loss(q, values, mask, tau).item() == pytest.approx(loss)


def test_the_expectile_of_two_returns_lies_where_its_weighted_errors_balance() -> None:
    # tau (1 - v) = (1 - tau) v for returns 0 and 1, so v = tau
    for tau in (0.5, 0.7, 0.95):
        shared = torch.tensor(tau, dtype=torch.float64, requires_grad=True)
        mask = torch.ones(1, 2, dtype=torch.bool)
        expectile_loss(torch.tensor([[0.0, 1.0]]).double(), shared.expand(1, 2), mask, tau).backward()
        assert shared.grad.item() == pytest.approx(0.0, abs=1e-12)


def test_the_cql_term_is_the_cross_entropy_of_the_actions_under_a_softmax_of_q() -> None:
    q = torch.tensor([[[0.0, math.log(3.0)]]])
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert cql_loss(q, torch.tensor([[1]]), mask).item() == pytest.approx(-math.log(0.75))
    assert cql_loss(q, torch.tensor([[0]]), mask).item() == pytest.approx(-math.log(0.25))


def test_the_awac_term_weighs_each_actions_likelihood_by_its_advantage_and_no_weight_runs_away() -> None:
    logprobs = torch.tensor([[-1.0, -2.0]])
    mask = torch.ones(1, 2, dtype=torch.bool)
    advantages = torch.tensor([[math.log(2.0), 0.0]], requires_grad=True)
    assert awac_loss(logprobs, advantages, mask, beta=0.0).item() == pytest.approx(1.5)
    weighted = awac_loss(logprobs, advantages, mask, beta=2.0)
    assert weighted.item() == pytest.approx((4 * 1 + 1 * 2) / 2)
    assert not weighted.requires_grad, "the advantage is a weight, not something to learn"
    assert awac_loss(logprobs, torch.full((1, 2), 99.0), mask, beta=1.0).item() == pytest.approx(150.0)


def test_a_target_moves_by_its_rate_towards_what_it_follows() -> None:
    target, online = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])
    assert polyak(target, online, 0.25).tolist() == [1.5, 2.0]
    assert polyak(target, online, 1.0).tolist() == online.tolist()


def test_steering_multiplies_the_policy_by_the_exponential_of_the_advantage() -> None:
    logits, q = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    values = torch.randn(2, 3)
    found = torch.softmax(steered_logits(logits, q, values, beta=1.5), dim=-1)
    expected = torch.softmax(logits, -1) * torch.exp(1.5 * (q - values[..., None]))
    assert torch.allclose(found, expected / expected.sum(-1, keepdim=True), atol=1e-6)
    assert torch.allclose(steered_logits(logits, q, values, 0.0).softmax(-1), logits.softmax(-1), atol=1e-6)


def test_the_losses_agree_with_finite_differences() -> None:
    torch.manual_seed(0)
    q, values, targets, logprobs = (torch.randn(2, 3, dtype=torch.float64, requires_grad=True) for _ in range(4))
    full = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    actions = torch.randint(4, (2, 3))
    assert torch.autograd.gradcheck(lambda x: td_loss(x, targets.detach(), MASK), (q,))
    assert torch.autograd.gradcheck(lambda x: expectile_loss(q.detach(), x, MASK, 0.8), (values,))
    assert torch.autograd.gradcheck(lambda x: cql_loss(x, actions, MASK), (full,))
    assert torch.autograd.gradcheck(lambda x: awac_loss(x, q.detach(), MASK, 0.5), (logprobs,))


def test_iterating_the_losses_on_a_table_finds_the_values_of_the_best_actions_in_the_data() -> None:
    """Two steps from one start: action 0 then reward 1, action 1 then reward 0; the data choose each equally often."""
    rewards, mask = torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.ones(2, 2, dtype=torch.bool)
    q = torch.zeros(2, 2, dtype=torch.float64, requires_grad=True)  # of the action taken in each row at each step
    start = torch.zeros((), dtype=torch.float64, requires_grad=True)
    second = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([q, start, second], lr=0.5)
    for _ in range(1500):
        values = torch.stack([start.expand(2), second], dim=1)
        loss = td_loss(q, q_targets(rewards.double(), values, mask, 0.9), mask)
        loss = loss + expectile_loss(q, values, mask, tau=0.9)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert q.detach().flatten().tolist() == pytest.approx([0.9, 1.0, 0.0, 0.0], abs=1e-3)
    assert second.tolist() == pytest.approx([1.0, 0.0], abs=1e-3)
    assert start.item() == pytest.approx(0.9 * 0.9, abs=1e-3)  # the 0.9-expectile of 0.9 and 0
