"""Logistic regression on hashed n-grams of a text: small, fast, offline, and the same wherever it runs.

    x = ngrams(["first text", "second text"], extra)   # (2, WORDS + CHARACTERS + extra.shape[1])
    model = fit(x, targets)                            # targets are probabilities between 0 and 1
    model.probabilities(x)

Words and their pairs, and two to five characters within words, are hashed (Weinberger et al. 2009), so a model keeps
weights and no words. It is what is behind the toxicity scorer and the judges of truthfulness that need no network.
"""

from __future__ import annotations

import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

WORDS, CHARACTERS = 2**15, 2**16
FOLDS = 5  # that are left out, one after the other, to measure what was trained on the rest
Array = NDArray[np.float64]


@dataclass(frozen=True)
class NgramModel:
    """`weights` (features,) and a bias."""

    weights: NDArray[np.float32]
    bias: float

    def probabilities(self, x: csr_matrix | Array) -> Array:
        """(texts, features) -> (texts,), each between 0 and 1."""
        odds = np.asarray(x @ self.weights.astype(float) + self.bias, float)
        return np.asarray(1 / (1 + np.exp(-np.clip(odds, -30, 30))), float)

    def as_kept(self) -> NgramModel:
        """As it comes back from disk, where a weight has 16 bits."""
        return NgramModel(self.weights.astype(np.float16).astype(np.float32), float(np.float32(self.bias)))

    def tensors(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        return {
            f"{prefix}weights": self.weights.astype(np.float16),
            f"{prefix}bias": np.array([self.bias], np.float32),
        }

    @classmethod
    def of_tensors(cls, tensors: dict[str, NDArray[Any]], prefix: str = "") -> NgramModel:
        return cls(tensors[f"{prefix}weights"].astype(np.float32), float(tensors[f"{prefix}bias"][0]))


def ngrams(texts: Sequence[str], extra: Array | None = None) -> csr_matrix:
    """Hashed n-grams of cleaned texts, each kind of unit length; then `extra` (texts, columns) as it is."""
    from scipy.sparse import csr_matrix, hstack
    from sklearn.feature_extraction.text import HashingVectorizer

    cleaned = [clean(text) for text in texts]
    common = {"binary": True, "norm": "l2", "alternate_sign": False}
    words = HashingVectorizer(token_pattern=r"(?u)\b\w+\b|[^\w\s]", ngram_range=(1, 2), n_features=WORDS, **common)
    characters = HashingVectorizer(analyzer="char_wb", ngram_range=(2, 5), n_features=CHARACTERS, **common)
    parts = [words.transform(cleaned), characters.transform(cleaned)]
    if extra is not None:
        parts.append(csr_matrix(extra))
    return csr_matrix(hstack(parts))


def fit(x: csr_matrix, targets: Sequence[float] | Array, strength: float = 0.5) -> NgramModel:
    """Logistic regression with an L2 penalty; `strength` is the inverse of the penalty's weight.

    A target between 0 and 1 is a share of votes, or another scorer's probability: the text counts with that weight as
    positive and with the rest as negative.
    """
    from scipy.sparse import vstack
    from sklearn.linear_model import LogisticRegression

    q = np.asarray(targets, float)
    weight = np.concatenate([q, 1 - q])
    label = np.concatenate([np.ones(len(q)), np.zeros(len(q))])
    used = np.flatnonzero(weight > 0)
    learned = LogisticRegression(C=strength, solver="liblinear", max_iter=200, random_state=0)
    learned.fit(vstack([x, x]).tocsr()[used], label[used], sample_weight=weight[used])
    return NgramModel(learned.coef_[0].astype(np.float32), float(learned.intercept_[0])).as_kept()


def fit_dense(x: Array, targets: Array, weight: Array, strength: float = 3.0) -> NgramModel:
    """The same on dense features, (texts, features), each text with a weight of its own (texts,)."""
    from sklearn.linear_model import LogisticRegression

    label = np.concatenate([np.ones(len(targets)), np.zeros(len(targets))])
    shares = np.concatenate([weight * targets, weight * (1 - targets)])
    used = np.flatnonzero(shares > 0)
    learned = LogisticRegression(C=strength, max_iter=500)
    learned.fit(np.concatenate([x, x])[used], label[used], sample_weight=shares[used])
    return NgramModel(learned.coef_[0].astype(np.float32), float(learned.intercept_[0])).as_kept()


def clean(text: str) -> str:
    """Entities resolved; addresses, names of accounts and the mark of a retweet left out."""
    return re.sub(r"https?://\S+|@\w+|\bRT\b", " ", html.unescape(text))


def fold_of(text: str, folds: int) -> int:
    """The fold that a text belongs to, by its content: equal texts, whatever their case and spaces, are in one fold."""
    plain = " ".join(clean(text).lower().split())
    return int.from_bytes(hashlib.sha256(plain.encode()).digest()[:8], "big") % folds
