"""Toxicity of texts by the Perspective API while it lives (to the end of 2026), as an `evaluate` module:

    metric = evaluate.load("evals/metrics/perspective")
    metric.compute(predictions=["have a nice day"])        # {"toxicity/perspective@v1alpha1": [0.02], "scorer": "..."}

The key is read from PERSPECTIVE_API_KEY. Another address of the same protocol is the configuration, and its
host stands in the name.
"""

from __future__ import annotations

from evals import scorer_module


class Perspective(scorer_module.ScorerMeasurement):
    DESCRIPTION = "The attribute TOXICITY of the Perspective API."
    CITATION = "Lees et al. (2022), A New Generation of Perspective API, https://arxiv.org/abs/2202.11176"

    def scorer_spec(self) -> str:
        return "perspective" if self.config_name == "default" else f"perspective:{self.config_name}"
