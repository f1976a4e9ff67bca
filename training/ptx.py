"""PPO-ptx: demonstrations or pretraining text mixed into PPO's steps (Ouyang et al. 2022, equation 2).

    data = load_ptx(recipe.ptx, tokenizer, recipe.seed)
    loss = summed_loss(model, data.train[:8], pad)          # -sum log pi(x), with its gradient
    heldout_loss(model, data.heldout, pad)                  # nats a learned token

The policy's objective gains gamma E[log pi(x)] over the mixed-in data, so that what it could do before is not forgotten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from training.chat import UNLEARNED, demonstration_ids
from training.data import PREFERENCE_FORMATS, Conversation, Data, load_rows
from training.demonstrations import Demonstration, as_demonstration
from training.errors import UsageError
from training.ppo_math import token_logprobs
from training.ppo_recipe import PTXSettings
from training.recipe import DataSettings
from training.rollout import in_shuffled_epochs
from training.run_record import DataSource, kept
from training.sequence_logprobs import learned_logprobs, loss_per_token
from training.special_tokens import words_only

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Labelled = tuple[list[int], list[int]]  # token ids, and as many labels: the id where it is learned, else UNLEARNED


@dataclass(frozen=True)
class PlainText(Conversation):
    """A text without turns; all of it is learned."""

    text: str

    def flaw(self) -> str | None:
        return None if self.text.strip() else "empty text"


@dataclass
class Mixing:
    """The rows that are mixed in, in shuffled epochs, and how many batches of them have been taken."""

    sequences: list[Labelled]
    settings: PTXSettings
    pad: int
    seed: int
    taken: int = 0

    def next_batch(self, process: int, processes: int) -> list[Labelled]:
        """This process's share of the next batch."""
        size = self.settings.batch_size
        batch = in_shuffled_epochs(self.sequences, self.taken * size, size, f"{self.seed}/ptx")
        self.taken += 1
        return batch[process::processes]


@dataclass(frozen=True)
class PTXData:
    """What is mixed in and what is held out of it, as token ids, with where it came from."""

    train: list[Labelled]
    heldout: list[Labelled]
    source: DataSource


def load_ptx(settings: PTXSettings, tokenizer: PreTrainedTokenizerBase, seed: int) -> PTXData:
    """Demonstrations in SFT's formats, or plain text as {text}.

    Longer demonstrations than `max_length` tokens are dropped and counted; longer texts are cut into pieces. Raises
    UsageError showing the first row of no known format, or where nothing is left.
    """
    data = load_mixed(settings.data, seed)
    data = words_only(data, tokenizer)
    train, too_long = _tokenized(tokenizer, data.train, settings.max_length)
    heldout, _ = _tokenized(tokenizer, data.heldout, settings.max_length)
    if not train:
        raise UsageError(
            f"every demonstration is longer than {settings.max_length} tokens",
            where=settings.data.source,
            next_step="raise ptx.max_length in the recipe",
        )
    source = kept(data.source, data.source.rows - too_long, too_long, settings.max_length)
    return PTXData(train, heldout, source)


def load_mixed(settings: DataSettings, seed: int) -> Data:
    """The rows before they are token ids: Demonstration or PlainText."""

    def convert(row: dict[str, Any]) -> Conversation | None:
        text = row.get("text")
        if not isinstance(text, str):
            return as_demonstration(row)
        if settings.system is not None:
            raise UsageError(
                "a plain text has no place for a system message",
                where=settings.source,
                found=f"ptx.data.system: {settings.system!r}",
                next_step="remove ptx.data.system from the recipe",
            )
        return PlainText([], text)

    formats = f"{{text}}, {{prompt, completion}}, {{messages}}, {PREFERENCE_FORMATS}"
    return load_rows(settings, seed, "preferences.jsonl", convert, formats)


def learned_tokens(sequences: Sequence[Labelled]) -> int:
    """How many tokens are learned: a sequence's first one is read only, for nothing precedes it."""
    return sum(label != UNLEARNED for _, labels in sequences for label in labels[1:])


def summed_loss(model: Any, sequences: Sequence[Labelled], pad: int) -> Tensor:
    """-sum over learned tokens of log pi(x_t | x_<t), in nats: a scalar with its gradient.

    Only positions before a token that some sequence learns meet the vocabulary.
    """
    width = max(len(ids) for ids, _ in sequences)
    ids, labels = (
        torch.tensor([row[part] + [fill] * (width - len(row[part])) for row in sequences], device=model.device)
        for part, fill in ((0, pad), (1, UNLEARNED))
    )  # (B, T) each
    lengths = torch.tensor([len(row[0]) for row in sequences], device=model.device)
    attention = (torch.arange(width, device=model.device)[None, :] < lengths[:, None]).long()  # (B, T)
    learned = labels[:, 1:] != UNLEARNED  # (B, T-1)
    before = learned.any(dim=0).nonzero()[:, 0]  # (K,) positions whose next token is learned somewhere
    logits = model(input_ids=ids, attention_mask=attention, use_cache=False, logits_to_keep=before).logits  # (B, K, V)
    return -(token_logprobs(logits, ids[:, 1:][:, before]) * learned[:, before]).sum()


def heldout_loss(model: Any, sequences: Sequence[Labelled], pad: int) -> float:
    """The mean over all learned tokens, in nats."""
    return loss_per_token(learned_logprobs(model, sequences, pad))


def _tokenized(
    tokenizer: PreTrainedTokenizerBase, rows: Sequence[Conversation], max_length: int
) -> tuple[list[Labelled], int]:
    """Each row's ids and labels, and how many demonstrations were too long."""
    found: list[Labelled] = []
    too_long = 0
    for row in rows:
        if isinstance(row, Demonstration):
            ids, labels = demonstration_ids(tokenizer, row.prompt, row.completion)
            if len(ids) <= max_length:
                found.append((ids, labels))
            else:
                too_long += 1
        elif isinstance(row, PlainText):
            # As in pretraining: a document begins with BOS where the tokenizer writes one, and its end is learned too.
            words = tokenizer(row.text, add_special_tokens=False)["input_ids"]
            whole = [*_beginning(tokenizer), *words, tokenizer.eos_token_id]
            pieces = [whole[start : start + max_length] for start in range(0, len(whole), max_length)]
            found += [(piece, piece) for piece in pieces if len(piece) > 1]
    return found, too_long


def _beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """BOS, where the tokenizer puts it before a text; else nothing. What it may put behind a text is no beginning."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("a")["input_ids"][:1] == [bos] else []
