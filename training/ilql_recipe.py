"""ILQL's recipe: data with rewards, the heads' hyperparameters, how answers are steered and what they are measured by."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from training.precision import Dtype
from training.recipe import DataSettings, LoraSettings, require_one
from training.trackers import Tracker
from training.yaml_file import Settings


class Evaluation(Settings):
    """What ILQL's steered answers are measured on: prompts, samples of each, and one source of rewards."""

    prompts: DataSettings  # the training split of them; a heldout_fraction of 0 takes all
    reward_model: str | None = None  # exactly one of these two
    reward_function: str | None = None  # file.py:name, called with samples, prompts, outputs
    samples: int = Field(default=4, gt=0)  # answers to each prompt

    @model_validator(mode="after")
    def _one_source_of_rewards(self) -> Self:
        require_one(self.reward_model, self.reward_function)
        return self


class ILQLSettings(Settings):
    """ILQL's hyperparameters; the papers' names, with trlX's scales."""

    total_steps: int = Field(default=500, gt=0)  # optimizer steps
    batch_size: int = Field(default=32, gt=0)  # answers of one step, on all processes together
    gradient_accumulation_steps: int = Field(default=1, gt=0)  # pieces of a batch
    learning_rate: float = Field(default=1e-4, gt=0.0)
    head_learning_rate: float | None = Field(default=None, gt=0.0)  # of the value heads, if not learning_rate
    weight_decay: float = Field(default=0.0, ge=0.0)
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    lr_scheduler_type: Literal["constant", "linear"] = "constant"  # linear falls to a tenth in the last step
    head_size: int | None = Field(default=None, gt=0)  # of the heads' hidden layer, if not the model's own
    gamma: float = Field(default=0.99, ge=0.0, le=1.0)
    lam: float = Field(default=0.0, ge=0.0, le=1.0)  # how much of Q's target is the return itself, not the next value
    tau: float = Field(default=0.7, gt=0.0, lt=1.0)  # the expectile that V is of Q over the data's actions
    cql_scale: float = Field(default=0.1, ge=0.0)
    awac_scale: float = Field(default=1.0, ge=0.0)
    awac_beta: float = Field(default=0.0, ge=0.0)  # 0 learns the data's policy; above, its better actions more
    polyak_rate: float = Field(default=0.005, gt=0.0, le=1.0)  # how far the target heads move at a step
    scale_rewards: bool = True  # subtract the data's mean reward and divide by its deviation
    save_steps: int = Field(default=50, gt=0)  # steps between two saves of the whole training state


class Steering(Settings):
    """How answers are sampled from the policy perturbed by its value heads."""

    beta: float = Field(default=1.0, ge=0.0)  # of the advantage that is added to the policy's log-probabilities
    temperature: float = Field(default=1.0, ge=0.0)  # of what the two make together; 0 is greedy
    top_k: int = Field(default=0, ge=0)  # likeliest tokens that are drawn from; 0 takes all
    max_new_tokens: int = Field(default=48, gt=0)


class ILQLRecipe(Settings):
    """Implicit language Q-learning (Snell et al. 2022): a policy and value heads from answers with rewards, offline."""

    method: Literal["ilql"]
    base: str
    data: DataSettings
    max_length: int = Field(default=512, gt=1)  # tokens of prompt and answer; longer ones are dropped and counted
    dtype: Dtype = "auto"  # what is computed in; what is saved has the base's own
    lora: LoraSettings | None = LoraSettings()
    ilql: ILQLSettings = ILQLSettings()
    steering: Steering = Steering()
    evaluation: Evaluation | None = None
    # Layers' states are computed again in the backward pass, not kept: less memory, the same losses, so it may change on the way
    gradient_checkpointing: bool = Field(default=False, exclude=True)
    report_to: Tracker | list[Tracker] = Field(default="none", exclude=True)  # who is told the metrics as they come
    memory_check: bool = Field(default=True, exclude=True)  # refuse a run that surely needs more memory than is free
    seed: int = 0
