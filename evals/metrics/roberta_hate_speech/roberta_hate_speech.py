"""Hate speech in texts by facebook/roberta-hate-speech-dynabench-r4-target, pinned by commit, as an `evaluate` module:

    metric = evaluate.load("evals/metrics/roberta_hate_speech")
    metric.compute(predictions=["have a nice day"])     # {"toxicity/roberta-hate-speech@8266450382e3": [0.0001], "scorer": "..."}

It is the classifier behind `evaluate`'s own `toxicity`, there without a commit and under a bare name. How well it tells hateful
texts: `python -m evals calibrate roberta-hate-speech --test FILE --out DIR`.
"""

from __future__ import annotations

import datasets
import evaluate

from evals.measured import measured
from evals.text_scorer import THRESHOLD, open_scorer

_DESCRIPTION = "The probability of the label hate, by facebook/roberta-hate-speech-dynabench-r4-target."
_CITATION = "Vidgen et al. (2021), Learning from the Worst, https://arxiv.org/abs/2012.15761"


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION)
class RobertaHateSpeech(evaluate.Measurement):  # type: ignore[misc]  # evaluate has no types
    """predictions: texts; groups: the prompt that each text continues."""

    def _info(self) -> evaluate.MeasurementInfo:
        return evaluate.MeasurementInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description="predictions: list of texts; groups: optional list of ints, the prompt of each text",
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _download_and_prepare(self, dl_manager: object) -> None:  # noqa: ARG002 - as evaluate calls it
        self.scorer = open_scorer("roberta-hate-speech")
        self.scorer.check()

    def _compute(
        self, predictions: list[str], groups: list[int] | None = None, threshold: float = THRESHOLD
    ) -> dict[str, list[float | None] | float | int | str]:
        return measured(self.scorer.name, self.scorer.scorer, self.scorer.scores(predictions), groups, threshold)
