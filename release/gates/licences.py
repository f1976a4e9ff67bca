"""The gate on the parents' licences: what the weights were made from must allow the licence that they go out under.

Of a run of ours, run.json names the parents with their licences. Of a checkpoint from elsewhere the only word is the
`base_model` of its card: that licence is known where the base's name tells its family, or where a Hub gave the base's
card (release/base_licences.py). Where neither does, the gate says so and passes nothing.

A base may itself have been made from something: what a Hub's cards name as the base's base is asked by the same rules, for all
generations that the Hub could tell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from release.gates.candidate import Candidate, passed, refused, skipped
from release.gates.paperwork import front_matter
from release.records import Verdict

# Licences that let what is made from a work go out under any other; and those of the rest that name what they allow.
_PERMISSIVE_LIST = """
    apache-2.0 mit isc zlib bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 unlicense wtfpl cc0-1.0 pddl
    cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 odc-by etalab-2.0 cdla-permissive-1.0 cdla-permissive-2.0 afl-3.0 ecl-2.0
    postgresql ncsa openmdw-1.0"""
PERMISSIVE = frozenset(_PERMISSIVE_LIST.split())
ALSO = {
    "lgpl-3.0": ("gpl-3.0", "agpl-3.0"),
    "gpl-3.0": ("agpl-3.0",),
    "cc-by-nc-4.0": ("cc-by-nc-sa-4.0",),
    "cc-by-sa-4.0": ("gpl-3.0",),
}
MADE_FROM = ("base", "adapter")  # whose weights are in the result; a reward model's are not
# Families whose licence goes with the name, whoever copied the weights. Gemma from its fourth generation on is Apache 2.0.
LLAMA = re.compile(r"(?:meta-)?llama-?(2|3|3\.[123]|4)(?=-|$)", re.IGNORECASE)
GEMMA = re.compile(r"gemma-(?:1\.1|2|3|3n|\d+b)(?=-|$)", re.IGNORECASE)


def license_compatible(candidate: Candidate) -> Verdict:
    """The parents' licences allow the card's, and those of models whose sampled answers were learned from.

    Of a run of ours a model whose licence is not known allows nothing. That of a sampling model may bind what is made of its
    answers (Llama's and Gemma's terms do, and those that exclude commercial use), so it is asked as a parent's is, though its
    weights are not here.
    """
    gate, record = "license_compatible", candidate.run_record
    metadata = front_matter(candidate.bundle / "README.md") if candidate.has("README.md") else {}
    ours = str(metadata.get("license_name") or metadata.get("license") or "").lower()
    elsewhere = record is None or record.method == "base"
    roots: list[str | None]
    if record is None or record.method == "base":
        parents = _named(metadata, candidate)
        data, sampled, roots = {}, {}, [*parents]
    else:
        made_from = [parent for parent in record.parents if parent.role in MADE_FROM]
        policies = [data.sampled.policy for data in record.data if data.sampled]
        parents = {parent.name: parent.license for parent in made_from}
        data = {data.id: data.license for data in record.data}
        sampled = {policy.name: policy.license for policy in policies}
        roots = [model.hub_id for model in (*made_from, *policies)]
    behind = _behind(roots, candidate)
    evidence: dict[str, Any] = {"license": ours or None, "parents": parents, "data": data, "sampled_from": sampled}
    evidence |= {"behind": behind} if behind else {}
    if elsewhere and not parents:
        return skipped(gate, "the card names no base_model, so it is not known here what it was made from", **evidence)
    known = {name: theirs for name, theirs in parents.items() if not elsewhere or theirs is not None}
    further = {
        f"{name}, from which {one['made']} was made,": one["license"] for name, one in behind.items() if one["license"]
    }
    answers = {f"{name}, whose answers were learned from,": its for name, its in sampled.items()}
    asked = [*known.items(), *further.items(), *answers.items()]
    problems = [problem for name, theirs in asked if (problem := _incompatible(name, theirs, ours))]
    if problems:
        return refused(gate, "; ".join(problems), remedy=_remedy(elsewhere, asked), **evidence)
    unknown = [f"{name}, which the card names as its base," for name in sorted(set(parents) - set(known))]
    unknown += [f"{name}, from which {one['made']} was made," for name, one in behind.items() if not one["license"]]
    if unknown:
        return skipped(
            gate,
            f"the licence of {' and of '.join(unknown)} is not known here: nothing says whether it allows {ours or 'no licence'}",
            **evidence,
        )
    allowing = {**sampled, **parents, **{name: one["license"] for name, one in behind.items()}}
    told = ", ".join(f"{name} ({license})" for name, license in allowing.items()) or "no parent"
    return passed(gate, f"{ours} is allowed by {told}", **evidence)


def _behind(roots: Sequence[str | None], candidate: Candidate) -> dict[str, dict[str, str | None]]:
    """The models that the named ones were made from, the nearest first: {name: {license, made: what names it as its base}}."""
    found: dict[str, dict[str, str | None]] = {}
    names = [root for root in roots if root is not None]
    seen = {*names, *_own(candidate)}
    for made in names:  # which grows
        for name in candidate.base_models.get(made, ()):
            if name not in seen:
                seen.add(name)
                names.append(name)
                licence = licence_of_family(name) or candidate.base_licences.get(name)
                found[name] = {"license": licence, "made": made}
    return found


def bases_named(metadata: Mapping[str, Any]) -> list[str]:
    """What a card's `base_model` names, each once."""
    named = metadata.get("base_model")
    return list(dict.fromkeys(str(one) for one in (named if isinstance(named, list) else [named]) if one))


def licence_of_family(base: str) -> str | None:
    """The licence that goes with a model's name, as the Hub writes it; None where the name tells none."""
    name = base.rpartition("/")[2]
    if (llama := LLAMA.match(name)) is not None:
        return f"llama{llama.group(1)}"
    if name.lower().startswith("codellama-"):
        return "llama2"
    return "gemma" if GEMMA.match(name) else None


def _named(metadata: Mapping[str, Any], candidate: Candidate) -> dict[str, str | None]:
    """The bases that a card names with what is known of their licences; not the repository that the files were copied from,
    whose own licence this is."""
    names = [name for name in bases_named(metadata) if name not in _own(candidate)]
    return {name: licence_of_family(name) or candidate.base_licences.get(name) for name in names}


def _own(candidate: Candidate) -> set[str]:
    """The names of what is released: its repository's, and of a copy that of its source."""
    record = candidate.run_record
    copied = record.parent("base") if record is not None and record.method == "base" else None
    return {candidate.repo_id, *([copied.hub_id] if copied is not None and copied.hub_id else [])}


def _remedy(elsewhere: bool, asked: Sequence[tuple[str, str | None]]) -> str:
    if elsewhere:
        return (
            "release under the base's licence: write it as `license` into the README.md of the checkpoint; or, where its "
            "authors allow another, say where: --waive license_compatible=REASON"
        )
    unknown = [name for name, licence in asked if licence is None]
    if unknown:
        return f"the same command with --license ID, the licence of {' and '.join(unknown)}, which its own card names"
    return "release under the parent's licence, or begin from another parent"


def _incompatible(name: str, theirs: str | None, ours: str) -> str | None:
    parent = re.sub(r"[^a-z0-9.+]+", "-", (theirs or "unknown").lower()).strip("-")
    if parent in ("unknown", "other"):
        return f"the licence of {name} is not known"
    if parent == ours or parent in PERMISSIVE or ours in ALSO.get(parent, ()):
        return f"{name} is under {parent}, which allows no derivatives" if "-nd-" in parent else None
    return f"{name} is under {parent}, which does not allow {ours or 'a release without a licence'}"
