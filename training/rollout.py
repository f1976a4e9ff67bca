"""Rollouts: responses sampled from the policy, and what PPO needs to know of each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from training.policy import ActorCritic
from training.recipe import Generation

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Responses:
    """Sampled responses in one rectangle: prompts padded on the left to P, responses on the right to T."""

    input_ids: Tensor  # (B, P+T)
    attention_mask: Tensor  # (B, P+T)
    mask: Tensor  # (B, T) bool, True up to and with the end-of-turn token
    ended: Tensor  # (B,) bool, whether the response ended by itself

    @property
    def length(self) -> int:
        return self.mask.shape[1]

    def tokens(self) -> list[list[int]]:
        """Each response's own tokens, without padding."""
        responses = self.input_ids[:, -self.length :]
        return [row[keep].tolist() for row, keep in zip(responses, self.mask, strict=True)]


@dataclass(frozen=True)
class Experience:
    """Responses with what the policy, the reference and the reward model said when they were sampled."""

    responses: Responses
    logprobs: Tensor  # (B, T)
    ref_logprobs: Tensor  # (B, T)
    values: Tensor  # (B, T)
    scores: Tensor  # (B,) as the reward model gave them


def sample(
    actor: ActorCritic, tokenizer: PreTrainedTokenizerBase, prompts: list[list[int]], generation: Generation
) -> Responses:
    """Sample one response for each prompt from the whole distribution at the given temperature.

    Nothing is cut from the distribution (no top-k, no top-p): PPO's ratio is of the probabilities sampled from.
    """
    device = next(actor.parameters()).device
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    width = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (width - len(prompt)) + prompt for prompt in prompts], device=device)  # (B, P)
    attention = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=device)
    model = actor.language_model
    training = model.training
    model.eval()
    with torch.no_grad():
        sequences = model.generate(
            input_ids=ids,
            attention_mask=attention,
            max_new_tokens=generation.max_new_tokens,
            do_sample=True,
            temperature=generation.temperature,
            top_k=0,
            top_p=1.0,
            eos_token_id=eos,
            pad_token_id=pad,
        )
    model.train(training)
    response = sequences[:, width:]  # (B, T)
    is_eos = response == eos
    # A token counts while no end-of-turn token stood before it.
    mask = (is_eos.long().cumsum(dim=1) - is_eos.long()) == 0
    return Responses(
        input_ids=sequences,
        attention_mask=torch.cat([attention, mask.long()], dim=1),
        mask=mask,
        ended=(is_eos & mask).any(dim=1),
    )
