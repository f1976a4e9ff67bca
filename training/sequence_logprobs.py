"""How likely a language model finds what is to be learned of token sequences: held-out losses, and DPO's implicit rewards.

learned = learned_logprobs(model, [(ids, labels)], pad=tokenizer.pad_token_id)
learned[0].total, learned[0].tokens     # nats, and over how many tokens
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from training.chat import UNLEARNED, answer_sequence
from training.data import Messages
from training.ppo_math import token_logprobs

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Learned(NamedTuple):
    """Of one sequence: the sum of its labelled tokens' log-probabilities in nats, and how many they are."""

    total: float
    tokens: int


@torch.inference_mode()
def learned_logprobs(
    model: Any, sequences: Sequence[tuple[list[int], list[int]]], pad: int, batch_size: int = 8
) -> list[Learned]:
    """For each sequence of (ids, labels), labels being UNLEARNED or the id itself. Batches are of similar lengths."""
    training = model.training
    model.eval()
    found = [Learned(0.0, 0)] * len(sequences)
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index][0]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        width = max(len(sequences[index][0]) for index in batch)
        ids, labels = (
            torch.tensor(
                [sequences[index][part] + [fill] * (width - len(sequences[index][part])) for index in batch],
                device=model.device,
            )
            for part, fill in ((0, pad), (1, UNLEARNED))
        )  # (B, T) each
        lengths = torch.tensor([len(sequences[index][0]) for index in batch], device=model.device)
        attention = (torch.arange(width, device=model.device)[None, :] < lengths[:, None]).long()  # (B, T)
        logits = model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, :-1]  # (B, T-1, V)
        learned = labels[:, 1:] != UNLEARNED  # (B, T-1)
        logprobs = token_logprobs(logits, ids[:, 1:]) * learned
        for index, total, tokens in zip(batch, logprobs.sum(1).tolist(), learned.sum(1).tolist(), strict=True):
            found[index] = Learned(total, tokens)
    model.train(training)
    return found


def loss_per_token(learned: Sequence[Learned]) -> float:
    """The mean over all learned tokens, in nats: exp of it is the perplexity."""
    return -sum(each.total for each in learned) / sum(each.tokens for each in learned)


def loss_change(before: Sequence[Learned], after: Sequence[Learned]) -> tuple[float, float | None]:
    """By how much the loss of the same rows changed, in nats a learned token, and its standard error.

    The error is that of a ratio of sums over rows (Cochran 1977, section 6.4); there is none of a single row.
    """
    tokens = sum(row.tokens for row in after)
    rows = [then.total - now.total for now, then in zip(after, before, strict=True)]
    change = sum(rows) / tokens
    rest = [row_change - change * row.tokens for row_change, row in zip(rows, after, strict=True)]
    return change, math.sqrt(len(rest) * statistics.variance(rest)) / tokens if len(rest) > 1 else None


def answer_logprobs(
    model: Any, tokenizer: PreTrainedTokenizerBase, conversations: Sequence[tuple[Messages, str]]
) -> list[float]:
    """log pi(answer | prompt) in nats for each (prompt, answer), the end of the turn included."""
    sequences = [answer_sequence(tokenizer, prompt, answer) for prompt, answer in conversations]
    return [each.total for each in learned_logprobs(model, sequences, tokenizer.pad_token_id)]
