"""Recipes: what a training run is to do, read from YAML into closed, typed objects.

Fields that a library beneath already names keep its name: `lora` are peft's LoraConfig fields, `args` are those of TRL's
config for the method (RewardConfig, SFTConfig, ...). PPO's and ILQL's recipes stand in files of their own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from training.errors import UsageError
from training.precision import Dtype
from training.yaml_file import Settings

By = Literal["prompt", "opening"]
SHIPPED = Path(__file__).parent / "recipes"


class DataSettings(Settings):
    """Where rows come from: `starter`, a file (docs/data.md names the kinds), a directory of them, or a Hub id[@revision]."""

    source: str
    name: str | None = None  # the dataset's configuration on the Hub
    data_dir: str | None = None  # e.g. helpful, in Anthropic/hh-rlhf
    split: str = "train"
    heldout_fraction: float = Field(
        default=0.2, ge=0.0, lt=1.0
    )  # taken from the end of a seeded shuffle, where no split is held out
    heldout_split: str | None = None
    heldout_by: By = (
        "prompt"  # what a row that is trained on and one that is held out never share; the opening is its first turn
    )
    limit: int | None = Field(default=None, gt=0)  # rows to train on, the first of them
    heldout_limit: int | None = Field(default=None, gt=0)  # rows to measure on, the first of those held out
    system: str | None = Field(default=None, min_length=1)  # put before conversations without a system message

    @property
    def holds_out(self) -> bool:
        """Whether rows are held out to measure on."""
        return self.heldout_split is not None or self.heldout_fraction > 0


class LoraSettings(Settings):
    """peft's LoraConfig, the part that a run of ours sets."""

    r: int = Field(default=16, gt=0)
    lora_alpha: int = 32
    lora_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    target_modules: str | list[str] = "all-linear"
    layers_to_transform: list[int] | None = None  # gradients stop below the lowest of them, which saves their time
    # The share of the layers that have adapters, from the top, where layers_to_transform does not name them. 1 or null: all
    upper_layers: float | None = Field(default=None, gt=0.0, le=1.0, exclude=True)

    @model_validator(mode="after")
    def _layers_need_names(self) -> Self:
        some = self.layers_to_transform is not None or self.upper_layers not in (None, 1.0)
        if some and isinstance(self.target_modules, str):
            raise ValueError(
                "layers_to_transform and upper_layers need target_modules as a list of names, e.g. [q_proj, v_proj]"
            )
        return self


class TRLRecipe(Settings):
    """What a run of any of TRL's trainers is told."""

    method: str
    base: str
    dtype: Dtype = "auto"  # what is computed in; what is saved has the base's own
    lora: LoraSettings | None = LoraSettings()
    # Sequences of an optimizer step, on all processes together: what they do not take at once is accumulated. Without it each
    # process takes args.per_device_train_batch_size, and more processes make larger batches.
    batch_size: int | None = Field(default=None, gt=0)
    args: dict[str, Any] = {}  # TRL's config of the method
    memory_check: bool = Field(default=True, exclude=True)  # refuse a run that surely needs more memory than is free
    seed: int = 0

    @model_validator(mode="after")
    def _adapters_are_trained(self) -> Self:
        if self.lora is not None and "lm_head" in self.lora.target_modules and self.method != "reward":
            raise ValueError(
                "'lora.target_modules' must not name lm_head: TRL computes from its weights alone, so its adapter would never be "
                "trained; leave it away, or use 'lora: null'"
            )
        return self


class RewardRecipe(TRLRecipe):
    """A reward model: a base model with one output, trained on pairs (Ouyang et al. 2022, equation 1)."""

    method: Literal["reward"]
    data: DataSettings
    max_length: int = Field(default=512, gt=8)  # tokens of prompt and answer; longer pairs are dropped and counted
    cut_prompts: bool = False  # first leave out the oldest turns of what is longer, as few as it takes, and count it


class SFTRecipe(TRLRecipe):
    """Supervised fine-tuning on demonstrations; only what the assistant says is learned."""

    method: Literal["sft"]
    data: DataSettings
    max_length: int = Field(default=512, gt=8)  # tokens; longer conversations are dropped and counted
    cut_prompts: bool = False  # first leave out the oldest turns of what is longer, as few as it takes, and count it


class DPORecipe(TRLRecipe):
    """Direct preference optimisation on pairs (Rafailov et al. 2023)."""

    method: Literal["dpo"]
    data: DataSettings
    max_length: int = Field(default=512, gt=8)  # tokens of prompt and answer; longer pairs are dropped and counted
    cut_prompts: bool = False  # first leave out the oldest turns of what is longer, as few as it takes, and count it


class KTORecipe(TRLRecipe):
    """Kahneman-Tversky optimisation on answers marked good or bad (Ethayarajh et al. 2024)."""

    method: Literal["kto"]
    data: DataSettings
    max_length: int = Field(default=512, gt=8)  # tokens of prompt and answer; longer ones are dropped and counted
    cut_prompts: bool = False  # first leave out the oldest turns of what is longer, as few as it takes, and count it


class Generation(Settings):
    """How responses are sampled in rollouts; transformers' names."""

    max_new_tokens: int = Field(default=48, gt=0)
    temperature: float = Field(default=1.0, gt=0.0)


class RewardKeys(Settings):
    """What gives the rewards of sampled answers: a reward model, a Python function or a server."""

    reward_model: str | None = None  # exactly one of these three gives the rewards
    reward_function: str | None = None  # file.py:name, called with samples, prompts, outputs
    reward_url: str | None = Field(default=None, pattern=r"^https?://[^@]+$")  # asked by POST with the same lists
    reward_timeout: float = Field(default=60.0, gt=0.0)  # seconds that the server has for one batch
    reward_tries: int = Field(default=4, gt=0)  # how often a server that cannot be reached is asked, with pauses

    @model_validator(mode="after")
    def _one_source_of_rewards(self) -> Self:
        given = [key for key in ("reward_model", "reward_function", "reward_url") if getattr(self, key) is not None]
        if len(given) != 1:
            told = f"{' and '.join(given)} are: set the others to null" if given else "none is"
            raise ValueError(
                f"exactly one of 'reward_model', 'reward_function' and 'reward_url' must be given, and here {told}"
            )
        return self


class OnlineRecipe(TRLRecipe, RewardKeys):
    """What a run is told whose answers are sampled from the policy as it trains, several to each prompt."""

    prompts: DataSettings
    max_prompt_length: int = Field(default=128, gt=0)  # tokens; longer prompts are dropped and counted
    generation: Generation = Generation()


class RLOORecipe(OnlineRecipe):
    """REINFORCE leave-one-out against rewards (Ahmadian et al. 2024): a prompt's other answers are its baseline."""

    method: Literal["rloo"]


class GRPORecipe(OnlineRecipe):
    """Group relative policy optimisation against rewards (Shao et al. 2024): a prompt's answers are measured by each other."""

    method: Literal["grpo"]


class BestOfNRecipe(Settings):
    """The best of n sampled answers to each prompt, by a reward model or a function."""

    method: Literal["best-of-n"]
    policy: str  # the checkpoint that answers
    reward_model: str | None = None  # exactly one of these two
    reward_function: str | None = None  # file.py:name, called with samples, prompts, outputs
    prompts: DataSettings  # the training split of them
    max_prompt_length: int = Field(default=128, gt=0)  # tokens; longer prompts are dropped and counted
    n: int = Field(default=8, gt=1)  # answers to each prompt
    batch_size: int = Field(default=4, gt=0)  # prompts that are answered at once
    dtype: Dtype = "auto"
    generation: Generation = Generation()
    seed: int = 0

    @model_validator(mode="after")
    def _one_source_of_rewards(self) -> Self:
        require_one(self.reward_model, self.reward_function)
        return self


def require_one(reward_model: str | None, reward_function: str | None) -> None:
    """Raise ValueError, which becomes the recipe's error, unless exactly one of the two is given."""
    if (reward_model is None) == (reward_function is None):
        raise ValueError("exactly one of 'reward_model' and 'reward_function' must be given")


def find_recipe(name: str) -> Path:
    """The path of a recipe: as given, or one that ships by its name (reward-starter, ppo-starter)."""
    path = Path(name)
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    shipped = SHIPPED / f"{name}.yaml"
    if shipped.is_file():
        return shipped
    known = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.yaml")))
    raise UsageError(
        f"there is no recipe of the name {name}",
        expected=f"a YAML file, or one of {known}",
        found=name,
        next_step="give --recipe one of these, or the path of a file ending in .yaml",
    )
