"""The policy with its value head on one trunk, or a critic beside it, and the frozen reference that it is held close to.

With LoRA, the reference is the same trunk with the adapters off: one model in memory, and the layers below the lowest
adapter are computed once for all who read them (training/frozen_trunk.py). With full fine-tuning it is a frozen copy.
"""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from training.chosen_tokens import chosen_logprobs
from training.frozen_trunk import frozen_layers, layers_from, same_layers, trunk_states
from training.layer_checkpointing import checkpoint_layers
from training.merged import merged
from training.ppo_math import entropy, tempered, token_logprobs
from training.recipe import LoraSettings
from training.sharding import in_parts_like

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from training.critic import Critic
    from training.rewards import RewardModel


class ActorCritic(nn.Module):
    """A causal language model and a linear value head on its last hidden state, or a critic with a trunk of its own.

    forward: input_ids `(B, P+T)`, attention_mask `(B, P+T)`, T -> logprobs, values, entropies of the last T tokens,
    each `(B, T)` float32. A position's value is that of the state before its token is chosen. `trunk` is what
    `trunk_states` has made of the same tokens, where they were computed before. Entropies have a gradient where
    `entropy_gradient` asks for it, for the vocabulary's is large; without gradients at all they are zeros.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        lora: LoraSettings | None,
        gradient_checkpointing: bool = False,
        critic: Critic | None = None,
    ) -> None:
        super().__init__()
        hidden_size = model.config.get_text_config().hidden_size
        self.uses_adapters = lora is not None
        if lora is not None:
            from peft import LoraConfig, get_peft_model

            model.requires_grad_(False)
            # The adapters themselves are float32, whatever the trunk is: small updates vanish in bfloat16.
            self.model: Any = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **lora.model_dump()))
            self.reference: Any = None
        else:
            self.model = model
            self.reference = copy.deepcopy(model).requires_grad_(False)
        self.frozen_layers = frozen_layers(self.language_model) if lora is not None else 0
        if gradient_checkpointing:
            checkpoint_layers(self.language_model)
        self.critic = critic
        if critic is not None:
            critic.share_trunk(self.language_model, self.frozen_layers)
            return
        self.value_head = nn.Linear(hidden_size, 1)
        # Every state is worth 0 until returns say otherwise.
        nn.init.zeros_(self.value_head.weight)
        nn.init.zeros_(self.value_head.bias)

    @property
    def language_model(self) -> Any:
        """The causal language model, adapters in place."""
        return self.model.get_base_model() if self.uses_adapters else self.model

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        response_length: int,
        temperature: float,
        trunk: Tensor | None = None,
        entropy_gradient: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        hidden, logits = self._decode(self.language_model, input_ids, attention_mask, response_length, trunk)
        tokens = input_ids[:, -response_length:]
        read = (input_ids, attention_mask, response_length, trunk)
        values = self.values(hidden) if self.critic is None else self.critic(*read)
        if entropy_gradient:
            logits = tempered(logits, temperature)
            return token_logprobs(logits, tokens), values, entropy(logits)
        logprobs, entropies = chosen_logprobs(logits, tokens, torch.is_grad_enabled(), temperature)
        return logprobs, values, entropies

    def values(self, hidden: Tensor) -> Tensor:
        """What the states are worth, `(..., D)` -> `(...)` float32."""
        # Autocast would multiply in bfloat16, whose eight bits of precision are coarser than what values are told apart by.
        with torch.autocast(hidden.device.type, enabled=False):
            worth: Tensor = self.value_head(hidden.float()).squeeze(-1)
        return worth

    def trunk_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor | None:
        """What the frozen layers make of the tokens, `(B, P+T, D)`; None where every layer learns."""
        if not self.frozen_layers:
            return None
        positions = token_positions(attention_mask)
        return trunk_states(self.language_model, self.frozen_layers, input_ids, attention_mask, positions)

    def shares_trunk(self, reward_model: RewardModel) -> bool:
        """Whether the reward model can read `trunk_states` as well: its lowest layers are the frozen ones, to the bit."""
        model = getattr(reward_model, "model", None)
        return model is not None and same_layers(self.language_model, model, self.frozen_layers)

    def reference_logprobs(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        response_length: int,
        temperature: float,
        trunk: Tensor | None = None,
    ) -> Tensor:
        """The reference's log-probabilities of the last `response_length` tokens, `(B, T)` float32, without gradients."""
        adapters_off = self.model.disable_adapter() if self.uses_adapters else nullcontext()
        with torch.no_grad(), adapters_off:
            model = self.language_model if self.uses_adapters else self.reference
            _, logits = self._decode(model, input_ids, attention_mask, response_length, trunk)
            tokens = input_ids[:, -response_length:]
            return chosen_logprobs(logits, tokens, with_entropy=False, temperature=temperature)[0]

    def trainable_groups(self) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
        """Parameters of the policy, and of the value head or the critic."""
        values = self.value_head if self.critic is None else self.critic
        policy, worth = ([each for each in part.parameters() if each.requires_grad] for part in (self.model, values))
        return policy, worth

    def trainable_state(self) -> dict[str, Tensor]:
        """What training changes, by name: adapters or the whole model, and the value head or the critic."""
        names = {name for name, parameter in self.named_parameters() if parameter.requires_grad}
        return {name: tensor for name, tensor in self.state_dict().items() if name in names}

    def policy_state(self) -> dict[str, Tensor]:
        """`trainable_state` without what says values."""
        return {name: tensor for name, tensor in self.trainable_state().items() if name.startswith("model.")}

    def load_trainable(self, state: dict[str, Tensor]) -> None:
        """Take back a `trainable_state`, whole, however the weights lie."""
        held = dict(self.named_parameters())
        self.load_state_dict({name: in_parts_like(value, held[name]) for name, value in state.items()}, strict=False)

    def modules_apart(self) -> list[nn.Module]:
        """The modules that are called by themselves, each of which can be shared out among processes."""
        values = [self.value_head] if self.critic is None else self.critic.modules_apart()
        return [self.language_model, *values, *([] if self.reference is None else [self.reference])]

    def merged(self) -> Any:
        """The policy as a plain causal language model, adapters merged. The actor is of no use afterwards."""
        return merged(self.model) if self.uses_adapters else self.model

    def _decode(
        self, model: Any, input_ids: Tensor, attention_mask: Tensor, response_length: int, trunk: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """`decided_from`, of the tokens or, where the frozen layers' states are known, of these."""
        tokens = {"input_ids": input_ids} if trunk is None else {"inputs_embeds": trunk}
        with layers_from(model, self.frozen_layers) if trunk is not None else nullcontext():
            return decided_from(model, tokens, attention_mask, response_length)


def decided_from(model: Any, tokens: dict[str, Tensor], attention_mask: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Hidden states `(B, T, D)` and logits `(B, T, V)` of the positions from which the last T tokens were chosen.

    `tokens` is input_ids `(B, P+T)` or inputs_embeds `(B, P+T, D)`. Only these positions meet the vocabulary: for the prompt's
    the projection would be thrown away. They are given by their indices, for a slice is not contiguous and would cost one copy of
    the vocabulary's matrix for each row. A hidden state is what enters the projection.
    """
    width = attention_mask.shape[1]
    before = torch.arange(width - length - 1, width - 1, device=attention_mask.device)
    projected: list[Tensor] = []
    hook = model.get_output_embeddings().register_forward_pre_hook(lambda _, inputs: projected.append(inputs[0]))
    try:
        logits = model(
            **tokens,
            attention_mask=attention_mask,
            position_ids=token_positions(attention_mask),
            use_cache=False,
            logits_to_keep=before,
        ).logits
    finally:
        hook.remove()
    return projected[0], logits


def token_positions(attention_mask: Tensor) -> Tensor:
    """Each token's place in its own sequence: prompts are padded on the left. `(B, P+T)`"""
    return (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
