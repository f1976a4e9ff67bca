"""`python -m training dpo`: direct preference optimisation on preference pairs, by TRL's DPOTrainer.

The policy itself is the reward model: r(x, y) = beta * log(pi(y|x) / pi_ref(y|x)) (Rafailov et al. 2023, equation 5), and the
reference is the base model, which with LoRA is the same trunk with the adapters off. Interrupted, the same command
continues from the last saved step.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.chat import answer_sequence
from training.context_length import require_context
from training.data import Preference, load_preferences
from training.errors import UsageError
from training.pair_report import pair_report
from training.pretrained import load_policy
from training.recipe import DPORecipe
from training.row_lengths import fitted
from training.run_record import RunRecord, kept
from training.sequence_logprobs import answer_logprobs
from training.special_tokens import words_only
from training.trl_run import TRLRun
from training.weights_dtype import as_saved

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def train_dpo(recipe: DPORecipe, out: Path) -> RunRecord:
    """Train, save and measure; returns the record. Where `out` is complete already, nothing is done.

    Metrics: `pair_report` of the implicit rewards on held-out pairs, and heldout_chosen_logprob_change, the mean change of
    log pi(chosen | x) in nats, which DPO may well push below zero.
    """
    run = TRLRun.begin(recipe, out)
    if run.complete:
        return run.directory.record()

    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    arguments = run.arguments(DPOConfig, max_length=None)  # longer pairs were left out, and counted
    base = run.base()
    data = load_preferences(recipe.data, recipe.seed)
    run.hold_inputs([base.parent], data.source)
    model, tokenizer = load_policy(base.checkpoint, run.load_dtype)
    data = words_only(data, tokenizer)
    fit = fitted(data, partial(longest, tokenizer), recipe.max_length, recipe.cut_prompts)
    rows = [row for row in fit.train if longest(tokenizer, row) <= recipe.max_length]
    heldout = [row for row in fit.heldout if longest(tokenizer, row) <= recipe.max_length]
    if not rows:
        raise UsageError(
            f"every pair is longer than {recipe.max_length} tokens", next_step="raise max_length in the recipe"
        )
    lengths = (longest(tokenizer, row) for row in rows + heldout)
    require_context(model.config, lengths, "lower max_length", limit=recipe.max_length)
    with as_saved(model, base.checkpoint.dtype):
        before = pair_logprobs(model, tokenizer, heldout)
    trainer = DPOTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([conversational(row) for row in rows]),
        processing_class=tokenizer,
        peft_config=run.lora("CAUSAL_LM"),
    )
    trained = run.train(trainer, base)
    if trained is None:  # the first process measures and records
        return run.directory.wait_for_record()
    after = pair_logprobs(trained, tokenizer, heldout)
    metrics = {}
    if heldout:
        chosen, rejected = (
            [arguments.beta * (now - then) for now, then in zip(after[side], before[side], strict=True)]
            for side in (0, 1)
        )
        metrics = pair_report(heldout, chosen, rejected)
        metrics["heldout_chosen_logprob_change"] = sum(chosen) / arguments.beta / len(chosen)
    run.save_policy(trained, base)
    source = kept(data.source, len(rows), len(data.train) - len(rows), recipe.max_length, fit.cut)
    return run.finish([base.parent], source, metrics)


def conversational(row: Preference) -> dict[str, Any]:
    """The row in TRL's conversational format."""
    return {
        "prompt": row.prompt,
        "chosen": [{"role": "assistant", "content": row.chosen}],
        "rejected": [{"role": "assistant", "content": row.rejected}],
    }


def longest(tokenizer: PreTrainedTokenizerBase, row: Preference) -> int:
    """Tokens of the prompt and the longer answer."""
    return max(len(answer_sequence(tokenizer, row.prompt, answer)[0]) for answer in (row.chosen, row.rejected))


def pair_logprobs(
    model: Any, tokenizer: PreTrainedTokenizerBase, rows: list[Preference]
) -> tuple[list[float], list[float]]:
    """log pi(y|x) of every row's chosen and rejected answer, in nats."""
    return (
        answer_logprobs(model, tokenizer, [(row.prompt, row.chosen) for row in rows]),
        answer_logprobs(model, tokenizer, [(row.prompt, row.rejected) for row in rows]),
    )
