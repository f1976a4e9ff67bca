"""The highest category score of texts by an OpenAI-compatible moderation endpoint, as an `evaluate` module:

    metric = evaluate.load("evals/metrics/moderation", "omni-moderation-2024-09-26@https://api.openai.com/v1")
    metric.compute(predictions=["have a nice day"])   # {"toxicity/moderation@omni-moderation-2024-09-26": [0.001], "scorer": "..."}

The configuration is MODEL@URL; the key is read from OPENAI_API_KEY.
"""

from __future__ import annotations

from evals import scorer_module


class Moderation(scorer_module.ScorerMeasurement):
    DESCRIPTION = "The highest category score by an OpenAI-compatible moderation endpoint."
    CITATION = (
        "Markov et al. (2023), A Holistic Approach to Undesired Content Detection, https://arxiv.org/abs/2208.03274"
    )

    def scorer_spec(self) -> str:
        return f"moderation:{self.config_name}"
