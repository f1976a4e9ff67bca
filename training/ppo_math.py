"""The mathematics of RLHF's PPO as pure functions of tensors, each with its equation and source.

Shapes: B episodes, T response tokens. `mask` is `(B, T)` bool: True on tokens that the policy chose, the end-of-turn
token included; positions after it are padding and count nowhere.

Sources: Schulman et al. 2016 (GAE, arXiv 1506.02438), Schulman et al. 2017 (PPO, arXiv 1707.06347), Schulman 2020 (KL
estimators, joschu.net/blog/kl-approx.html), Ziegler et al. 2019 (arXiv 1909.08593), Ouyang et al. 2022 (arXiv 2203.02155).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """The logits that are sampled from, divided in float32. At temperature 1 they are the model's, and nothing is copied."""
    return logits if temperature == 1.0 else logits.float() / temperature


def token_logprobs(logits: Tensor, tokens: Tensor) -> Tensor:
    """log p(token) at each position, summed in float32: bfloat16 keeps too few digits for a probability ratio.

    logits `(B, T, V)`, tokens `(B, T)` -> `(B, T)` float32.
    """
    logits = logits.float()
    chosen = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1)  # (B, T)
    return chosen - logits.logsumexp(dim=-1)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the True positions of `mask`; 0 where there are none. `(B, T)`, `(B, T)` -> scalar."""
    weights = mask.to(values.dtype)
    return (values * weights).sum() / weights.sum().clamp(min=1)


def whiten(values: Tensor, mask: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Scale to variance 1 (and mean 0) over the True positions. `(B, T)`, `(B, T)` -> `(B, T)`, 0 elsewhere."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    whitened = (values - mean) * torch.rsqrt(variance + 1e-8)
    return (whitened if shift_mean else whitened + mean) * mask


def kl_per_token(logprobs: Tensor, ref_logprobs: Tensor) -> Tensor:
    """log pi(y_t) - log pi_ref(y_t): Schulman's k1, whose sum over a sampled response is an unbiased estimate of
    KL(pi || pi_ref). It is what the reward is charged with. `(B, T)`, `(B, T)` -> `(B, T)`.
    """
    return logprobs - ref_logprobs


def shaped_rewards(scores: Tensor, kl: Tensor, mask: Tensor, kl_coef: float) -> Tensor:
    """r_t = -beta * kl_t, with the score added at the last token (Ouyang et al. 2022, equation 2; Ziegler et al. 2019).

    scores `(B,)`, kl `(B, T)`, mask `(B, T)` -> `(B, T)`.
    """
    rewards = -kl_coef * kl * mask
    last = mask.sum(dim=1) - 1  # (B,)
    rewards[torch.arange(len(scores), device=scores.device), last] += scores
    return rewards


def adapted_kl_coef(coef: float, kl: float, target: float, gain: float) -> float:
    """The coefficient of the KL penalty for the next update (Ziegler et al. 2019, section 2.2).

    e = clip((KL - target) / target, -0.2, 0.2);  beta' = beta (1 + K e). kl and target in nats a response; `gain` is K,
    0.1 in the paper and episodes / horizon in its code.
    """
    error = min(0.2, max(-0.2, (kl - target) / target))
    return coef * (1.0 + gain * error)


class Moments(NamedTuple):
    """How many numbers there were, their mean, and the sum of their squared deviations from it."""

    size: int
    mean: float
    squares: float

    @property
    def std(self) -> float:
        """The sample's standard deviation; 0 of fewer than two numbers."""
        return (self.squares / (self.size - 1)) ** 0.5 if self.size > 1 else 0.0


def moments(values: Tensor) -> Moments:
    """Of one batch, `(B,)`, in float64."""
    values = values.double()
    return Moments(len(values), float(values.mean()), float(((values - values.mean()) ** 2).sum()))


def combined(first: Moments, second: Moments) -> Moments:
    """Those of both batches together (Chan, Golub and LeVeque 1979, equation 2.1)."""
    size = first.size + second.size
    difference = second.mean - first.mean
    return Moments(
        size,
        first.mean + difference * second.size / size,
        first.squares + second.squares + difference**2 * first.size * second.size / size,
    )


def advantages_and_returns(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lam: float
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation (Schulman et al. 2016, equations 11, 12 and 16).

    delta_t = r_t + gamma V_{t+1} - V_t;  A_t = delta_t + gamma lam A_{t+1};  return_t = A_t + V_t; the value after
    the last token is 0, for the episode has ended. All `(B, T)`; advantages and returns are 0 off the mask.
    """
    values = values * mask
    advantages = torch.zeros_like(rewards)
    following_advantage = torch.zeros_like(rewards[:, 0])
    following_value = torch.zeros_like(rewards[:, 0])
    for t in range(rewards.shape[1] - 1, -1, -1):
        delta = rewards[:, t] + gamma * following_value - values[:, t]
        following_advantage = (delta + gamma * lam * following_advantage) * mask[:, t]
        following_value = values[:, t]
        advantages[:, t] = following_advantage
    return advantages, (advantages + values) * mask


def policy_loss(
    logprobs: Tensor, old_logprobs: Tensor, advantages: Tensor, mask: Tensor, cliprange: float
) -> tuple[Tensor, Tensor]:
    """PPO's clipped objective, negated (Schulman et al. 2017, equation 7), and the fraction of tokens that it clips.

    -mean(min(ratio A, clip(ratio, 1 - eps, 1 + eps) A)), ratio = exp(logprob - old logprob). All `(B, T)` -> scalars.
    """
    ratio = torch.exp(logprobs - old_logprobs)
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - cliprange, 1 + cliprange)
    loss = masked_mean(torch.maximum(unclipped, clipped), mask)
    return loss, masked_mean((clipped > unclipped).to(ratio.dtype), mask)


def value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, cliprange_value: float
) -> tuple[Tensor, Tensor]:
    """Half the squared error, the worse of the value and the value clipped to near its old one, and the clipped fraction.

    0.5 mean(max((V - R)^2, (clip(V, V_old - eps, V_old + eps) - R)^2)), as in OpenAI's baselines. All `(B, T)` -> scalars.
    """
    near_old = torch.clamp(values, old_values - cliprange_value, old_values + cliprange_value)
    unclipped, clipped = (values - returns) ** 2, (near_old - returns) ** 2
    loss = 0.5 * masked_mean(torch.maximum(unclipped, clipped), mask)
    return loss, masked_mean((clipped > unclipped).to(values.dtype), mask)


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the next-token distribution in nats. `(B, T, V)` -> `(B, T)` float32."""
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    return -(logprobs.exp() * logprobs).sum(dim=-1)
