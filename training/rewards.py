"""Rewards for whole answers: a reward model is a function from conversations to numbers.

model = RewardModel.load(Checkpoint.open(Path("runs/reward/checkpoint")), "bfloat16")
model.score([([{"role": "user", "content": "Hello"}], "Hi, how can I help?")])   # [0.73]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from training.chat import answer_ids, prompt_ids
from training.checkpoint import Checkpoint
from training.data import Messages
from training.errors import UsageError
from training.pretrained import load_tokenizer, require_finite

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RewardModel:
    """A sequence classifier with one output, its tokenizer, and the digest that names it."""

    model: Any
    tokenizer: PreTrainedTokenizerBase
    digest: str

    @classmethod
    def load(cls, checkpoint: Checkpoint, dtype: str, device: str | None = None) -> RewardModel:
        """Load a reward model. Raises UsageError where the checkpoint is none, or is not finite."""
        import torch
        from transformers import AutoModelForSequenceClassification

        from training.grouped_attention import use_grouped_attention

        architectures = checkpoint.config.get("architectures") or ["unknown"]
        if not architectures[0].endswith("ForSequenceClassification"):
            raise UsageError(
                "this checkpoint is not a reward model",
                where=str(checkpoint.path),
                expected="a sequence-classification checkpoint with one output",
                found=architectures[0],
                next_step="train one: python -m training reward --recipe reward-starter --out runs/reward",
            )
        model = AutoModelForSequenceClassification.from_pretrained(checkpoint.path, dtype=getattr(torch, dtype))
        if model.config.num_labels != 1:
            raise UsageError(
                "a reward model has one output",
                where=str(checkpoint.path),
                expected="1",
                found=str(model.config.num_labels),
            )
        require_finite(model, checkpoint)
        use_grouped_attention(model)
        model.requires_grad_(False)
        model.eval()
        if device is not None:
            model.to(device)
        return cls(model, load_tokenizer(checkpoint), checkpoint.digest)

    def score(self, conversations: Sequence[tuple[Messages, str]], batch_size: int = 16) -> list[float]:
        """A score for each (prompt, answer), in the order given. Batches are of similar lengths."""
        sequences = [
            prompt_ids(self.tokenizer, prompt) + answer_ids(self.tokenizer, prompt, answer)
            for prompt, answer in conversations
        ]
        scores = [0.0] * len(sequences)
        order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            for index, value in zip(batch, self.score_ids([sequences[index] for index in batch]).tolist(), strict=True):
                scores[index] = value
        return scores

    def score_ids(self, sequences: Sequence[Sequence[int]]) -> torch.Tensor:
        """Scores of token sequences in the model's own ids, one forward pass. Returns float32 `(batch,)`.

        The score is read at the last token of each sequence, found by its length: a classifier's own search for the
        last token that is not padding would be misled by an answer that ends in the padding token.
        """
        import torch

        device = self.model.device
        length = max(len(sequence) for sequence in sequences)
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor(
            [[*sequence, *[pad] * (length - len(sequence))] for sequence in sequences], device=device
        )  # (B, T)
        ends = torch.tensor([len(sequence) - 1 for sequence in sequences], device=device)  # (B,)
        mask = torch.arange(length, device=device)[None, :] <= ends[:, None]  # (B, T)
        with torch.no_grad():
            hidden = self.model.base_model(input_ids=ids, attention_mask=mask.long()).last_hidden_state  # (B, T, D)
            return self._scores_at(hidden, ends)

    def score_states(
        self, trunk: torch.Tensor, count: int, attention_mask: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        """`score_ids` from what the `count` lowest layers made of the tokens, `(B, L, D)`, where these are this model's too.

        See `training.frozen_trunk.same_layers`. Padding may stand on either side. Returns float32 `(batch,)`.
        """
        import torch

        from training.frozen_trunk import layers_from

        ends = attention_mask.shape[1] - 1 - attention_mask.flip(1).argmax(dim=1)  # (B,)
        with torch.no_grad(), layers_from(self.model, count):
            hidden = self.model.base_model(
                inputs_embeds=trunk, attention_mask=attention_mask, position_ids=positions, use_cache=False
            ).last_hidden_state
            return self._scores_at(hidden, ends)

    def _scores_at(self, hidden: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        import torch

        last = hidden[torch.arange(len(ends), device=ends.device), ends]  # (B, D)
        scores: torch.Tensor = self.model.score(last).squeeze(-1).float()  # (B,)
        return scores
