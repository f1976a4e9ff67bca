"""How a checkpoint was made, as its card tells it: settings, parents, data, votes and metrics, all from run.json."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from model_cards.facts import Facts, dataset_hub_id, without_place
from model_cards.feedback import feedback_sentences
from model_cards.stages import stage_rows
from training.run_record import DataSource, SampledAnswers

# Settings that a reader looks for first, by the last part of their name; the whole recipe is folded below them.
MAIN_SETTINGS = (
    *("method", "source", "total_episodes", "num_train_epochs", "max_steps", "batch_size"),
    *("per_device_train_batch_size", "num_ppo_epochs", "learning_rate", "value_learning_rate", "kl_coef", "beta"),
    *("cliprange", "max_new_tokens", "temperature", "max_length", "r", "lora_alpha", "dtype"),
)


def training_section(facts: Facts) -> dict[str, Any] | None:
    """What the template shows of the run; None for a bare checkpoint."""
    run = facts.run
    if run is None:
        return None
    base = facts.base
    settings = [(key, without_place(str(value))) for key, value in _flat(run.recipe) if value is not None]
    return {
        "main": [(key, value) for key, value in settings if key.rpartition(".")[2] in MAIN_SETTINGS],
        "all": settings,
        "parents": [
            {
                "role": parent.role.replace("_", " "),
                "name": parent.hub_id or f"{PurePosixPath(without_place(parent.name)).name}, on no Hub",
                "link": facts.base_hub_id if parent.role == "base" else None,
                "revision": parent.revision,
                "digest": parent.digest,
                "note": without_place(parent.note) if parent.note else None,
            }
            for parent in run.parents
        ],
        "stages": stage_rows(run, _data_name),
        "data": [
            {
                "name": _data_name(source),
                "on_hub": dataset_hub_id(source) is not None,
                "source": source,
                "formats": ", ".join(source.formats),
                "why_dropped": ", ".join(
                    f"{why} {count}" for why, count in sorted(source.why_dropped.items()) if count
                ),
                "sampled": _sampled(source.sampled) if source.sampled else None,
            }
            for source in run.data
        ],
        "note": without_place(base.note) if base and base.note else None,
        "feedback": feedback_sentences(run),
        "metrics": sorted(run.metrics.items()),
    }


def _data_name(source: DataSource) -> str:
    return dataset_hub_id(source) or without_place(source.id)


def _sampled(answers: SampledAnswers) -> dict[str, Any]:
    """Who gave and who scored the answers that a run was trained on."""
    models = [(parent.hub_id or without_place(parent.name), parent.digest) for parent in answers.reward_models]
    others = [
        (without_place(source.name), f"sha256:{source.sha256}" if source.sha256 else None) for source in answers.rewards
    ]
    return {
        "n": answers.n,
        "record": answers.record,
        "policy": {
            "name": answers.policy.hub_id or without_place(answers.policy.name),
            "digest": answers.policy.digest,
        },
        "prompts": dataset_hub_id(answers.prompts) or without_place(answers.prompts.id),
        "judges": models + others,
    }


def _flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, child in value.items():
        pairs += _flat(child, f"{prefix}{key}.") if isinstance(child, Mapping) else [(f"{prefix}{key}", child)]
    return pairs
