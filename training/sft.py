"""`python -m training sft`: supervised fine-tuning on demonstrations, by TRL's SFTTrainer.

The loss is the cross-entropy of what the assistant says, its end-of-turn token included; prompts are read, not learned.
Interrupted, the same command continues from the last saved step.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from training.chat import demonstration_ids
from training.context_length import require_context
from training.demonstrations import Demonstration, load_demonstrations
from training.errors import UsageError
from training.pair_report import with_interval
from training.pretrained import load_policy
from training.recipe import SFTRecipe
from training.row_lengths import fitted
from training.run_record import RunRecord, kept
from training.sequence_logprobs import learned_logprobs, loss_change, loss_per_token
from training.special_tokens import words_only
from training.trl_run import TRLRun
from training.weights_dtype import as_saved

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def train_sft(recipe: SFTRecipe, out: Path) -> RunRecord:
    """Fine-tune, save and measure; returns the record. Where `out` is complete already, nothing is done.

    Metrics: heldout_loss_before and heldout_loss_after in nats a learned token, heldout_rows, heldout_tokens, and
    heldout_loss_change of the same rows with its standard error and 95% interval (_stderr, _low, _high).
    """
    run = TRLRun.begin(recipe, out)
    if run.complete:
        return run.directory.record()

    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    # Lengths were filtered, and counted, when the rows were tokenized; labels say what is learned.
    arguments = run.arguments(SFTConfig, max_length=None, packing=False)
    base = run.base()
    data = load_demonstrations(recipe.data, recipe.seed)
    run.hold_inputs([base.parent], data.source)
    model, tokenizer = load_policy(base.checkpoint, run.load_dtype)
    data = words_only(data, tokenizer)
    fit = fitted(data, partial(length, tokenizer), recipe.max_length, recipe.cut_prompts)
    rows, too_long = tokenize(tokenizer, fit.train, recipe.max_length)
    heldout = tokenize(tokenizer, fit.heldout, recipe.max_length)[0] if fit.heldout else []
    require_context(model.config, [len(ids) for ids, _ in rows + heldout], "lower max_length", limit=recipe.max_length)
    metrics: dict[str, float | None] = {}
    if heldout:
        with as_saved(model, base.checkpoint.dtype):
            before = learned_logprobs(model, heldout, tokenizer.pad_token_id)
        metrics = {"heldout_rows": float(len(before)), "heldout_tokens": float(sum(each.tokens for each in before))}
        metrics["heldout_loss_before"] = loss_per_token(before)
    trainer = SFTTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([{"input_ids": ids, "labels": labels} for ids, labels in rows]),
        processing_class=tokenizer,
        peft_config=run.lora("CAUSAL_LM"),
    )
    trained = run.train(trainer, base)
    if trained is None:  # the first process measures and records
        return run.directory.wait_for_record()
    if heldout:
        after = learned_logprobs(trained, heldout, tokenizer.pad_token_id)
        metrics["heldout_loss_after"] = loss_per_token(after)
        metrics |= with_interval("heldout_loss_change", *loss_change(before, after))
    run.save_policy(trained, base)
    return run.finish([base.parent], kept(data.source, len(rows), too_long, recipe.max_length, fit.cut), metrics)


def length(tokenizer: PreTrainedTokenizerBase, row: Demonstration) -> int:
    """Tokens of the whole conversation."""
    return len(demonstration_ids(tokenizer, row.prompt, row.completion)[0])


def tokenize(
    tokenizer: PreTrainedTokenizerBase, rows: list[Demonstration], max_length: int
) -> tuple[list[tuple[list[int], list[int]]], int]:
    """Each demonstration's ids and labels, and how many were longer than `max_length` tokens."""
    found = [demonstration_ids(tokenizer, row.prompt, row.completion) for row in rows]
    short = [(ids, labels) for ids, labels in found if len(ids) <= max_length]
    if not short:
        raise UsageError(
            f"every demonstration is longer than {max_length} tokens",
            found=f"the shortest has {min(len(ids) for ids, _ in found)}",
            next_step="raise max_length in the recipe",
        )
    return short, len(found) - len(short)
