"""A critic with a trunk of its own, beside the policy: what a state is worth, learned without moving the policy's states.

    critic = Critic(model, recipe.lora, head=reward_model.model.score.weight)   # begins as that reward model
    critic(input_ids, attention_mask, 32, trunk)                                # (B, 32)

Ouyang et al. (2022, section 3.5) initialise it from the reward model: the score of what has been said so far is then the first
guess of what the whole answer will get.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from training.checkpoint import Checkpoint
from training.frozen_trunk import layers_from, same_layers
from training.layer_checkpointing import checkpoint_layers
from training.ppo_recipe import PPORecipe
from training.pretrained import require_finite
from training.recipe import LoraSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Critic(nn.Module):
    """A causal language model or a classifier, whose own head is taken away, with a linear head in float32 in its place.

    `head` `(1, D)` are the weights to begin with; without them every state is worth 0. With LoRA the model's weights are frozen
    and adapters learn, as the policy's do.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        lora: LoraSettings | None,
        gradient_checkpointing: bool = False,
        head: Tensor | None = None,
    ) -> None:
        super().__init__()
        if model.get_output_embeddings() is not None:
            model.set_output_embeddings(nn.Identity())
        else:
            model.score = nn.Identity()
        self.language_model: Any = model
        if lora is not None:
            from peft import LoraConfig, get_peft_model

            model.requires_grad_(False)
            get_peft_model(model, LoraConfig(**lora.model_dump()))  # puts them into the model in place
        if gradient_checkpointing:
            checkpoint_layers(model)
        self.value_head = nn.Linear(model.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.value_head.bias)
        with torch.no_grad():
            self.value_head.weight.zero_() if head is None else self.value_head.weight.copy_(head)
        self.is_reward_model = head is not None
        self.frozen_layers = 0  # of the policy that are this model's too, so that their states may be given as `trunk`

    def share_trunk(self, policy: Any, count: int) -> None:
        """Read the states of the policy's `count` frozen layers, where this model's are the same to the bit."""
        self.frozen_layers = count if same_layers(policy, self.language_model, count) else 0

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, response_length: int, trunk: Tensor | None = None
    ) -> Tensor:
        """Values of the states before each of the last T tokens was chosen, `(B, P+T)` -> `(B, T)` float32."""
        positions = (attention_mask.long().cumsum(dim=1) - 1).clamp(min=0)
        base = self.language_model.base_model
        if trunk is not None and self.frozen_layers:
            with layers_from(self.language_model, self.frozen_layers):
                states = base(
                    inputs_embeds=trunk, attention_mask=attention_mask, position_ids=positions, use_cache=False
                )
        else:
            states = base(input_ids=input_ids, attention_mask=attention_mask, position_ids=positions, use_cache=False)
        hidden = states.last_hidden_state[:, -response_length - 1 : -1]  # (B, T, D)
        with torch.autocast(hidden.device.type, enabled=False):
            worth: Tensor = self.value_head(hidden.float()).squeeze(-1)
        return worth

    @torch.no_grad()
    def rescale(self, mean: float, std: float) -> None:
        """Let the head say (value - mean) / std: rewards are scaled so, and a reward model's own scores are not."""
        self.value_head.weight.div_(std)
        self.value_head.bias.sub_(mean).div_(std)

    def modules_apart(self) -> list[nn.Module]:
        """The modules that are called by themselves, each of which can be shared out among processes."""
        return [self.language_model.base_model, self.value_head]


def load_critic(recipe: PPORecipe, checkpoint: Checkpoint, keep_head: bool) -> Critic:
    """A critic that starts from a language model or a classifier, of which the head is kept where `keep_head` says so.

    That is for the very reward model that gives the rewards: another classifier's scores are of another scale.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    from training.grouped_attention import use_grouped_attention

    kind = AutoModelForSequenceClassification if is_classifier(checkpoint) else AutoModelForCausalLM
    model = kind.from_pretrained(checkpoint.path, dtype=getattr(torch, recipe.weights_dtype))
    require_finite(model, checkpoint)
    use_grouped_attention(model)
    head = model.score.weight.detach().float() if keep_head else None
    return Critic(model, recipe.lora, recipe.gradient_checkpointing, head)


def is_classifier(checkpoint: Checkpoint) -> bool:
    return str((checkpoint.config.get("architectures") or [""])[0]).endswith("ForSequenceClassification")


def share_memory(model: nn.Module, others: Iterable[nn.Module]) -> None:
    """Let frozen weights of `model` that equal, to the bit, those of the same name in one of `others` lie in their memory.

    Not for models that lie in parts, nor for weights that change: merging adapters into one of them changes all.
    """
    for other in others:
        held = {_plain(name): weight for name, weight in other.named_parameters() if not weight.requires_grad}
        for name, weight in model.named_parameters():
            like = held.get(_plain(name))
            if like is None or weight.requires_grad or like.dtype != weight.dtype or like.device != weight.device:
                continue
            if like.shape == weight.shape and torch.equal(like, weight):
                weight.data = like.data


def _plain(name: str) -> str:
    """A weight's name without what adapters put into it."""
    return name.replace(".base_layer.", ".")
