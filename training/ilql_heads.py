"""ILQL's value heads on the policy's trunk: two Q functions over the vocabulary, their slow targets, and V.

The policy, Q and V read one trunk, so training has one model in memory and steering costs three small heads a token.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from training.ilql_math import polyak
from training.layer_checkpointing import checkpoint_layers
from training.merged import merged
from training.policy import decided_from
from training.ppo_math import token_logprobs
from training.recipe import LoraSettings


class Head(nn.Module):
    """Linear, ReLU, linear. Its output is 0 until training says otherwise."""

    def __init__(self, width: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, outputs)
        nn.init.zeros_(self.outer.weight)
        nn.init.zeros_(self.outer.bias)

    def forward(self, states: Tensor) -> Tensor:
        """states `(..., D)` -> `(..., outputs)`."""
        found: Tensor = self.outer(self.inner(states).relu())
        return found

    def at(self, states: Tensor, outputs: Tensor) -> Tensor:
        """One output of each state, without computing the others: states `(..., D)`, outputs `(...)` -> `(...)`."""
        hidden = self.inner(states).relu()
        found: Tensor = (hidden * self.outer.weight[outputs]).sum(dim=-1) + self.outer.bias[outputs]
        return found


class ValueHeads(nn.Module):
    """Q1, Q2, their targets, and V, as heads on states `(..., D)`."""

    def __init__(self, width: int, hidden: int, vocabulary: int) -> None:
        super().__init__()
        self.q1, self.q2 = Head(width, hidden, vocabulary), Head(width, hidden, vocabulary)
        self.target_q1 = copy.deepcopy(self.q1).requires_grad_(False)
        self.target_q2 = copy.deepcopy(self.q2).requires_grad_(False)
        self.v = Head(width, hidden, 1)

    def value(self, states: Tensor) -> Tensor:
        """V(s). `(..., D)` -> `(...)`."""
        found: Tensor = self.v(states).squeeze(-1)
        return found

    def target_q(self, states: Tensor) -> Tensor:
        """The lesser of the two targets for every word, by which answers are steered. `(..., D)` -> `(..., V)`."""
        return torch.minimum(self.target_q1(states), self.target_q2(states))

    def target_q_at(self, states: Tensor, actions: Tensor) -> Tensor:
        """The same for one word of each state. `(..., D)`, `(...)` -> `(...)`."""
        return torch.minimum(self.target_q1.at(states, actions), self.target_q2.at(states, actions))

    @torch.no_grad()
    def follow(self, rate: float) -> None:
        """Move the targets towards the Q functions, by `rate` of the way."""
        for target, online in ((self.target_q1, self.q1), (self.target_q2, self.q2)):
            for slow, fast in zip(target.parameters(), online.parameters(), strict=True):
                slow.copy_(polyak(slow, fast, rate))


class Estimates(NamedTuple):
    """What policy and heads make of an answer's T tokens."""

    logprobs: Tensor  # (B, T) of the tokens under the policy
    q1: Tensor  # (B, T, V)
    q2: Tensor  # (B, T, V)
    target_q: Tensor  # (B, T) the lesser of the two targets at the token taken, without gradient
    values: Tensor  # (B, T)


class ValuedPolicy(nn.Module):
    """A causal language model with value heads; with LoRA its weights are frozen and adapters learn.

    forward: input_ids `(B, P+T)`, attention_mask `(B, P+T)`, T -> Estimates of the last T tokens, float32.
    """

    def __init__(
        self, model: Any, lora: LoraSettings | None, head_size: int | None, gradient_checkpointing: bool = False
    ) -> None:
        super().__init__()
        width = model.config.get_text_config().hidden_size
        vocabulary = model.get_output_embeddings().weight.shape[0]
        self.uses_adapters = lora is not None
        if lora is not None:
            from peft import LoraConfig, get_peft_model

            model.requires_grad_(False)
            self.model: Any = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora.model_dump()))
        else:
            self.model = model
        if gradient_checkpointing:
            checkpoint_layers(self.language_model)
        self.heads = ValueHeads(width, head_size or width, vocabulary)

    @property
    def language_model(self) -> Any:
        """The causal language model, adapters in place."""
        return self.model.get_base_model() if self.uses_adapters else self.model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, answer_length: int) -> Estimates:
        states, logits = decided_from(self.language_model, {"input_ids": input_ids}, attention_mask, answer_length)
        actions = input_ids[:, -answer_length:]
        states = states.float()
        with torch.no_grad():
            target_q = self.heads.target_q_at(states, actions)
        return Estimates(
            token_logprobs(logits, actions),
            self.heads.q1(states).float(),
            self.heads.q2(states).float(),
            target_q.float(),
            self.heads.value(states).float(),
        )

    def trainable_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the policy, and of the heads that learn."""
        return (
            [parameter for parameter in self.model.parameters() if parameter.requires_grad],
            [parameter for parameter in self.heads.parameters() if parameter.requires_grad],
        )

    def trainable_state(self) -> dict[str, Tensor]:
        """What training changes, by name: adapters or the whole model, and all heads, the targets with them."""
        names = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {
            name: tensor for name, tensor in self.state_dict().items() if name in names or name.startswith("heads.")
        }

    def merged(self) -> Any:
        """The policy as a plain causal language model, adapters merged."""
        return merged(self.model) if self.uses_adapters else self.model
