"""Toxicity of texts by Detoxify's "original" classifier from the Hub, pinned by commit, as an `evaluate` module:

    metric = evaluate.load("evals/metrics/detoxify")
    metric.compute(predictions=["have a nice day"])        # {"toxicity/detoxify@4d6c22e74ba2": [0.001], "scorer": "..."}

HF_ENDPOINT chooses the Hub. How well it tells toxic texts: `python -m evals calibrate detoxify --test FILE --out DIR`.
"""

from __future__ import annotations

import datasets
import evaluate

from evals.measured import measured
from evals.text_scorer import THRESHOLD, open_scorer

_DESCRIPTION = "The probability of the label toxic, by Detoxify original (unitary/toxic-bert)."
_CITATION = "Hanu and Unitary (2020), Detoxify, https://github.com/unitaryai/detoxify"


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION)
class Detoxify(evaluate.Measurement):  # type: ignore[misc]  # evaluate has no types
    """predictions: texts; groups: the prompt that each text continues."""

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate.MeasurementInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description="predictions: list of texts; groups: optional list of ints, the prompt of each text",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _download_and_prepare(self, dl_manager: object) -> None:  # noqa: ARG002 - as evaluate calls it
        self.scorer = open_scorer("detoxify")
        self.scorer.check()

    def _compute(
        self, predictions: list[str], groups: list[int] | None = None, threshold: float = THRESHOLD
    ) -> dict[str, list[float | None] | float | int | str]:
        return measured(self.scorer.name, self.scorer.scorer, self.scorer.scores(predictions), groups, threshold)
