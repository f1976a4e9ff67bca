"""Rollouts: responses sampled from the policy, and what PPO needs to know of each."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from training.chat import stop_tokens
from training.decoding import Decoding, decode
from training.kept_from_sampling import KeptFromSampling
from training.policy import ActorCritic
from training.recipe import Generation

if TYPE_CHECKING:
    from accelerate import Accelerator
    from transformers import PreTrainedTokenizerBase

    from training.vllm_rollouts import VLLMRollouts

Row = TypeVar("Row")


@dataclass(frozen=True)
class Responses:
    """Sampled responses in one rectangle: prompts padded on the left to P, responses on the right to T."""

    input_ids: Tensor  # (B, P+T)
    attention_mask: Tensor  # (B, P+T)
    mask: Tensor  # (B, T) bool, True up to and with the token that ended it
    ended: Tensor  # (B,) bool, whether the response ended by itself

    @property
    def length(self) -> int:
        return self.mask.shape[1]

    def columns(self, chosen: Tensor) -> slice:
        """The columns that any of the chosen episodes uses; to their left and right is padding only."""
        used = self.attention_mask[chosen].any(dim=0).nonzero()[:, 0]
        return slice(int(used[0]), int(used[-1]) + 1)

    def tokens(self) -> list[list[int]]:
        """Each response's own tokens, without padding."""
        responses = self.input_ids[:, -self.length :]
        return [row[keep].tolist() for row, keep in zip(responses, self.mask, strict=True)]


@dataclass(frozen=True)
class Kept:
    """What the policy computed of its responses while it sampled them (training/kept_from_sampling.py)."""

    logprobs: Tensor  # (B, T)
    values: Tensor  # (B, T), of the value head; they say nothing where there is a critic instead
    trunk: Tensor | None  # (B, P+T, D)


@dataclass(frozen=True)
class Experience:
    """Responses with what the policy, the reference and the reward model said when they were sampled."""

    responses: Responses
    logprobs: Tensor  # (B, T)
    ref_logprobs: Tensor  # (B, T)
    values: Tensor  # (B, T)
    scores: Tensor  # (B,) as the reward model gave them
    trunk: Tensor | None  # (B, P+T, D) what the frozen layers made of the tokens, where there are any


def gathered_experience(own: Experience, accelerator: Accelerator) -> Experience:
    """The experience of all processes, on each of them, in the order of the processes, each of which brings as many episodes."""
    if accelerator.num_processes == 1:
        return own
    sizes = torch.tensor([own.responses.input_ids.shape[1] - own.responses.length, own.responses.length])  # P, T
    here = sizes.to(own.scores.device)
    before, after = (accelerator.gather(here[None]).amax(dim=0) - here).tolist()  # columns of padding

    def answers(values: Tensor) -> Tensor:  # (B, T, ...)
        return _gathered(values, 0, after, accelerator)

    def tokens(values: Tensor) -> Tensor:  # (B, P+T, ...)
        return _gathered(values, before, after, accelerator)

    found = own.responses
    responses = Responses(
        input_ids=tokens(found.input_ids),
        attention_mask=tokens(found.attention_mask),
        mask=answers(found.mask),
        ended=accelerator.gather(found.ended),
    )
    trunk = None if own.trunk is None else tokens(own.trunk)
    logprobs, ref_logprobs, values = map(answers, (own.logprobs, own.ref_logprobs, own.values))
    return Experience(responses, logprobs, ref_logprobs, values, accelerator.gather(own.scores), trunk)


def _gathered(values: Tensor, left: int, right: int, accelerator: Accelerator) -> Tensor:
    """`(B, L, ...)` with columns of zeros put on, of all processes."""
    padding = [0, 0] * (values.dim() - 2) + [left, right]
    whole: Tensor = accelerator.gather(torch.nn.functional.pad(values, padding).contiguous())
    return whole


def in_shuffled_epochs(rows: Sequence[Row], first: int, count: int, seed: int | str) -> list[Row]:
    """Rows number `first` and following of an endless series of epochs, each in an order of its own."""
    places = (divmod(position, len(rows)) for position in range(first, first + count))
    return [rows[_order(len(rows), seed, epoch)[index]] for epoch, index in places]


@lru_cache(maxsize=4)
def _order(length: int, seed: int | str, epoch: int) -> list[int]:
    order = list(range(length))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return order


def sample(
    actor: ActorCritic,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    generation: Generation,
    keep: bool = False,
    uniforms: Tensor | None = None,
    engine: VLLMRollouts | None = None,
) -> tuple[Responses, Kept | None]:
    """Sample one response for each prompt from the whole distribution at the given temperature.

    Nothing is cut from the distribution (no top-k, no top-p): PPO's ratio is of the probabilities sampled from. With `keep`, what
    the policy computed of the responses on the way comes along. `uniforms` `(B, max_new_tokens)` are the random numbers to use.
    An `engine` samples in the policy's place, from its weights.
    """
    device = next(actor.parameters()).device
    pad, longest = tokenizer.pad_token_id, generation.max_new_tokens
    model = actor.language_model
    stops = stop_tokens(tokenizer, model.generation_config)
    training = model.training
    model.eval()
    decoding = Decoding(max_new_tokens=longest, temperature=generation.temperature)
    before = max(map(len, prompts))
    uniforms = torch.rand(len(prompts), longest) if uniforms is None else uniforms
    if engine is not None:
        answers = engine.answers(model, prompts, uniforms, decoding, stops)
    elif keep:
        kept = KeptFromSampling(actor, len(prompts), before, longest, generation.temperature)
        with kept.watching():
            answers = decode(model, prompts, 1, decoding, uniforms, stops, observe=kept.observe, keep_stop=True)
    else:
        answers = decode(model, prompts, 1, decoding, uniforms, stops, keep_stop=True)
    model.train(training)
    ended = [answer[-1] in stops for answer in answers]
    after = max(map(len, answers))
    ids, attention = [], []
    for prompt, answer in zip(prompts, answers, strict=True):
        left, right = before - len(prompt), after - len(answer)
        ids.append([*[pad] * left, *prompt, *answer, *[pad] * right])
        attention.append([*[0] * left, *[1] * (len(prompt) + len(answer)), *[0] * right])
    mask = torch.tensor(attention, device=device)  # (B, P+T)
    responses = Responses(
        input_ids=torch.tensor(ids, device=device),
        attention_mask=mask,
        mask=mask[:, before:].bool(),
        ended=torch.tensor(ended, device=device),
    )
    if not keep or engine is not None:
        return responses, None
    trunk = None if kept.trunk is None else kept.trunk[:, : before + after]
    return responses, Kept(kept.logprobs[:, :after], kept.values[:, :after], trunk)
