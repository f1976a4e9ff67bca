"""`python -m training reward`: a reward model from preference pairs, by TRL's RewardTrainer.

The loss is -log sigmoid(r(x, chosen) - r(x, rejected)) (Ouyang et al. 2022, equation 1). What is written is a
sequence-classification checkpoint with one output that `AutoModelForSequenceClassification.from_pretrained` loads,
adapters merged. Interrupted, the same command continues from the last saved step.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.chat import answer_ids, prompt_ids, turn_end
from training.command import no_load_report
from training.context_length import require_context
from training.counted import shortened
from training.data import Preference, load_preferences
from training.errors import UsageError
from training.pair_report import pair_report
from training.pretrained import load_tokenizer, require_finite
from training.recipe import RewardRecipe
from training.rewards import RewardModel
from training.row_lengths import fitted
from training.run_record import RunRecord, kept
from training.special_tokens import words_only
from training.trl_run import TRLRun

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def train_reward_model(recipe: RewardRecipe, out: Path) -> RunRecord:
    """Train, save and measure a reward model; returns its record. Where `out` is complete already, nothing is done."""
    run = TRLRun.begin(recipe, out)
    if run.complete:
        return run.directory.record()

    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, set_seed
    from trl import RewardConfig, RewardTrainer

    from training.grouped_attention import use_grouped_attention

    # tokenize_pairs has filtered by length, and counted. The column of lengths, for batches of similar ones, must stay.
    arguments = run.arguments(RewardConfig, max_length=None, remove_unused_columns=False)
    base = run.base()
    data = load_preferences(recipe.data, recipe.seed)
    run.hold_inputs([base.parent], data.source)
    tokenizer = reward_tokenizer(load_tokenizer(base.checkpoint))
    data = words_only(data, tokenizer)
    rows = fitted(data, partial(pair_length, tokenizer), recipe.max_length, recipe.cut_prompts)
    pairs, too_long = tokenize_pairs(tokenizer, rows.train, recipe.max_length)
    set_seed(recipe.seed)
    with no_load_report():  # what it would say is held below
        model, loaded = AutoModelForSequenceClassification.from_pretrained(
            base.checkpoint.path, num_labels=1, dtype=getattr(torch, run.load_dtype), output_loading_info=True
        )
    if missing := sorted({*loaded["missing_keys"]} - {"score.weight"}):
        raise UsageError(
            "the base lacks weights, which would be drawn at random",
            where=str(base.checkpoint.path),
            expected="all but those of the new head, score.weight",
            found=f"without {shortened(missing, 4)}",
            next_step="copy the checkpoint again, whole",
        )
    require_finite(model, base.checkpoint)
    require_context(model.config, [pair["length"] for pair in pairs], "lower max_length", limit=recipe.max_length)
    heldout = (pair_length(tokenizer, row) for row in rows.heldout)  # of any length
    require_context(model.config, heldout, "leave longer pairs out of those held out, or set cut_prompts: true")
    use_grouped_attention(model)
    # The new head starts at zero: every answer is worth the same until the pairs say otherwise.
    torch.nn.init.zeros_(model.score.weight)
    trainer = RewardTrainer(
        model=model,
        args=arguments,
        train_dataset=Dataset.from_list(pairs),
        processing_class=tokenizer,
        peft_config=run.lora("SEQ_CLS", modules_to_save=["score"]),
    )
    trained = run.train(trainer, base)
    if trained is None:  # the first process measures and records
        return run.directory.wait_for_record()
    saved = run.save(trained, tokenizer)
    metrics = held_out_metrics(RewardModel.load(saved, run.recipe.dtype), rows.heldout) if rows.heldout else {}
    return run.finish([base.parent], kept(data.source, len(pairs), too_long, recipe.max_length, rows.cut), metrics)


def reward_tokenizer(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """A padding token that is not the end-of-turn token.

    A sequence classifier reads its score at the last token that is not padding; were padding and end-of-turn the same
    token, it would read one token too early wherever a sequence is padded.
    """
    end = turn_end(tokenizer)
    if tokenizer.pad_token_id == end:
        tokenizer.pad_token = tokenizer.unk_token if tokenizer.unk_token is not None else tokenizer.bos_token
    if tokenizer.pad_token is None or tokenizer.pad_token_id == end:
        raise UsageError(
            "the tokenizer has no token to pad with that is not its end-of-turn token",
            expected="a pad_token, unk_token or bos_token beside the one that ends a turn",
            next_step="set pad_token in tokenizer_config.json",
        )
    return tokenizer


def pair_length(tokenizer: PreTrainedTokenizerBase, row: Preference) -> int:
    """Tokens of the prompt with the longer of its answers."""
    answers = (answer_ids(tokenizer, row.prompt, answer) for answer in (row.chosen, row.rejected))
    return len(prompt_ids(tokenizer, row.prompt)) + max(map(len, answers))


def tokenize_pairs(
    tokenizer: PreTrainedTokenizerBase, rows: list[Preference], max_length: int
) -> tuple[list[dict[str, Any]], int]:
    """TRL's columns chosen_ids and rejected_ids, the longer one's length, and how many pairs were beyond `max_length` tokens."""
    pairs: list[dict[str, Any]] = []
    for row in rows:
        start = prompt_ids(tokenizer, row.prompt)
        chosen = start + answer_ids(tokenizer, row.prompt, row.chosen)
        rejected = start + answer_ids(tokenizer, row.prompt, row.rejected)
        length = max(len(chosen), len(rejected))
        if length <= max_length:
            pairs.append({"chosen_ids": chosen, "rejected_ids": rejected, "length": length})
    if not pairs:
        raise UsageError(f"every pair is longer than {max_length} tokens", next_step="raise max_length in the recipe")
    return pairs, len(rows) - len(pairs)


def held_out_metrics(model: RewardModel, rows: list[Preference]) -> dict[str, float | None]:
    """`pair_report` of the model's scores on pairs that were not trained on."""
    chosen = model.score([(row.prompt, row.chosen) for row in rows])
    rejected = model.score([(row.prompt, row.rejected) for row in rows])
    return pair_report(rows, chosen, rejected)
