"""The mathematics of implicit language Q-learning as pure functions of tensors, each with its equation and source.

Shapes: B answers, T answer tokens, V words of the vocabulary. A token is an action; the state before it is all that was read and
said so far. `mask` is `(B, T)` bool: True on the answer's tokens, the end-of-turn token included, and contiguous in each row.

Sources: Snell et al. 2022 (ILQL, arXiv 2206.11871, section 4), Kostrikov et al. 2021 (IQL, arXiv 2110.06169, equations 5 to 7),
Kumar et al. 2020 (CQL, arXiv 2006.04779, equation 4), Nair et al. 2020 (AWAC, arXiv 2006.09359, equation 13), Fujimoto et al.
2018 (the lesser of two Q functions, arXiv 1802.09477).
"""

from __future__ import annotations

import torch
from torch import Tensor

from training.ppo_math import masked_mean

LARGEST_WEIGHT = 100.0  # of an action in `awac_loss`, as in IQL: one lucky answer must not be the whole gradient


def rewards_at_the_end(rewards: Tensor, mask: Tensor) -> Tensor:
    """r_t: the answer's reward at its last token, 0 before. rewards `(B,)`, mask `(B, T)` -> `(B, T)`."""
    last = mask.sum(dim=1) - 1  # (B,)
    spread = rewards.new_zeros(mask.shape)
    spread[torch.arange(len(rewards), device=rewards.device), last] = rewards
    return spread


def q_targets(rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float = 0.0) -> Tensor:
    """y_t = r_t + gamma ((1 - lam) V(s_{t+1}) + lam y_{t+1}), with V = y = 0 after the last token. No gradient runs through it.

    lam = 0 is ILQL's own target (Kostrikov et al., equation 6): a reward at the end of an answer reaches the state k tokens before
    it through k values, each learned from the next. lam = 1 is the return itself, with which Q is that of the data's policy and V
    the expectile of it (one-step reinforcement learning, Brandfonbrener et al. 2021, arXiv 2106.08909); between them it is
    Peng's Q(lambda), uncorrected (Kozuno et al. 2021, arXiv 2103.00107, equation 4).

    rewards, values `(B, T)`, values[:, t] being V(s_t) -> `(B, T)`, 0 off the mask.
    """
    found = torch.zeros_like(values)
    value, target = torch.zeros_like(values[:, 0]), torch.zeros_like(values[:, 0])  # (B,) of the token after
    for place in reversed(range(values.shape[1])):
        target = (rewards[:, place] + gamma * ((1 - lam) * value + lam * target)) * mask[:, place]
        value = values[:, place] * mask[:, place]
        found[:, place] = target
    return found.detach()


def td_loss(q: Tensor, targets: Tensor, mask: Tensor) -> Tensor:
    """mean (Q(s_t, a_t) - y_t)^2, of one Q function (Kostrikov et al., equation 6). All `(B, T)` -> scalar."""
    return masked_mean((q - targets) ** 2, mask)


def expectile_loss(q: Tensor, values: Tensor, mask: Tensor, tau: float) -> Tensor:
    """mean |tau - 1(u < 0)| u^2 with u = Q(s_t, a_t) - V(s_t) (Kostrikov et al., equation 5). Only V gets a gradient.

    At tau = 0.5 V is the mean of Q over the data's actions; towards 1 it is the best of those actions that the data contain.
    `q` is the lesser of the two target Q functions. All `(B, T)` -> scalar.
    """
    difference = q.detach() - values
    weight = torch.where(difference < 0, difference.new_tensor(1 - tau), difference.new_tensor(tau))
    return masked_mean(weight * difference**2, mask)


def cql_loss(q: Tensor, actions: Tensor, mask: Tensor) -> Tensor:
    """mean log sum_a exp Q(s_t, a) - Q(s_t, a_t): words that no answer of the data chose are held below those that were.

    It is the cross-entropy of the actions under softmax(Q) (Kumar et al., equation 4; Snell et al., section 4.2).
    q `(B, T, V)`, actions and mask `(B, T)` -> scalar.
    """
    taken = q.gather(-1, actions.unsqueeze(-1)).squeeze(-1)  # (B, T)
    return masked_mean(q.logsumexp(dim=-1) - taken, mask)


def awac_loss(logprobs: Tensor, advantages: Tensor, mask: Tensor, beta: float) -> Tensor:
    """-mean exp(beta A_t) log pi(a_t | s_t), the weight at most 100 and without gradient (Nair et al., equation 13).

    beta = 0 is the likelihood of the data, by which ILQL learns the policy that it perturbs. advantages: Q(s_t, a_t) - V(s_t).
    All `(B, T)` -> scalar.
    """
    weight = torch.exp(beta * advantages.detach()).clamp(max=LARGEST_WEIGHT)
    return -masked_mean(weight * logprobs, mask)


def polyak(target: Tensor, online: Tensor, rate: float) -> Tensor:
    """(1 - rate) target + rate online: the target follows slowly, so that V does not chase a Q that chases V. Any one shape."""
    return target.lerp(online.to(target.dtype), rate)


def steered_logits(logits: Tensor, q: Tensor, values: Tensor, beta: float) -> Tensor:
    """log pi(a | s) + beta (Q(s, a) - V(s)), unnormalised (Snell et al., section 4.3). beta = 0 is the policy itself.

    logits, q `(..., V)`, values `(...)` -> `(..., V)` float32. `q` is the lesser of the two target Q functions.
    """
    return torch.log_softmax(logits.float(), dim=-1) + beta * (q.float() - values.float().unsqueeze(-1))
