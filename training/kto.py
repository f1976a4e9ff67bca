"""`python -m training kto`: learn from answers marked good or bad, by TRL's KTOTrainer (Ethayarajh et al. 2024).

Rows are {prompt, completion, label}, as thumbs give them; preference pairs are taken apart. The implicit reward is DPO's,
beta * log(pi(y|x) / pi_ref(y|x)). Interrupted, the same command continues from the last saved step.
"""

from __future__ import annotations

import json
import random
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.chat import answer_sequence
from training.context_length import require_context
from training.demonstrations import Feedback, load_feedback
from training.errors import UsageError
from training.pair_report import clustered_auc, with_interval
from training.pretrained import load_policy
from training.recipe import KTORecipe
from training.row_lengths import fitted
from training.run_record import RunRecord, kept
from training.sequence_logprobs import answer_logprobs
from training.special_tokens import words_only
from training.trl_run import TRLRun
from training.weights_dtype import as_saved

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def train_kto(recipe: KTORecipe, out: Path) -> RunRecord:
    """Train, save and measure; returns the record. Where `out` is complete already, nothing is done.

    Metrics: of held-out answers, how many are good and bad, the mean implicit reward of either, and heldout_auc, the
    probability that a good one's is above a bad one's (0.5 before training), with its standard error and 95% interval
    (_stderr, _low, _high).
    """
    run = TRLRun.begin(recipe, out)
    if run.complete:
        return run.directory.record()

    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    arguments = run.arguments(KTOConfig, max_length=None)  # longer answers were left out, and counted
    if arguments.loss_type == "kto" and arguments.per_device_train_batch_size < 2:
        raise UsageError(
            "KTO estimates the KL from answers to other prompts of the batch, so a batch of one has none",
            where="args.per_device_train_batch_size",
            expected="at least 2",
            found=str(arguments.per_device_train_batch_size),
            next_step="raise it, and lower gradient_accumulation_steps by as much",
        )
    base = run.base()
    data = load_feedback(recipe.data, recipe.seed)
    run.hold_inputs([base.parent], data.source)
    model, tokenizer = load_policy(base.checkpoint, run.load_dtype)
    data = words_only(data, tokenizer)
    fit = fitted(data, partial(length, tokenizer), recipe.max_length, recipe.cut_prompts)
    rows = [row for row in fit.train if length(tokenizer, row) <= recipe.max_length]
    heldout = [row for row in fit.heldout if length(tokenizer, row) <= recipe.max_length]
    if not rows:
        raise UsageError(
            f"every answer is longer than {recipe.max_length} tokens with its prompt",
            next_step="raise max_length in the recipe",
        )
    lengths = (length(tokenizer, row) for row in rows + heldout)
    require_context(model.config, lengths, "lower max_length", limit=recipe.max_length)
    rows = in_rounds(rows, recipe.seed)
    answers = [(row.prompt, row.completion) for row in heldout]
    with as_saved(model, base.checkpoint.dtype):
        before = answer_logprobs(model, tokenizer, answers)
    trainer = KTOTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list([conversational(row) for row in rows]),
        processing_class=tokenizer,
        peft_config=run.lora("CAUSAL_LM"),
    )
    trained = run.train(trainer, base)
    if trained is None:  # the first process measures and records
        return run.directory.wait_for_record()
    rewards = [
        arguments.beta * (now - then)
        for now, then in zip(answer_logprobs(trained, tokenizer, answers), before, strict=True)
    ]
    run.save_policy(trained, base)
    source = kept(data.source, len(rows), len(data.train) - len(rows), recipe.max_length, fit.cut)
    return run.finish([base.parent], source, feedback_report(heldout, rewards))


def in_rounds(rows: list[Feedback], seed: int) -> list[Feedback]:
    """The rows in a random order in which answers to one prompt are far apart: a round takes one of each prompt's.

    TRL reads them in order, and estimates the KL from each prompt with its neighbour's answer, which must not be one of its
    own.
    """
    random_order = random.Random(seed)
    by_prompt: dict[str, list[Feedback]] = {}
    for row in rows:
        by_prompt.setdefault(json.dumps(row.prompt), []).append(row)
    for answers in by_prompt.values():
        random_order.shuffle(answers)
    ordered: list[Feedback] = []
    for turn in range(max(len(answers) for answers in by_prompt.values())):
        taken = [answers[turn] for answers in by_prompt.values() if turn < len(answers)]
        random_order.shuffle(taken)
        ordered += taken
    return ordered


def feedback_report(rows: list[Feedback], rewards: list[float]) -> dict[str, float | None]:
    """Good and bad answers' implicit rewards, as far as there are any of either."""
    good = [(json.dumps(row.prompt), reward) for row, reward in zip(rows, rewards, strict=True) if row.label]
    bad = [(json.dumps(row.prompt), reward) for row, reward in zip(rows, rewards, strict=True) if not row.label]
    found: dict[str, float | None] = {"heldout_good": float(len(good)), "heldout_bad": float(len(bad))}
    if good:
        found["heldout_reward_good"] = sum(reward for _, reward in good) / len(good)
    if bad:
        found["heldout_reward_bad"] = sum(reward for _, reward in bad) / len(bad)
    if good and bad:
        found |= with_interval("heldout_auc", *clustered_auc(good, bad))
    return found


def conversational(row: Feedback) -> dict[str, Any]:
    """The row in TRL's conversational format."""
    return {
        "prompt": row.prompt,
        "completion": [{"role": "assistant", "content": row.completion}],
        "label": row.label,
    }


def length(tokenizer: PreTrainedTokenizerBase, row: Feedback) -> int:
    """Tokens of prompt and answer."""
    return len(answer_sequence(tokenizer, row.prompt, row.completion)[0])
