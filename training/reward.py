"""`python -m training reward`: a reward model from preference pairs, by TRL's RewardTrainer.

The loss is -log sigmoid(r(x, chosen) - r(x, rejected)) (Ouyang et al. 2022, equation 1). What is written is a
sequence-classification checkpoint with one output that `AutoModelForSequenceClassification.from_pretrained` loads,
adapters merged. Interrupted, the same command continues from the last saved step.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.chat import answer_ids, prompt_ids
from training.checkpoint import Checkpoint
from training.data import Preference, load_preferences
from training.errors import UsageError
from training.pretrained import load_tokenizer, require_finite, resolve_base
from training.recipe import RewardRecipe
from training.rewards import RewardModel
from training.run_directory import RunDirectory
from training.run_record import RunRecord, git_revision, hardware, now, package_versions

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# Trainer's arguments that the run directory or the recipe's own keys decide.
RESERVED_ARGS = ("output_dir", "seed", "bf16", "fp16", "max_length", "push_to_hub", "hub_model_id", "hub_token")


def train_reward_model(recipe: RewardRecipe, out: Path) -> RunRecord:
    """Train, save and measure a reward model; returns its record. Where `out` is complete already, nothing is done."""
    run = RunDirectory.open(out, recipe)
    if run.complete:
        return run.record()
    started, clock = now(), time.monotonic()
    _check_args(recipe.args)
    base = resolve_base(recipe.base)
    data = load_preferences(recipe.data, recipe.seed)
    tokenizer = reward_tokenizer(load_tokenizer(base.checkpoint))
    pairs, too_long = tokenize_pairs(tokenizer, data.train, recipe.max_length)
    model = _train(recipe, base.checkpoint, tokenizer, pairs, run)
    saved = run.scratch / "checkpoint"
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    metrics = (
        held_out_metrics(RewardModel.load(Checkpoint.open(saved), recipe.dtype), data.heldout) if data.heldout else {}
    )
    source = data.source.model_copy(
        update={
            "rows": len(pairs),
            "rows_dropped": data.source.rows_dropped + too_long,
            "why_dropped": {
                **data.source.why_dropped,
                **({f"longer than {recipe.max_length} tokens": too_long} if too_long else {}),
            },
        }
    )
    record = RunRecord(
        method="reward",
        checkpoint_digest=Checkpoint.open(saved).digest,
        recipe=recipe.model_dump(mode="json"),
        parents=[base.parent],
        data=[source],
        seed=recipe.seed,
        packages=package_versions(),
        git_revision=git_revision(),
        hardware=hardware("cuda" if _on_gpu() else "cpu"),
        started=started,
        seconds=round(time.monotonic() - clock, 2),
        metrics=metrics,
    )
    run.finish(record)
    return record


def reward_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A padding token that is not the end-of-turn token.

    A sequence classifier reads its score at the last token that is not padding; were padding and end-of-turn the same
    token, it would read one token too early wherever a sequence is padded.
    """
    if tokenizer.pad_token_id == tokenizer.eos_token_id:
        tokenizer.pad_token = tokenizer.unk_token if tokenizer.unk_token is not None else tokenizer.bos_token
    if tokenizer.pad_token is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise UsageError(
            "the tokenizer has no token to pad with that is not its end-of-turn token",
            expected="a pad_token, unk_token or bos_token beside eos_token",
            next_step="set pad_token in tokenizer_config.json",
        )
    return tokenizer


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase, rows: list[Preference], max_length: int
) -> tuple[list[dict[str, list[int]]], int]:
    """TRL's columns chosen_ids and rejected_ids, and how many pairs were longer than `max_length` tokens."""
    pairs = []
    for row in rows:
        start = prompt_ids(tokenizer, row.prompt)
        chosen = start + answer_ids(tokenizer, row.prompt, row.chosen)
        rejected = start + answer_ids(tokenizer, row.prompt, row.rejected)
        if max(len(chosen), len(rejected)) <= max_length:
            pairs.append({"chosen_ids": chosen, "rejected_ids": rejected})
    if not pairs:
        raise UsageError(f"every pair is longer than {max_length} tokens", next_step="raise max_length in the recipe")
    return pairs, len(rows) - len(pairs)


def held_out_metrics(model: RewardModel, rows: list[Preference]) -> dict[str, float]:
    """Accuracy on pairs that were not trained on, beside the baseline that prefers the longer answer.

    Keys: heldout_accuracy, heldout_accuracy_stderr (binomial), heldout_longer_wins (ties half), heldout_margin,
    heldout_pairs.
    """
    chosen = model.score([(row.prompt, row.chosen) for row in rows])
    rejected = model.score([(row.prompt, row.rejected) for row in rows])
    n = len(rows)
    accuracy = sum((a > b) + 0.5 * (a == b) for a, b in zip(chosen, rejected, strict=True)) / n
    longer = (
        sum((len(row.chosen) > len(row.rejected)) + 0.5 * (len(row.chosen) == len(row.rejected)) for row in rows) / n
    )
    return {
        "heldout_pairs": float(n),
        "heldout_accuracy": accuracy,
        "heldout_accuracy_stderr": (accuracy * (1 - accuracy) / n) ** 0.5,
        "heldout_longer_wins": longer,
        "heldout_margin": sum(a - b for a, b in zip(chosen, rejected, strict=True)) / n,
    }


def _train(
    recipe: RewardRecipe,
    base: Checkpoint,
    tokenizer: PreTrainedTokenizerBase,
    pairs: list[dict[str, list[int]]],
    run: RunDirectory,
) -> Any:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForSequenceClassification, set_seed
    from transformers.trainer_utils import get_last_checkpoint
    from trl import RewardConfig, RewardTrainer

    set_seed(recipe.seed)
    # Adapters need no master copy of the frozen weights; full training does, and autocasts instead.
    dtype = getattr(torch, recipe.dtype) if recipe.lora else torch.float32
    model = AutoModelForSequenceClassification.from_pretrained(base.path, num_labels=1, dtype=dtype)
    require_finite(model, base)
    # The new head starts at zero: every answer is worth the same until the pairs say otherwise.
    torch.nn.init.zeros_(model.score.weight)
    lora = (
        LoraConfig(task_type="SEQ_CLS", modules_to_save=["score"], **recipe.lora.model_dump())
        if recipe.lora is not None
        else None
    )
    trainer_state = run.state / "trainer"
    arguments = {
        "save_strategy": "steps",
        "save_steps": 25,
        "save_total_limit": 1,
        "report_to": "none",
        "logging_steps": 5,
        "dataloader_pin_memory": torch.cuda.is_available(),
        "use_cpu": not torch.cuda.is_available(),
        "gradient_checkpointing": False,  # TRL's default halves the speed to save memory
        **recipe.args,
        "output_dir": str(trainer_state),
        "seed": recipe.seed,
        "bf16": recipe.dtype == "bfloat16",
        "max_length": None,  # tokenize_pairs has filtered, and counted
    }
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(**arguments),
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        peft_config=lora,
    )
    last = get_last_checkpoint(str(trainer_state)) if trainer_state.is_dir() else None
    trainer.train(resume_from_checkpoint=last)
    for entry in trainer.state.log_history:
        run.log_metrics(entry)
    trained = trainer.accelerator.unwrap_model(trainer.model)
    if lora is not None:
        trained = trained.merge_and_unload()
    shutil.rmtree(trainer_state, ignore_errors=True)
    return trained.to(getattr(torch, recipe.dtype))


def _check_args(args: dict[str, Any]) -> None:
    from trl import RewardConfig

    known = {field.name for field in dataclasses.fields(RewardConfig)}
    for key in args:
        if key in RESERVED_ARGS:
            raise UsageError(f"'args.{key}' is set by the run itself", next_step="remove it from the recipe's args")
        if key not in known:
            raise UsageError(f"unknown key 'args.{key}'", expected="a field of TRL's RewardConfig", found=key)


def _on_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())
