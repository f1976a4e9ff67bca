"""Hate speech in texts by facebook/roberta-hate-speech-dynabench-r4-target, pinned by commit, as an `evaluate` module:

    metric = evaluate.load("evals/metrics/roberta_hate_speech")
    metric.compute(predictions=["have a nice day"])     # {"toxicity/roberta-hate-speech@8266450382e3": [0.0001], "scorer": "..."}

It is the classifier behind `evaluate`'s own `toxicity`, there without a commit and under a bare name. How well it tells hateful
texts: `python -m evals calibrate roberta-hate-speech --test FILE --out DIR`.
"""

from __future__ import annotations

from evals import scorer_module


class RobertaHateSpeech(scorer_module.ScorerMeasurement):
    DESCRIPTION = "The probability of the label hate, by facebook/roberta-hate-speech-dynabench-r4-target."
    CITATION = "Vidgen et al. (2021), Learning from the Worst, https://arxiv.org/abs/2012.15761"

    def scorer_spec(self) -> str:
        return "roberta-hate-speech"
