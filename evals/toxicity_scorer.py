"""The offline toxicity scorer: hashed n-grams beside alt-profanity-check's judgement, in one logistic regression.

    scorer = ToxicityScorer.open(SHIPPED)              # or a folder that `python -m evals train-scorer toxicity` wrote
    scorer.scores(["have a nice day"])                 # between 0 and 1
    scorer.card.name, scorer.card.version, scorer.card.calibration

alt-profanity-check hears swearing. What is learned here on top of it is hatred, threats and sex without swear words. The card tells
on which texts it was trained, and the area under the ROC curve on every labelled set beside alt-profanity-check's on the
same texts: from folds that were left out, or from sets that were never trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from evals.auc import Auc, auc, auc_difference
from evals.labelled_texts import LabelledTexts, without
from evals.ngram_model import FOLDS, NgramModel, fit, fold_of, ngrams
from training.errors import UsageError
from training.records import Record, write_atomically

SHIPPED = Path(__file__).parent / "metrics" / "toxicity"
CARD, WEIGHTS = "card.json", "weights.safetensors"
PROFANITY_SCALE = 0.1  # of alt-profanity-check's log-odds beside n-grams of unit length: how freely it may be weighed
PROFANITY = "alt-profanity-check"
Protocol = Literal["5-fold cross-validation", "never trained on"]
Array = NDArray[np.float64]


class TrainingSet(Record):
    name: str
    sha256: str  # of the file
    texts: int  # after those were left out that a set never trained on holds too


class Calibration(Record):
    """How well a scorer tells toxic texts of one labelled set from others, on texts that it was not trained on."""

    name: str
    sha256: str
    protocol: Protocol
    auc: Auc
    profanity: Auc  # alt-profanity-check on the same texts
    difference: Auc  # auc - profanity, paired


class ScorerCard(Record):
    schema_version: int = 1
    name: str
    version: str
    weights_sha256: str
    profanity_version: str  # of alt-profanity-check, whose judgement is a feature
    trained_on: list[TrainingSet]
    calibration: list[Calibration]
    note: str = (
        "alt-profanity-check was trained on the tweets of Davidson et al. (2017), so no figure on them is independent of it; "
        "it was not trained on the others."
    )


@dataclass(frozen=True)
class ToxicityScorer:
    card: ScorerCard
    model: NgramModel

    @property
    def metric(self) -> str:
        """What stands before a figure's name, e.g. "toxicity/ngram@1"."""
        return f"toxicity/{self.card.name}@{self.card.version}"

    @property
    def scorer(self) -> str:
        """Which weights judged, in full."""
        return (
            f"{self.metric} weights sha256:{self.card.weights_sha256[:12]}, {PROFANITY} {self.card.profanity_version}"
        )

    def scores(self, texts: Sequence[str]) -> list[float]:
        """The probability of each text to be found toxic; 0 for one without a letter or sign."""
        if not texts:
            return []
        found = self.model.probabilities(features(texts, profanity(texts)))
        return [float(score) if text.strip() else 0.0 for text, score in zip(texts, found, strict=True)]

    @classmethod
    def open(cls, folder: Path) -> ToxicityScorer:
        """Raises UsageError where card or weights are missing, do not belong together, or another
        alt-profanity-check is installed than the weights were learned beside."""
        from safetensors.numpy import load

        if not (folder / CARD).is_file() or not (folder / WEIGHTS).is_file():
            raise UsageError(
                "there is no toxicity scorer here",
                where=str(folder),
                expected=f"{CARD} and {WEIGHTS}",
                next_step="python -m evals train-scorer toxicity --data FILE --out DIR",
            )
        card = ScorerCard.read(folder / CARD)
        content = (folder / WEIGHTS).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if found != card.weights_sha256:
            raise UsageError(
                "the scorer's weights are not those of its card",
                where=str(folder / WEIGHTS),
                expected=f"sha256 {card.weights_sha256}",
                found=f"sha256 {found}",
                next_step="copy the whole folder again, or train the scorer again",
            )
        if profanity_version() != card.profanity_version:
            raise UsageError(
                f"the scorer was trained beside another {PROFANITY}",
                where=str(folder / CARD),
                expected=card.profanity_version,
                found=profanity_version(),
                next_step=f"pip install {PROFANITY}=={card.profanity_version}, or train the scorer again",
            )
        return cls(card, NgramModel.of_tensors(load(content)))

    def write(self, folder: Path) -> None:
        """Weights first, the card last."""
        write_atomically(folder / WEIGHTS, weights_as_bytes(self.model))
        self.card.write(folder / CARD)


def train(
    name: str, version: str, training: Sequence[LabelledTexts], unseen: Sequence[LabelledTexts]
) -> ToxicityScorer:
    """Train on `training`, and measure: on its own sets with folds left out, on `unseen` with the final weights.

    A text that stands in an unseen set too is left out of the training; equal texts are always in one fold. Raises
    UsageError where nothing is left to train on.
    """
    kept = [without(one, unseen) for one in training]
    x, swearing, targets, folds, start = _stacked(kept)
    final = fit(x, targets)
    out_of_fold = np.zeros(len(targets))
    for fold in range(FOLDS):
        left_out = folds == fold
        out_of_fold[left_out] = fit(x[~left_out], targets[~left_out]).probabilities(x[left_out])
    calibration = []
    for one, first in zip(kept, start, strict=True):
        rows = slice(first, first + len(one.texts))
        calibration.append(_calibration(one, "5-fold cross-validation", out_of_fold[rows], swearing[rows]))
    for one in unseen:
        theirs = profanity(one.texts)
        calibration.append(
            _calibration(one, "never trained on", final.probabilities(features(one.texts, theirs)), theirs)
        )
    card = ScorerCard(
        name=name,
        version=version,
        weights_sha256=hashlib.sha256(weights_as_bytes(final)).hexdigest(),
        profanity_version=profanity_version(),
        trained_on=[TrainingSet(name=one.name, sha256=one.sha256, texts=len(one.texts)) for one in kept],
        calibration=calibration,
    )
    return ToxicityScorer(card, final)


def features(texts: Sequence[str], swearing: Array) -> Any:
    """(texts, features), sparse: n-grams, then alt-profanity-check's log-odds."""
    p = np.clip(swearing, 1e-4, 1 - 1e-4)
    return ngrams(texts, (PROFANITY_SCALE * np.log(p / (1 - p)))[:, None])


def profanity(texts: Sequence[str]) -> Array:
    """alt-profanity-check's probabilities, (texts,)."""
    from profanity_check import predict_prob

    return np.asarray(predict_prob(list(texts)), float)


def profanity_version() -> str:
    import importlib.metadata

    return importlib.metadata.version(PROFANITY)


def weights_as_bytes(model: NgramModel) -> bytes:
    from safetensors.numpy import save

    return bytes(save(model.tensors()))


def _stacked(sets: Sequence[LabelledTexts]) -> tuple[Any, Array, Array, NDArray[np.int64], list[int]]:
    texts = [text for one in sets for text in one.texts]
    if not texts:
        raise UsageError("no text is left to train on", expected="texts that no --test file holds")
    swearing = profanity(texts)
    start = [sum(len(one.texts) for one in sets[:place]) for place in range(len(sets))]
    targets = np.array([target for one in sets for target in one.targets])
    folds = np.array([fold_of(text, FOLDS) for text in texts])
    return features(texts, swearing), swearing, targets, folds, start


def _calibration(one: LabelledTexts, protocol: Protocol, mine: Array, theirs: Array) -> Calibration:
    return Calibration(
        name=one.name,
        sha256=one.sha256,
        protocol=protocol,
        auc=auc(one.labels, list(mine)),
        profanity=auc(one.labels, list(theirs)),
        difference=auc_difference(one.labels, list(mine), list(theirs)),
    )
