"""What the toxicity scorers are as `evaluate` modules: everything but their name. evals/metrics/ has a module of each.

from evals import scorer_module              # not the class itself: `evaluate` takes the first that a module holds

class Detoxify(scorer_module.ScorerMeasurement): ...
"""

from __future__ import annotations

import datasets
import evaluate

from evals.measured import measured
from evals.text_scorer import THRESHOLD, open_scorer


class ScorerMeasurement(evaluate.Measurement):  # type: ignore[misc]  # evaluate has no types
    """predictions: texts; groups: the prompt that each text continues. Raises UsageError where the scorer cannot be had."""

    DESCRIPTION: str
    CITATION: str

    def scorer_spec(self) -> str:
        """What `open_scorer` is asked for, by the configuration that `evaluate.load` was given."""
        raise NotImplementedError

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate.MeasurementInfo(
            description=self.DESCRIPTION,
            citation=self.CITATION,
            inputs_description="predictions: list of texts; groups: optional list of ints, the prompt of each text",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _download_and_prepare(self, dl_manager: object) -> None:  # noqa: ARG002 - as evaluate calls it
        self.scorer = open_scorer(self.scorer_spec())
        self.scorer.check()

    def _compute(
        self, predictions: list[str], groups: list[int] | None = None, threshold: float = THRESHOLD
    ) -> dict[str, list[float | None] | float | int | str]:
        return measured(self.scorer.name, self.scorer.scorer, self.scorer.scores(predictions), groups, threshold)
