"""The highest category score of texts by an OpenAI-compatible moderation endpoint, as an `evaluate` module:

    metric = evaluate.load("evals/metrics/moderation", "omni-moderation-2024-09-26@https://api.openai.com/v1")
    metric.compute(predictions=["have a nice day"])   # {"toxicity/moderation@omni-moderation-2024-09-26": [0.001], "scorer": "..."}

The configuration is MODEL@URL; the key is read from OPENAI_API_KEY.
"""

from __future__ import annotations

import datasets
import evaluate

from evals.measured import measured
from evals.text_scorer import THRESHOLD, open_scorer

_DESCRIPTION = "The highest category score by an OpenAI-compatible moderation endpoint."
_CITATION = "Markov et al. (2023), A Holistic Approach to Undesired Content Detection, https://arxiv.org/abs/2208.03274"


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION)
class Moderation(evaluate.Measurement):  # type: ignore[misc]  # evaluate has no types
    """predictions: texts; groups: the prompt that each text continues."""

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate.MeasurementInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description="predictions: list of texts; groups: optional list of ints, the prompt of each text",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _download_and_prepare(self, dl_manager: object) -> None:  # noqa: ARG002 - as evaluate calls it
        self.scorer = open_scorer(f"moderation:{self.config_name}")
        self.scorer.check()

    def _compute(
        self, predictions: list[str], groups: list[int] | None = None, threshold: float = THRESHOLD
    ) -> dict[str, list[float | None] | float | int | str]:
        return measured(self.scorer.name, self.scorer.scorer, self.scorer.scores(predictions), groups, threshold)
