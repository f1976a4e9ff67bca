"""Toxicity classifiers from the Hub, pinned by commit: Detoxify's, and Facebook's of hate speech from four rounds of Dynabench.

    scorer = open_classifier(CLASSIFIERS["detoxify"], keep=None)
    scorer.check()                       # brings the files into the Hub client's cache, and looks at config and labels
    scorer.scores(["have a nice day"])   # loads the weights; the probability of the label that the classifier is named for

Detoxify "original" (Hanu and Unitary 2020) gives each of six labels a probability of its own (sigmoid), and `toxic` is its figure;
Dynabench's (Vidgen et al. 2021) has two labels that exclude each other (softmax), and `hate` is its figure. A text is cut at 512
tokens.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from evals.kept_scores import kept_scores
from evals.text_scorer import TextScorer, metrics_of
from training.errors import UsageError

AT_A_TIME = 32
LONGEST = 512  # tokens


@dataclass(frozen=True)
class Pinned:
    """A classifier on the Hub, its commit, and how its logits become the probability of `label`."""

    name: str
    hub_id: str
    commit: str
    label: str
    labels: int
    head: Literal["sigmoid", "softmax"]

    @property
    def metric(self) -> str:
        return f"toxicity/{self.name}@{self.commit[:12]}"

    @property
    def scorer(self) -> str:
        return f"toxicity/{self.name} {self.hub_id}@{self.commit}, label {self.label}"


CLASSIFIERS = {
    one.name: one
    for one in (
        Pinned("detoxify", "unitary/toxic-bert", "4d6c22e74ba2fdd26bc4f7238f50766b045a0d94", "toxic", 6, "sigmoid"),
        Pinned(
            "roberta-hate-speech",
            "facebook/roberta-hate-speech-dynabench-r4-target",
            "8266450382e3ef0ddfb92b8393e84716f63fc736",
            "hate",
            2,
            "softmax",
        ),
    )
}


class Classifier:
    """A pinned classifier; found when first asked for, loaded when there is something to score."""

    def __init__(self, pinned: Pinned, keep: Path | None) -> None:
        self.pinned, self.keep = pinned, keep

    def check(self) -> None:
        """Raise HubError where the Hub does not give it, UsageError where it is not the classifier that is meant."""
        self._place  # noqa: B018 - looked up for what it raises

    def scores(self, texts: Sequence[str]) -> list[float | None]:
        return kept_scores(self.keep, self.pinned.scorer, texts, self._compute, AT_A_TIME)

    @cached_property
    def _place(self) -> int:
        """The place of the label among the logits."""
        config = json.loads((self._directory / "config.json").read_text(encoding="utf-8"))
        labels = {str(name): int(place) for place, name in (config.get("id2label") or {}).items()}
        if self.pinned.label not in labels or len(labels) != self.pinned.labels:
            raise UsageError(
                f"the classifier has other labels than {self.pinned.name}'s",
                where=f"{self.pinned.hub_id}@{self.pinned.commit}, config.json",
                expected=f"{self.pinned.labels} labels, one of which is {self.pinned.label}",
                found=", ".join(labels) or "none",
            )
        return labels[self.pinned.label]

    @cached_property
    def _directory(self) -> Path:
        from training.pretrained import download

        return download(f"{self.pinned.hub_id}@{self.pinned.commit}")[0]

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        model, loading = AutoModelForSequenceClassification.from_pretrained(self._directory, output_loading_info=True)
        if loading["missing_keys"]:
            raise UsageError(
                "the classifier lacks tensors of its model",
                where=f"{self.pinned.hub_id}@{self.pinned.commit}",
                found=", ".join(sorted(loading["missing_keys"])[:4]),
            )
        return model.eval(), AutoTokenizer.from_pretrained(self._directory)

    def _compute(self, texts: list[str]) -> list[float | None]:
        import torch

        model, tokenizer = self._loaded
        longest = min(LONGEST, int(getattr(tokenizer, "model_max_length", LONGEST)))
        batch = tokenizer(texts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        with torch.inference_mode():
            logits = model(**batch).logits.float()  # (texts, labels)
        found = logits.sigmoid() if self.pinned.head == "sigmoid" else logits.softmax(-1)
        return [float(one) for one in found[:, self._place]]


def open_classifier(pinned: Pinned, keep: Path | None) -> TextScorer:
    """The classifier as a scorer of texts; nothing is downloaded yet."""
    classifier = Classifier(pinned, keep)
    return TextScorer(pinned.metric, pinned.scorer, metrics_of(pinned.metric), classifier.scores, {}, classifier.check)
