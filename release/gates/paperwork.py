"""Gates on the words around the weights: the card, and the licence that the parents allow."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from release.gates.candidate import Candidate, passed, refused, skipped
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
TEXT = ("sections", "links", "digest")  # checks of a card that a policy may only note: others write what they like
MADE_FROM = ("base", "adapter")  # whose weights are in the result; a reward model's are not


def card_complete(candidate: Candidate) -> Verdict:
    """The card could be rendered, and its metadata, sections, links and every figure are as the records have them."""
    from evals.presentation import markdown_text
    from model_cards.check import check_card

    gate, error = "card_complete", candidate.card_error
    if error is not None:
        return refused(
            gate,
            f"no card could be rendered: {error.what}",
            remedy=error.next_step or "mend what it names, then plan again",
            **error.as_dict(),
        )
    found = [problem.as_dict() for problem in check_card(candidate.bundle / "README.md")]
    noted = [problem for problem in found if candidate.policy.card_text == "noted" and problem["check"] in TEXT]
    problems = [problem for problem in found if problem not in noted]
    (noted if candidate.policy.card_text == "noted" else problems).extend(_of_authors(candidate))
    text = " ".join((candidate.bundle / "README.md").read_text(encoding="utf-8").split())
    problems += [
        {
            "check": "waivers",
            "what": f"the waiver of {waived} does not stand on the card with its reason",
            "where": waived,
        }
        for waived, reason in candidate.waivers.items()
        if f"`{waived}`: {markdown_text(reason)}" not in text
    ]
    if problems:
        first = problems[0]
        return refused(
            gate,
            f"{len(problems)} thing(s) wrong with the card; first: {first['what']} ({first['where']})",
            remedy=f"python -m model_cards check {candidate.run.as_posix()} lists them",
            problems=problems,
            noted=noted,
        )
    if noted:
        lacks = "; ".join(problem["what"] for problem in noted)
        return passed(gate, f"metadata, paths and figures as they must be; noted: {lacks}", noted=noted)
    return passed(gate, "every figure as in the records; metadata, sections and links complete")


def _of_authors(candidate: Candidate) -> list[dict[str, str]]:
    """A note on figures that the checkpoint's authors state: they have no record here, so nothing can make them again."""
    from model_cards.author import BEGIN, figures_of_authors

    text = (candidate.bundle / "README.md").read_text(encoding="utf-8")
    ours = candidate.run_record is not None or candidate.scorecard is not None
    if ours and BEGIN not in text:
        return []
    lines = figures_of_authors(text, ours=ours)
    what = f"{lines} line(s) with figures of its authors, not measured here"
    return [{"check": "author", "what": what, "where": "README.md"}] if lines else []


def license_present(candidate: Candidate) -> Verdict:
    """The card's metadata names a licence in the key that the Hub reads."""
    gate = "license_present"
    metadata = front_matter(candidate.bundle / "README.md") if candidate.has("README.md") else {}
    record = candidate.run_record
    parents = {parent.name: parent.license for parent in record.parents} if record else {}
    license = metadata.get("license")
    if not isinstance(license, str) or license.lower() in ("", "unknown", "license"):
        misspelt = f" (it has {metadata['licence']!r} as `licence`)" if "licence" in metadata else ""
        return refused(
            gate,
            f"the card's metadata names no license{misspelt}",
            remedy="name the licence of the checkpoint that it began from: --license ID of `training base`, or of `release publish "
            "--checkpoint`",
            license=license,
            parents=parents,
        )
    if license == "other" and not (metadata.get("license_name") and metadata.get("license_link")):
        return refused(
            gate,
            "license: other needs license_name and license_link",
            remedy="add both to the card's metadata",
            license=license,
            parents=parents,
        )
    return passed(gate, f"license: {license}", license=license, parents=parents)


def license_compatible(candidate: Candidate) -> Verdict:
    """The parents' licences allow the card's, and those of models whose sampled answers were learned from.

    A model whose licence is not known allows nothing. That of a sampling model may bind what is made of its answers (Llama's and
    Gemma's terms do, and those that exclude commercial use), so it is asked as a parent's is, though its weights are not here.
    """
    gate, record = "license_compatible", candidate.run_record
    if record is None:
        return skipped(gate, "there is no run.json, so no parent is known")
    metadata = front_matter(candidate.bundle / "README.md") if candidate.has("README.md") else {}
    ours = str(metadata.get("license_name") or metadata.get("license") or "").lower()
    parents = {parent.name: parent.license for parent in record.parents if parent.role in MADE_FROM}
    sampled = {data.sampled.policy.name: data.sampled.policy.license for data in record.data if data.sampled}
    evidence = {
        "license": ours or None,
        "parents": parents,
        "data": {data.id: data.license for data in record.data},
        "sampled_from": sampled,
    }
    asked = [*parents.items(), *((f"{name}, whose answers were learned from,", its) for name, its in sampled.items())]
    problems = [
        problem
        for name, theirs in asked
        if (problem := _incompatible(name, theirs, ours, unchanged=record.method == "base"))
    ]
    if problems:
        return refused(
            gate,
            "; ".join(problems),
            remedy="release under the parent's licence, or begin from another parent; "
            "--license ID of `training base`, or of `release publish --checkpoint`, names one that is known",
            **evidence,
        )
    told = ", ".join(f"{name} ({license})" for name, license in {**sampled, **parents}.items()) or "no parent"
    return passed(gate, f"{ours} is allowed by {told}", **evidence)


def _incompatible(name: str, theirs: str | None, ours: str, *, unchanged: bool) -> str | None:
    parent = re.sub(r"[^a-z0-9.+]+", "-", (theirs or "unknown").lower()).strip("-")
    if parent in ("unknown", "other"):
        return f"the licence of {name} is not known"
    if parent == ours or parent in PERMISSIVE or ours in ALSO.get(parent, ()):
        if "-nd-" in parent and not unchanged:
            return f"{name} is under {parent}, which allows no derivatives"
        return None
    return f"{name} is under {parent}, which does not allow {ours or 'no licence'}"


def front_matter(path: Path) -> dict[str, Any]:
    """The YAML block at the top of a card; empty where there is none. Raises ValueError where it is not YAML."""
    text = path.read_text(encoding="utf-8")
    block = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", text, re.DOTALL)
    try:
        value = yaml.safe_load(block.group(1)) if block else {}
    except yaml.YAMLError as error:
        raise ValueError(f"the card's metadata is not YAML: {error}") from error
    return value if isinstance(value, dict) else {}
