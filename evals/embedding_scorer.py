"""The hate scorer: logistic regression on the embedding of a sentence encoder, which hears hatred that uses no swear word.

    scorer = EmbeddingScorer.open(Path("runs/hate"))       # a folder that `python -m evals train-scorer hate` wrote
    scorer.scores(["have a nice day"])                     # between 0 and 1
    scorer.metric                                          # "hate/embedding@1"

It stands beside the toxicity scorer and does not replace it: profanity and hatred of groups are two signals, and no sum of the two
that was tried tells both as well as each tells its own (docs/log.md). The encoder is a BERT by its Hub id and commit, or a
directory; its token states are averaged and scaled to unit length, as the sentence-transformers models of that kind are meant to be
read. The folder holds the head and the hash of the encoder's weights, and no encoder.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evals.auc import Auc, auc
from evals.labelled_texts import LabelledTexts, without
from evals.ngram_model import FOLDS, NgramModel, fit_dense, fold_of
from evals.toxicity_scorer import TrainingSet
from training.errors import UsageError
from training.records import Record, sha256_of_file, write_atomically

CARD, WEIGHTS = "card.json", "weights.safetensors"
KIND: Literal["embedding"] = "embedding"
AT_A_TIME = 64
LONGEST = 128  # tokens
Array = NDArray[np.float64]


class MeasuredOn(Record):
    name: str
    sha256: str
    protocol: Literal["5-fold cross-validation", "never trained on"]
    auc: Auc


class EmbeddingCard(Record):
    schema_version: int = 1
    kind: Literal["embedding"] = KIND
    name: str
    version: str
    encoder: str  # a Hub id with its commit, or a directory
    encoder_sha256: str  # of its model.safetensors
    weights_sha256: str
    trained_on: list[TrainingSet]
    calibration: list[MeasuredOn]


@dataclass(frozen=True)
class Encoder:
    """A sentence encoder; loaded when there is something to embed."""

    name: str

    @cached_property
    def directory(self) -> Path:
        from training.pretrained import download

        return Path(self.name) if Path(self.name).is_dir() else download(self.name)[0]

    @cached_property
    def sha256(self) -> str:
        """Of its weights. Raises UsageError where it has none."""
        file = self.directory / "model.safetensors"
        if not file.is_file():
            raise UsageError("the encoder has no weights", where=self.name, expected="model.safetensors")
        return sha256_of_file(file)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModel, AutoTokenizer

        return AutoModel.from_pretrained(self.directory).eval(), AutoTokenizer.from_pretrained(self.directory)

    def embed(self, texts: Sequence[str]) -> Array:
        """(texts,) -> (texts, width), each of unit length; texts of similar length are computed together."""
        import torch

        model, tokenizer = self._loaded
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        rows: dict[int, Array] = {}
        for start in range(0, len(order), AT_A_TIME):
            places = order[start : start + AT_A_TIME]
            batch = tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=LONGEST,
                return_tensors="pt",
            )
            with torch.inference_mode():
                states = model(**batch).last_hidden_state.float()  # (texts, tokens, width)
            kept = batch["attention_mask"].unsqueeze(-1)
            mean = (states * kept).sum(1) / kept.sum(1)
            for place, row in zip(places, torch.nn.functional.normalize(mean, dim=1).double().numpy(), strict=True):
                rows[place] = row
        return np.stack([rows[place] for place in range(len(texts))])


@dataclass(frozen=True)
class EmbeddingScorer:
    card: EmbeddingCard
    head: NgramModel
    encoder: Encoder

    @property
    def metric(self) -> str:
        return f"hate/{self.card.name}@{self.card.version}"

    @property
    def scorer(self) -> str:
        """Which head on which encoder, in full."""
        return f"{self.metric} weights sha256:{self.card.weights_sha256[:12]}, encoder sha256:{self.card.encoder_sha256[:12]}"

    def check(self) -> None:
        """Raises UsageError where the encoder is not the one that the head was trained on, HubError where it is not there."""
        if self.encoder.sha256 != self.card.encoder_sha256:
            raise UsageError(
                "the hate scorer was trained on another encoder",
                where=self.encoder.name,
                expected=f"sha256 {self.card.encoder_sha256}",
                found=f"sha256 {self.encoder.sha256}",
                next_step="bring back the encoder, or train the scorer again",
            )

    def probabilities(self, texts: list[str]) -> list[float | None]:
        return [float(p) for p in self.head.probabilities(self.encoder.embed(texts))]

    def write(self, folder: Path) -> None:
        """Weights first, the card last."""
        write_atomically(folder / WEIGHTS, _as_bytes(self.head))
        self.card.write(folder / CARD)

    @classmethod
    def open(cls, folder: Path) -> EmbeddingScorer:
        """Raises UsageError where weights are missing or are not those of the card; the encoder is looked for by `check`."""
        from safetensors.numpy import load

        card = EmbeddingCard.read(folder / CARD)
        file = folder / WEIGHTS
        content = file.read_bytes() if file.is_file() else b""
        if (found := hashlib.sha256(content).hexdigest()) != card.weights_sha256:
            raise UsageError(
                "the scorer's weights are not those of its card",
                where=str(file),
                expected=f"sha256 {card.weights_sha256}",
                found=f"sha256 {found}" if content else "no file",
                next_step="copy the whole folder again, or train the scorer again",
            )
        return cls(card, NgramModel.of_tensors(load(content)), Encoder(card.encoder))


def train_embedding(
    name: str,
    version: str,
    encoder: str,
    training: Sequence[LabelledTexts],
    unseen: Sequence[LabelledTexts],
) -> EmbeddingScorer:
    """Train on `training`, each set with the same weight; measure with folds left out, and on `unseen` with the final head.

    A text that stands in an unseen set is left out of the training; equal texts are always in one fold.
    """
    made = Encoder(encoder)
    kept = [without(one, unseen) for one in training]
    x = np.concatenate([made.embed(one.texts) for one in kept])
    y = np.array([target for one in kept for target in one.targets])
    weight = np.concatenate([np.full(len(one.texts), 1000 / len(one.texts)) for one in kept])
    folds = np.array([fold_of(text, FOLDS) for one in kept for text in one.texts])
    head = fit_dense(x, y, weight)
    held_out = np.zeros(len(y))
    for fold in range(FOLDS):
        away = folds == fold
        held_out[away] = fit_dense(x[~away], y[~away], weight[~away]).probabilities(x[away])
    calibration, first = [], 0
    for one in kept:
        rows = held_out[first : first + len(one.texts)]
        first += len(one.texts)
        calibration.append(_on(one, "5-fold cross-validation", rows))
    calibration += [_on(one, "never trained on", head.probabilities(made.embed(one.texts))) for one in unseen]
    card = EmbeddingCard(
        name=name,
        version=version,
        encoder=encoder,
        encoder_sha256=made.sha256,
        weights_sha256=hashlib.sha256(_as_bytes(head)).hexdigest(),
        trained_on=[TrainingSet(name=one.name, sha256=one.sha256, texts=len(one.texts)) for one in kept],
        calibration=calibration,
    )
    return EmbeddingScorer(card, head, made)


def _on(
    one: LabelledTexts, protocol: Literal["5-fold cross-validation", "never trained on"], rows: Array
) -> MeasuredOn:
    return MeasuredOn(name=one.name, sha256=one.sha256, protocol=protocol, auc=auc(one.labels, list(rows)))


def _as_bytes(head: NgramModel) -> bytes:
    from safetensors.numpy import save

    return bytes(save(head.tensors()))
