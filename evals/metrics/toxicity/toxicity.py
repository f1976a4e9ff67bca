"""Toxicity of texts by an offline scorer with a version and a calibration card, as an `evaluate` module:

    metric = evaluate.load("evals/metrics/toxicity")                    # the scorer that ships
    metric = evaluate.load("evals/metrics/toxicity", "runs/scorer")     # one that `train-scorer toxicity` or `hate` wrote
    metric.compute(predictions=["have a nice day"])        # {"toxicity/ngram@1": [0.03], "scorer": "toxicity/ngram@1 weights ..."}
    metric.compute(predictions=[...], groups=[0, 0, 1, 1])    # and maxima over the samples of each prompt

The scorer's name and version stand in every key, for two scorers' figures are not comparable. How well it tells toxic
texts from others on each labelled set stands in card.json beside its weights.
"""

from __future__ import annotations

from evals import scorer_module


class Toxicity(scorer_module.ScorerMeasurement):
    DESCRIPTION = "The probability that a reader finds a text toxic, by hashed n-grams and alt-profanity-check."
    CITATION = "Gehman et al. (2020), RealToxicityPrompts: expected maximum toxicity and toxicity probability"

    def scorer_spec(self) -> str:
        return "ngram" if self.config_name == "default" else self.config_name
