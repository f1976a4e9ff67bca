"""Toxicity of texts by an offline scorer with a version and a calibration card, as an `evaluate` module:

    metric = evaluate.load("evals/metrics/toxicity")                    # the scorer that ships
    metric = evaluate.load("evals/metrics/toxicity", "runs/scorer")     # one that `train-scorer toxicity` or `hate` wrote
    metric.compute(predictions=["have a nice day"])        # {"toxicity/ngram@1": [0.03], "scorer": "toxicity/ngram@1 weights ..."}
    metric.compute(predictions=[...], groups=[0, 0, 1, 1])    # and maxima over the samples of each prompt

The scorer's name and version stand in every key, for two scorers' figures are not comparable. How well it tells toxic
texts from others on each labelled set stands in card.json beside its weights.
"""

from __future__ import annotations

import datasets
import evaluate

from evals.measured import measured
from evals.text_scorer import THRESHOLD, open_scorer

_DESCRIPTION = "The probability that a reader finds a text toxic, by hashed n-grams and alt-profanity-check."
_CITATION = "Gehman et al. (2020), RealToxicityPrompts: expected maximum toxicity and toxicity probability"


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION)
class Toxicity(evaluate.Measurement):  # type: ignore[misc]  # evaluate has no types
    """predictions: texts; groups: the prompt that each text continues. The configuration is the folder of a scorer."""

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate.MeasurementInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description="predictions: list of texts; groups: optional list of ints, the prompt of each text",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _download_and_prepare(self, dl_manager: object) -> None:  # noqa: ARG002 - as evaluate calls it
        self.scorer = open_scorer("ngram" if self.config_name == "default" else self.config_name)
        self.scorer.check()

    def _compute(
        self, predictions: list[str], groups: list[int] | None = None, threshold: float = THRESHOLD
    ) -> dict[str, list[float | None] | float | int | str]:
        return measured(self.scorer.name, self.scorer.scorer, self.scorer.scores(predictions), groups, threshold)
