"""The YAML block at the top of a card, as the Hub reads it.

The Hub refuses a card whose base_model or datasets are no ids of its own and whose license it does not know; so a local
path is never written, and a license that is not on its list becomes `other` with a name.
"""

from __future__ import annotations

import re
from typing import Any

from evals.presentation import headlines, short_digest, short_digests
from evals.scorecard import Score, Scorecard
from model_cards.author import merged
from model_cards.expenses import emissions_metadata
from model_cards.facts import Facts, dataset_hub_id, hub_id, task_of
from model_cards.hub_vocabulary import LICENSES


def metadata(facts: Facts, *, name: str, language: str | None, where: str) -> dict[str, Any]:
    """The metadata in the order in which it is written; what is not known is left out.

    What authors wrote above their own card stays; `where` is that card's URL.
    """
    ours = _ours(facts, name=name, language=language)
    return ours if facts.author is None else merged(facts.author.metadata, ours, where=where)


def _ours(facts: Facts, *, name: str, language: str | None) -> dict[str, Any]:
    method = facts.run.method if facts.run else None
    base = facts.origin_hub_id
    datasets = sorted({found for source in (facts.run.data if facts.run else []) if (found := dataset_hub_id(source))})
    tags = ["slipway", *([method] if method and method != "base" else [])]
    tags += ["rlhf"] if method in ("ppo", "rloo", "grpo", "dpo", "kto", "reward") else []
    tags += ["conversational"] if facts.chat_template and facts.is_generative else []
    values: dict[str, Any] = {
        **license_metadata(facts.base.license if facts.base else None),
        "language": [language] if language and facts.run and not facts.copied else None,
        "library_name": "transformers",
        "pipeline_tag": task_of(facts.architecture),
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


def _name(score: Score) -> str:
    """The metric; of one against others' answers also these and who judged."""
    if score.against is None or score.scorer is None:
        return score.metric
    return f"{score.metric} against {short_digest(score.against)}, judged by {short_digests(score.scorer)}"


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
                    {"type": score.metric, "value": round(score.value, 4), "name": _name(score)} for score in scores
                ],
            }
        )
    return [{"name": name, "results": results}] if results else []
