"""Gates on the words around the weights: the card, and that it names a licence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from release.gates.candidate import Candidate, passed, refused
from release.records import Verdict
from training.counted import counted

TEXT = ("sections", "links", "digest")  # checks of a card that a policy may only note: others write what they like


def card_complete(candidate: Candidate) -> Verdict:
    """The card could be rendered, and its metadata, sections, links and every figure are as the records have them."""
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
    text = (candidate.bundle / "README.md").read_text(encoding="utf-8")
    problems += waiver_problems(text, candidate.waivers)
    if problems:
        first = problems[0]
        return refused(
            gate,
            f"{counted(len(problems), 'thing')} wrong with the card; first: {first['what']} ({first['where']})",
            remedy=f"python -m model_cards check {candidate.run.as_posix()} lists them",
            problems=problems,
            noted=noted,
        )
    if noted:
        lacks = "; ".join(problem["what"] for problem in noted)
        return passed(gate, f"metadata, paths and figures as they must be; noted: {lacks}", noted=noted)
    return passed(gate, "every figure as in the records; metadata, sections and links complete")


def waiver_problems(text: str, waivers: Mapping[str, str]) -> list[dict[str, str]]:
    """Gates that were waived, of which the card does not say why."""
    from evals.presentation import markdown_text

    words = " ".join(text.split())
    return [
        {
            "check": "waivers",
            "what": f"the waiver of {waived} does not stand on the card with its reason",
            "where": waived,
        }
        for waived, reason in waivers.items()
        if f"`{waived}`: {markdown_text(reason)}" not in words
    ]


def _of_authors(candidate: Candidate) -> list[dict[str, str]]:
    """A note on figures that the checkpoint's authors state: they have no record here, so nothing can make them again."""
    from model_cards.author import BEGIN, figures_of_authors

    text = (candidate.bundle / "README.md").read_text(encoding="utf-8")
    ours = candidate.run_record is not None or candidate.scorecard is not None
    if ours and BEGIN not in text:
        return []
    lines = figures_of_authors(text, ours=ours)
    what = f"{counted(lines, 'line')} with figures of its authors, not measured here"
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
            remedy="name the licence of the checkpoint that it began from: the same command with --license ID, e.g. --license "
            "apache-2.0"
            if record is not None or candidate.only_looked_at
            else "write license: ID between --- lines at the top of the README.md beside the checkpoint's weights",
            license=license,
            parents=parents,
        )
    if license == "other" and not (metadata.get("license_name") and metadata.get("license_link")):
        return refused(
            gate,
            "license: other needs license_name and license_link",
            remedy="write both, and license: other, between the --- lines of the README.md beside the checkpoint's weights",
            license=license,
            parents=parents,
        )
    return passed(gate, f"license: {license}", license=license, parents=parents)


def front_matter(path: Path) -> dict[str, Any]:
    """The YAML block at the top of a card; empty where there is none. Raises ValueError where it is not YAML."""
    text = path.read_text(encoding="utf-8")
    block = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", text, re.DOTALL)
    try:
        value = yaml.safe_load(block.group(1)) if block else {}
    except yaml.YAMLError as error:
        raise ValueError(f"the card's metadata is not YAML: {error}") from error
    return value if isinstance(value, dict) else {}
