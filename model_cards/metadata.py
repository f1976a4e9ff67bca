"""The YAML block at the top of a card, as the Hub reads it.

The Hub refuses a card whose base_model or datasets are no ids of its own and whose license it does not know; so a local
path is never written, and a license that is not on its list becomes `other` with a name.
"""

from __future__ import annotations

import re
from typing import Any

from evals.presentation import headlines
from evals.scorecard import Score, Scorecard
from model_cards.expenses import emissions_metadata
from model_cards.facts import Facts, dataset_hub_id, hub_id

# The identifiers of the Hub's license list.
_LICENSE_LIST = """
    apache-2.0 mit openrail bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
    afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda cc cc0-1.0 cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nd-4.0 cc-by-nc-nd-3.0
    cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cdla-sharing-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl
    lgpl-2.1 lgpl-3.0 isc h-research intel-research lppl-1.3c ms-pl apple-ascl apple-amlr mpl-2.0 odc-by odbl
    openmdw-1.0 openrail++ osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl lgpl-lr deepfloyd-if-license
    fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 grok2-community gemma unknown
    other"""
LICENSES = frozenset(_LICENSE_LIST.split())


def metadata(facts: Facts, *, name: str, language: str | None) -> dict[str, Any]:
    """The metadata in the order in which it is written; what is not known is left out."""
    method = facts.run.method if facts.run else None
    base = facts.base_hub_id
    datasets = sorted({found for source in (facts.run.data if facts.run else []) if (found := dataset_hub_id(source))})
    tags = ["slipway", *([method] if method and method != "base" else [])]
    tags += ["rlhf"] if method in ("ppo", "rloo", "grpo", "dpo", "kto", "reward") else []
    tags += ["conversational"] if facts.chat_template and facts.is_generative else []
    values: dict[str, Any] = {
        **license_metadata(facts.base.license if facts.base else None),
        "language": [language] if language else None,
        "library_name": "transformers",
        "pipeline_tag": "text-generation" if facts.is_generative else "text-classification",
        "base_model": base,
        "base_model_relation": "finetune" if base and method != "base" else None,
        "datasets": datasets or None,
        "tags": tags,
        "co2_eq_emissions": emissions_metadata(facts),
        "model-index": model_index(facts.card, name) if facts.card else None,
    }
    return {key: value for key, value in values.items() if value is not None}


def license_metadata(name: str | None) -> dict[str, str]:
    """The license as the Hub names it. None of the parent's license known: nothing is claimed."""
    if name is None:
        return {}
    identifier = name.lower()
    if identifier in LICENSES:
        return {"license": identifier}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", identifier).strip("-")}


def model_index(card: Scorecard, name: str) -> list[dict[str, Any]]:
    """The headline scores in the Hub's `model-index`, by task; values as measured, to four digits."""
    by_task: dict[str, list[Score]] = {}
    for score in headlines(card.scores):
        if score.n:
            by_task.setdefault(score.task, []).append(score)
    results = []
    for task, scores in by_task.items():
        settings = card.task_settings(task)
        dataset: dict[str, Any] = {"name": task, "type": hub_id(settings.data_id) or task}
        if settings.data_revision and hub_id(settings.data_id):
            dataset["revision"] = settings.data_revision
        dataset["args"] = {"num_few_shot": settings.num_fewshot}
        results.append(
            {
                "task": {"type": "text-generation", "name": f"{scores[0].group} ({task})"},
                "dataset": dataset,
                "metrics": [
                    {"type": score.metric, "value": round(score.value, 4), "name": score.metric} for score in scores
                ],
            }
        )
    return [{"name": name, "results": results}] if results else []
