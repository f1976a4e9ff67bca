"""A release's bill of materials in CycloneDX 1.6: the model, what it was made from, by revision and hash, and by which code.

    bill_of_materials(facts, repo_id="org/name", tag="v1.0.0")     # the bytes of bom.cdx.json

Only what the records say: a parent, data set or revision that is not known is left out, never guessed.
https://cyclonedx.org/capabilities/mlbom/
"""

from __future__ import annotations

import math
import uuid
from typing import Any
from urllib.parse import quote

from evals.scorecard import Score
from model_cards.facts import Facts, dataset_hub_id, hub_id, task_of, without_place
from model_cards.metadata import license_metadata
from training.records import canonical_json
from training.run_record import DataSource, ParentCheckpoint, SampledAnswers

BILL = "bom.cdx.json"
HUB = "https://huggingface.co"  # where a package URL of this type is looked for, unless it says otherwise
APPROACHES = dict.fromkeys(("ppo", "rloo", "grpo"), "reinforcement-learning")
SUPERVISED = ("sft", "dpo", "kto", "reward")
# The Hub writes licences in small letters, SPDX does not; what is not among these is given by its name.
SPDX = {
    identifier.lower(): identifier
    for identifier in (
        *(
            "Apache-2.0",
            "MIT",
            "ISC",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "CC0-1.0",
            "CC-BY-4.0",
            "CC-BY-SA-4.0",
            "MPL-2.0",
        ),
        *("CC-BY-NC-4.0", "CC-BY-NC-SA-4.0", "CC-BY-ND-4.0", "CC-BY-NC-ND-4.0", "Unlicense", "Zlib", "BSL-1.0"),
    )
}


def bill_of_materials(facts: Facts, *, repo_id: str, tag: str, endpoint: str | None = None) -> bytes:
    """The bill of the release `tag` of `repo_id`. Equal facts give equal bytes: its date is that of the records.

    `endpoint` is the Hub that it goes to, if not huggingface.co.
    """
    run, card = facts.run, facts.card
    parents = [_parent(parent) for parent in run.parents if parent.digest != facts.digest] if run else []
    parents += [_stated("machine-learning-model", name) for name in stated(facts, "base_model")]
    data = [_data(source, place) for place, source in enumerate(run.data)] if run else []
    data += [_stated("data", name) for name in stated(facts, "datasets")]
    made_by = run.packages if run and not facts.copied else {}  # what copied a checkpoint did not make it
    packages = [_package(name, version) for name, version in sorted(made_by.items())]
    when = run.started if run else card.created if card else None
    made_from = [component["bom-ref"] for component in [*parents, *data, *packages]]
    return canonical_json(
        {
            "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{repo_id}@{tag} {facts.digest}')}",
            "version": 1,
            "metadata": {
                **({"timestamp": when} if when else {}),
                "tools": {"components": [_code(run.git_revision if run else None)]},
                "component": _model(
                    facts, _purl(repo_id, tag, endpoint), repo_id, tag, [component["bom-ref"] for component in data]
                ),
            },
            "components": [*parents, *data, *packages],
            "dependencies": [{"ref": "model", "dependsOn": made_from}],
        }
    )


def stated(facts: Facts, key: str) -> list[str]:
    """Ids of the Hub that the authors' own card names under `key`; no revision or hash of them is known."""
    named = facts.author.metadata.get(key) if facts.author else None
    ids = named if isinstance(named, list) else [named]
    return list(dict.fromkeys(found for one in ids if isinstance(one, str) and (found := hub_id(one)) is not None))


def _stated(kind: str, name: str) -> dict[str, Any]:
    dataset = {"data": [{"type": "dataset", "name": name}]} if kind == "data" else {}
    purl = {} if kind == "data" else {"purl": f"pkg:huggingface/{name}"}
    said = _properties({"slipway:stated_by": "the authors' card; not known here"})
    return {"type": kind, "bom-ref": f"stated:{kind}:{name}", "name": name, **purl, **dataset, "properties": said}


def _purl(repo_id: str, tag: str, endpoint: str | None) -> str:
    """The release as a package URL. The type wants the commit; the bill is part of it, so that the tag is what is known.

    https://github.com/package-url/purl-spec/blob/main/types/huggingface-definition.json
    """
    hub = (endpoint or HUB).rstrip("/")
    return f"pkg:huggingface/{repo_id}@{tag}" + (f"?repository_url={quote(hub, safe=':/')}" if hub != HUB else "")


def _model(facts: Facts, purl: str, repo_id: str, tag: str, data: list[str]) -> dict[str, Any]:
    owner, _, name = repo_id.partition("/")
    method = facts.run.method if facts.run else None
    approach = APPROACHES.get(method or "", "supervised" if method in SUPERVISED else None)
    parameters: dict[str, Any] = {
        **({"approach": {"type": approach}} if approach else {}),
        "task": task_of(facts.architecture),
        "architectureFamily": str(facts.config.get("model_type", "unknown")),
        "modelArchitecture": str((facts.config.get("architectures") or ["unknown"])[0]),
        "datasets": [{"ref": reference} for reference in data],
        "inputs": [{"format": "text"}],
        "outputs": [{"format": "text" if facts.is_generative else "number"}],
    }
    properties = {
        "slipway:checkpoint_digest": facts.digest,
        "slipway:method": method,
        "slipway:seed": str(facts.run.seed) if facts.run and not facts.copied else None,
        "slipway:parameters": str(facts.parameters) if facts.parameters else None,
    }
    scores = facts.card.scores if facts.card else []
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "group": owner,
        "name": name,
        "version": tag,
        "purl": purl,
        **_licenses(facts.base.license if facts.base else None),
        "modelCard": {
            "modelParameters": parameters,
            **(
                {"quantitativeAnalysis": {"performanceMetrics": [_metric(score) for score in scores]}} if scores else {}
            ),
        },
        "properties": _properties(properties),
    }


def _metric(score: Score) -> dict[str, Any]:
    low, high = score.interval.low, score.interval.high
    known = math.isfinite(low) and math.isfinite(high)
    return {
        "type": score.metric,
        "slice": score.task,
        "value": f"{score.value:.6g}",
        **({"confidenceInterval": {"lowerBound": f"{low:.6g}", "upperBound": f"{high:.6g}"}} if known else {}),
    }


def _parent(parent: ParentCheckpoint) -> dict[str, Any]:
    known = hub_id(parent.hub_id)
    return {
        "type": "machine-learning-model",
        "bom-ref": f"parent:{parent.role}:{parent.digest}",
        "name": known or without_place(parent.name),
        **({"version": parent.revision} if parent.revision else {}),
        **({"purl": f"pkg:huggingface/{known}" + (f"@{parent.revision}" if parent.revision else "")} if known else {}),
        **_licenses(parent.license),
        "properties": _properties(
            {
                "slipway:role": parent.role,
                "slipway:checkpoint_digest": parent.digest,
                "slipway:note": without_place(parent.note) if parent.note else None,
            }
        ),
    }


def _data(source: DataSource, place: int) -> dict[str, Any]:
    name = dataset_hub_id(source) or without_place(source.id)
    return {
        "type": "data",
        "bom-ref": f"data:{place}:{source.sha256}",
        "name": name,
        **({"version": source.revision} if source.revision else {}),
        "hashes": [{"alg": "SHA-256", "content": source.sha256.removeprefix("sha256:")}],
        **_licenses(source.license),
        "data": [{"type": "dataset", "name": f"{name}, split {source.split}"}],
        "properties": _properties(
            {
                "slipway:split": source.split,
                "slipway:rows": str(source.rows),
                "slipway:rows_left_out": str(source.rows_dropped),
                **(_sampled(source.sampled) if source.sampled else {}),
            }
        ),
    }


def _sampled(answers: SampledAnswers) -> dict[str, str]:
    scored = [parent.digest for parent in answers.reward_models]
    scored += [f"{source.name} {source.sha256 or ''}".strip() for source in answers.rewards]
    return {
        "slipway:best_of_n_record": answers.record,
        "slipway:sampled_from": answers.policy.digest,
        "slipway:scored_by": ", ".join(scored),
    }


def _package(name: str, version: str) -> dict[str, Any]:
    purl = f"pkg:pypi/{name.lower().replace('_', '-')}@{version}"
    return {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}


def _code(revision: str | None) -> dict[str, Any]:
    return {"type": "application", "name": "slipway", **({"version": revision} if revision else {})}


def _licenses(name: str | None) -> dict[str, Any]:
    if name is None:
        return {}
    named = license_metadata(name)
    identifier = SPDX.get(named["license"])
    chosen = {"id": identifier} if identifier else {"name": named.get("license_name", named["license"])}
    return {"licenses": [{"license": chosen}]}


def _properties(values: dict[str, str | None]) -> list[dict[str, str]]:
    return [{"name": name, "value": value} for name, value in sorted(values.items()) if value is not None]
