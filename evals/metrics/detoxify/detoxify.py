"""Toxicity of texts by Detoxify's "original" classifier from the Hub, pinned by commit, as an `evaluate` module:

    metric = evaluate.load("evals/metrics/detoxify")
    metric.compute(predictions=["have a nice day"])        # {"toxicity/detoxify@4d6c22e74ba2": [0.001], "scorer": "..."}

HF_ENDPOINT chooses the Hub. How well it tells toxic texts: `python -m evals calibrate detoxify --test FILE --out DIR`.
"""

from __future__ import annotations

from evals import scorer_module


class Detoxify(scorer_module.ScorerMeasurement):
    DESCRIPTION = "The probability of the label toxic, by Detoxify original (unitary/toxic-bert)."
    CITATION = "Hanu and Unitary (2020), Detoxify, https://github.com/unitaryai/detoxify"

    def scorer_spec(self) -> str:
        return "detoxify"
