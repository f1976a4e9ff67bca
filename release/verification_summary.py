"""What a person reads of a verification in which all is well.

print(summary(verification, "the receipt runs/a/receipt.json"))
"""

from __future__ import annotations

from model_cards.signer import told, verify_options
from release.records import Verification
from release.rescoring import COMPUTED, NOT_COMPUTED, SHARE


def summary(verification: Verification, against: str) -> str:
    """What a person reads when all is well."""
    files = sum(finding.check == "file" for finding in verification.findings)
    logits = next(finding.found for finding in verification.findings if finding.check == "logits")
    parent = {True: "differs from its parent", False: "is its parent", None: "no parent is known"}
    return (
        f"{verification.repo_id}@{verification.revision} is what was released (commit {verification.commit[:12]})\n"
        f"  against  {against}\n"
        f"  files    {files}, every hash as released\n"
        f"  signed   {_signed(verification)}\n"
        + _claims(verification)
        + f"  digest   {verification.checkpoint_digest}, {parent[verification.differs_from_parent]}\n"
        f"  loads    in a fresh process; largest difference of a logit {logits}, greedy tokens the same"
        + "".join(
            f"\n  Space    {finding.subject} {finding.found}"
            for finding in verification.findings
            if finding.check == "space"
        )
        + _scores(verification)
    )


def _scores(verification: Verification) -> str:
    """What was re-scored: of each task how much, then its figures; those that could not be say why."""
    told = ""
    for finding in verification.findings:
        value = f" {finding.expected.partition(',')[0]}" if finding.expected else ""
        words = {SHARE: ":", COMPUTED: value, NOT_COMPUTED: f"{value} not re-scored:"}.get(finding.check)
        told += "" if words is None else f"\n  scores   {finding.subject}{words} {finding.found}"
    return told


def _claims(verification: Verification) -> str:
    """What was found of the words: the repository's other name, the card, the figures, the gates."""
    told = {"repository": "renamed", "card": "card", "figures": "figures", "gates": "gates"}
    lines = ""
    for finding in verification.findings:
        words = finding.found if finding.check != "card" else f"says {finding.found}"
        where = f"{finding.subject}: " if finding.check in ("figures", "gates") else ""
        if finding.check in told and (finding.check != "repository" or "renamed" in (words or "")):
            lines += f"  {told[finding.check]:<9}{where}{words}\n"
    return lines


def _signed(verification: Verification) -> str:
    checked = {finding.check: finding.found for finding in verification.findings}
    earlier = checked.get("signed before")
    return _signed_here(verification, checked) + (f"\n           warning: {earlier}" if earlier else "")


def _signed_here(verification: Verification, checked: dict[str, str | None]) -> str:
    if "signature" in checked:
        valid = f"\n           the certificate was {checked['valid']}" if "valid" in checked else ""
        return f"{checked['signature']}, over every file{valid}"
    if verification.signer is None:
        return "no"
    return f"by {told(verification.signer)}, as the release says itself;{verify_options(verification.signer)} checks it"
