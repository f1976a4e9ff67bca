"""Scores of answers to prompts, by a reward model or a Python function: what best-of-n and ILQL's evaluation ask.

scorer = Scorer.load("runs/reward", None, "float32", "cpu")
scorer.score(tokenizer, [([{"role": "user", "content": "Hello"}], "Hi, how can I help?")])     # [0.73]
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from training.chat import prompt_ids
from training.data import Messages
from training.pretrained import resolve_base
from training.reward_sources import TextRewards, load_reward_function
from training.run_record import ParentCheckpoint, RewardSource

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from training.rewards import RewardModel


@dataclass(frozen=True)
class Scorer:
    """What scores, and what a run's record says of it."""

    rewards: RewardModel | TextRewards
    parents: list[ParentCheckpoint]  # the reward model, if it is one
    sources: list[RewardSource]  # the function, if it is one

    @classmethod
    def load(cls, reward_model: str | None, reward_function: str | None, dtype: str, device: str) -> Scorer:
        """One of the two, the other being None. Raises UsageError where it cannot be had."""
        if reward_function is not None:
            function = load_reward_function(reward_function)
            return cls(function, [], [function.source])
        from training.rewards import RewardModel

        assert reward_model is not None  # one of the two is given
        found = resolve_base(reward_model)
        parent = found.parent.model_copy(update={"role": "reward_model", "hub_id": None})
        return cls(RewardModel.load(found.checkpoint, dtype, device=device), [parent], [])

    @property
    def identity(self) -> str:
        """What scores, by its bytes: a reward model by its digest, a function by its name and the hash of its file."""
        if self.sources:
            return f"{self.sources[0].name.rpartition(':')[2]} of sha256:{self.sources[0].sha256}"
        return self.parents[0].digest

    def score(self, tokenizer: PreTrainedTokenizerBase, conversations: Sequence[tuple[Messages, str]]) -> list[float]:
        """A score for each (prompt, answer), in their order. `tokenizer` is the answering policy's: a function is given the
        prompt as that policy read it. Raises RewardFailed where a function does not give one finite number each.
        """
        if not isinstance(self.rewards, TextRewards):
            return self.rewards.score(conversations)
        prompts = [tokenizer.decode(prompt_ids(tokenizer, prompt)) for prompt, _ in conversations]
        return self.rewards.score(prompts, [answer for _, answer in conversations])


def mean_and_stderr(values: Sequence[float]) -> tuple[float, float | None]:
    """The mean and its standard error; None of a single value, which does not say how far others would be from it."""
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None
    return statistics.fmean(values), error
