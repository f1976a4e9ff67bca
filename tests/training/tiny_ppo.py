"""PPO of a tiny model against a reward that it can learn in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from accelerate import Accelerator
from tiny_model import make_model, make_tokenizer, save_reward_model

from training.checkpoint import Checkpoint
from training.policy import ActorCritic
from training.ppo import PPO
from training.ppo_recipe import PPORecipe, PPOSettings
from training.recipe import DataSettings, Generation, LoraSettings
from training.rewards import RewardModel

PROMPTS = [[1, 40 + index, 41, 42] for index in range(16)]


@dataclass
class LikesLowTokens:
    """A reward that a tiny model can learn in seconds: the share of the answer's tokens in the vocabulary's first half."""

    size: int
    prompt_length: int

    def score_ids(self, sequences: list[list[int]]) -> torch.Tensor:
        answers = [sequence[self.prompt_length :] for sequence in sequences]
        return torch.tensor([sum(token < self.size / 2 for token in answer) / len(answer) for answer in answers])


def make_ppo(lora: bool = False, **settings: object) -> PPO:
    torch.manual_seed(0)
    values = {
        "total_episodes": 640,
        "batch_size": 32,
        "mini_batch_size": 16,
        "num_ppo_epochs": 4,
        "learning_rate": 5e-3,
        "kl_coef": 0.01,
        "lr_scheduler_type": "constant",
        **settings,
    }
    recipe = PPORecipe(
        method="ppo",
        base="unused",
        reward_model="unused",
        prompts=DataSettings(source="starter"),
        dtype="float32",
        lora=LoraSettings(r=4, lora_alpha=8) if lora else None,
        generation=Generation(max_new_tokens=8),
        ppo=PPOSettings(**values),
    )
    tokenizer = make_tokenizer()
    actor = ActorCritic(make_model(), recipe.lora)
    reward = LikesLowTokens(len(tokenizer), prompt_length=4)
    ppo = PPO(recipe, actor, tokenizer, reward, PROMPTS, Accelerator(cpu=True))
    torch.manual_seed(1)
    return ppo


def weights(ppo: PPO) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in ppo.actor.trainable_state().items()}


def classifier_of(model: Any, tmp_path: Path) -> RewardModel:
    """A reward model whose embeddings and first layer are the policy's, as adapters on upper layers leave it."""
    save_reward_model(tmp_path)
    reward = RewardModel.load(Checkpoint.open(tmp_path), "float32")
    reward.model.model.embed_tokens.load_state_dict(model.model.embed_tokens.state_dict())
    reward.model.model.layers[0].load_state_dict(model.model.layers[0].state_dict())
    return reward


def recipe_in(folder: Path, tiny: Path, **changes: object) -> Path:
    """A recipe of two processes' worth, against a tiny reward model."""
    values = {
        "method": "ppo", "base": str(tiny), "reward_model": str(folder / "reward"), "dtype": "float32", "lora": None,
        "prompts": {"source": "starter", "limit": 8, "heldout_limit": 2, "heldout_split": "heldout"},
        "max_prompt_length": 200, "generation": {"max_new_tokens": 6},
        "ppo": {
            "critic": "separate", "total_episodes": 24, "batch_size": 8, "mini_batch_size": 4,
            "gradient_accumulation_steps": 2, "num_ppo_epochs": 1, "learning_rate": 1e-3, "save_updates": 1,
        },
    }  # fmt: skip
    if not (folder / "reward").exists():
        save_reward_model(folder / "reward")
    file = folder / "ppo.yaml"
    file.write_text(yaml.safe_dump({**values, **changes}))
    return file
