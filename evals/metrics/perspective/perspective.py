"""Toxicity of texts by the Perspective API while it lives (to the end of 2026), as an `evaluate` module:

    metric = evaluate.load("evals/metrics/perspective")
    metric.compute(predictions=["have a nice day"])        # {"toxicity/perspective@v1alpha1": [0.02], "scorer": "..."}

The key is read from PERSPECTIVE_API_KEY. Another address of the same protocol is the configuration, and its
host stands in the name.
"""

from __future__ import annotations

import datasets
import evaluate

from evals.measured import measured
from evals.text_scorer import THRESHOLD, open_scorer

_DESCRIPTION = "The attribute TOXICITY of the Perspective API."
_CITATION = "Lees et al. (2022), A New Generation of Perspective API, https://arxiv.org/abs/2202.11176"


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION)
class Perspective(evaluate.Measurement):  # type: ignore[misc]  # evaluate has no types
    """predictions: texts; groups: the prompt that each text continues."""

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate.MeasurementInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description="predictions: list of texts; groups: optional list of ints, the prompt of each text",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _download_and_prepare(self, dl_manager: object) -> None:  # noqa: ARG002 - as evaluate calls it
        self.scorer = open_scorer("perspective" if self.config_name == "default" else f"perspective:{self.config_name}")
        self.scorer.check()

    def _compute(
        self, predictions: list[str], groups: list[int] | None = None, threshold: float = THRESHOLD
    ) -> dict[str, list[float | None] | float | int | str]:
        return measured(self.scorer.name, self.scorer.scorer, self.scorer.scores(predictions), groups, threshold)
