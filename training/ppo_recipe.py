"""PPO's recipe: its hyperparameters, what is mixed in so that nothing is forgotten, and when a run stops by itself.

Names are those of the papers and of TRL's former PPOConfig.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from training.precision import Dtype
from training.recipe import DataSettings, Generation, LoraSettings, RewardKeys
from training.trackers import Tracker
from training.yaml_file import Settings


class PPOSettings(Settings):
    """PPO's hyperparameters; names and defaults of TRL's former PPOConfig where it had one."""

    total_episodes: int = Field(default=512, gt=0)
    batch_size: int = Field(default=32, gt=0)  # episodes of one rollout, on all processes together
    mini_batch_size: int = Field(default=16, gt=0)  # episodes of one optimizer step, on all processes together
    gradient_accumulation_steps: int = Field(default=1, gt=0)  # pieces of a mini batch
    num_ppo_epochs: int = Field(default=4, gt=0)
    learning_rate: float = Field(default=1e-4, gt=0.0)
    # The values are a linear head's on the policy's own states, or those of a model of its own, with a trunk of its own
    critic: Literal["shared", "separate"] = "shared"
    value_learning_rate: float | None = Field(default=None, gt=0.0)  # of the value head or critic, if not learning_rate
    weight_decay: float = Field(default=0.0, ge=0.0)
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    lr_scheduler_type: Literal["constant", "linear"] = "linear"  # linear falls to a tenth in the last update
    warmup_updates: int = Field(default=0, ge=0)  # updates over which the learning rate rises
    kl_coef: float = Field(default=0.05, ge=0.0)  # beta of Ouyang et al. 2022, equation 2
    kl_target: float | None = Field(
        default=None, gt=0.0
    )  # nats a response that kl_coef is adapted to; else it is fixed
    kl_horizon: int = Field(default=10_000, gt=0)  # episodes in which kl_coef follows; a shorter one follows faster
    early_stop_kl: float | None = Field(
        default=None, gt=0.0
    )  # nats a token from the sampling policy that end an update
    entropy_coef: float = Field(default=0.0, ge=0.0)  # bonus for a policy that keeps its choices open
    gamma: float = Field(default=1.0, ge=0.0, le=1.0)
    lam: float = Field(default=0.95, ge=0.0, le=1.0)
    cliprange: float = Field(default=0.2, gt=0.0)
    cliprange_value: float = Field(default=0.2, gt=0.0)
    vf_coef: float = Field(default=0.1, ge=0.0)
    whiten_advantages: bool = True
    # True: subtract the first rollout's mean score, divide by its deviation; running: divide by that of all scores so far
    scale_rewards: bool | Literal["running"] = True
    reward_clip: float | None = Field(default=5.0, gt=0.0)
    missing_eos_penalty: float | None = Field(default=None, ge=0.0)  # in units of the scaled reward
    rollouts: Literal["model", "vllm"] = "model"  # who samples: the policy itself, or vLLM from its weights
    vllm_gpu_memory_utilization: float = Field(
        default=0.3, gt=0.0, lt=1.0
    )  # TRL's name: the share of the GPU, or of a CPU's RAM, that vLLM may take
    # Log-probabilities, values and frozen layers' states of a rollout are those that sampling computed, not of a second pass
    keep_from_sampling: bool = False
    # Full fine-tuning in bfloat16 computes on rounded weights, whose float32 copies the optimizer holds, not by autocast
    master_weights: bool = False
    save_updates: int = Field(default=2, gt=0)  # updates between two saves of the whole training state
    # Responses that go into completions.jsonl, the first of the rollout, after the first update and whenever a save is due
    log_completions: int = Field(default=4, ge=0)

    @model_validator(mode="after")
    def _an_engine_keeps_nothing(self) -> Self:
        if self.keep_from_sampling and self.rollouts == "vllm":
            raise ValueError(
                "'keep_from_sampling' is for 'rollouts: model': what vLLM computed is not the policy's own"
            )
        return self

    @model_validator(mode="after")
    def _a_coefficient_of_zero_adapts_to_nothing(self) -> Self:
        if self.kl_target is not None and self.kl_coef == 0:
            raise ValueError("'kl_target' multiplies 'kl_coef', which must be above 0 for that: 0.05, say")
        return self


class PTXSettings(Settings):
    """PPO-ptx: what is mixed into PPO's steps so that it is not forgotten (Ouyang et al. 2022, equation 2)."""

    data: DataSettings  # demonstrations in SFT's formats, or plain text as {text}
    coef: float = Field(default=1.0, ge=0.0)  # gamma, of the mean loss a token; 0 only measures the held-out rows
    batch_size: int = Field(default=8, gt=0)  # sequences of one optimizer step, on all processes together
    max_length: int = Field(
        default=512, gt=8
    )  # tokens; longer demonstrations are dropped, longer texts cut into pieces


class GuardSettings(Settings):
    """When a run stops by itself, and which policy it keeps. Without them it goes on to its last update and keeps that.

    The two limits draw no random numbers: a run within them learns what it learns without them.
    """

    max_kl: float | None = Field(default=None, gt=0.0)  # nats a response; an update above it is the last
    max_length_change: float | None = Field(default=None, gt=1.0)  # times that responses may become longer or shorter
    heldout_every: int | None = Field(
        default=None, gt=0
    )  # updates between measurements on held-out prompts; the best is kept
    heldout_patience: int = Field(
        default=2, gt=0
    )  # measurements surely below the best, while the reward rises, that stop it


class PPORecipe(RewardKeys):
    """RLHF's PPO: a policy with a value head or a critic, a frozen reference, and what gives the rewards."""

    method: Literal["ppo"]
    base: str
    prompts: DataSettings
    max_prompt_length: int = Field(default=128, gt=0)  # tokens; longer prompts are dropped and counted
    dtype: Dtype = "auto"  # what is computed in; what is saved has the base's own
    lora: LoraSettings | None = LoraSettings()  # of the policy, and of a separate critic
    critic_model: str | None = (
        None  # what a separate critic starts from, if not the reward model or, without one, the base
    )
    generation: Generation = Generation()
    ppo: PPOSettings = PPOSettings()
    ptx: PTXSettings | None = None
    guards: GuardSettings = GuardSettings()
    # Layers' states are computed again in the backward pass, not kept: less memory, the same losses, so it may change on the way
    gradient_checkpointing: bool = Field(default=False, exclude=True)
    report_to: Tracker | list[Tracker] = Field(default="none", exclude=True)  # who is told the metrics as they come
    memory_check: bool = Field(default=True, exclude=True)  # refuse a run that surely needs more memory than is free
    seed: int = 0

    @property
    def critic_source(self) -> str:
        """The run, checkpoint or Hub id that a separate critic starts from (Ouyang et al. 2022: the reward model)."""
        return self.critic_model or self.reward_model or self.base

    @property
    def rounded_weights(self) -> bool:
        """Whether the model's own weights are bfloat16 and the optimizer holds float32 copies of them."""
        return self.ppo.master_weights and self.lora is None and self.dtype == "bfloat16"

    @property
    def autocasts(self) -> bool:
        """Whether the model computes in bfloat16 from weights in float32."""
        return self.dtype == "bfloat16" and self.weights_dtype == "float32"

    @property
    def weights_dtype(self) -> str:
        """What the model's weights are held in. A small step vanishes in bfloat16, unless the optimizer holds copies."""
        return self.dtype if self.lora is not None or self.rounded_weights else "float32"

    @model_validator(mode="after")
    def _the_ratio_compares_a_policy_with_itself(self) -> Self:
        if self.lora is not None and self.lora.lora_dropout > 0:
            raise ValueError(
                "'lora.lora_dropout' must be 0 in PPO: another mask in learning than in sampling would be another policy"
            )
        return self

    @model_validator(mode="after")
    def _a_shared_critic_starts_from_nothing(self) -> Self:
        if self.critic_model is not None and self.ppo.critic == "shared":
            raise ValueError(
                "'critic_model' is for a critic of its own: add 'ppo.critic: separate', or leave 'critic_model' away"
            )
        return self

    @model_validator(mode="after")
    def _copies_are_for_full_fine_tuning(self) -> Self:
        if self.ppo.master_weights and self.lora is not None:
            raise ValueError(
                "'ppo.master_weights' is for full fine-tuning (lora: null): adapters are float32 by themselves"
            )
        return self
