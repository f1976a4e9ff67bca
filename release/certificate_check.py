"""What verification says of a certificate that signed: who, under which root, whether it was valid, and whether it is the
one that the release names.

    findings = certificate_findings(leaf, chain, Roots((Path("root.pem"),)), plan)

model-signing has checked by then that the statement is signed by the certificate's key and that OpenSSL finds a path to a
root. It does so as of the certificate's first day, whenever the release was signed, so the time is looked at here. Without
a network that time is the signer's own word: plan.json's `created`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from model_cards.signer import CertificateSigner, told
from release.certificates import (
    USAGE,
    Roots,
    fingerprint,
    names,
    outside,
    path_to_root,
    signer_of,
    usage_problem,
    validity,
)
from release.records import Finding, ReleasePlan

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from model_cards.signer import Signer


def certificate_findings(
    leaf: Certificate, chain: list[Certificate], roots: Roots, plan: ReleasePlan | None, about: str
) -> list[Finding]:
    """The findings; the first one, `signature`, says who signed under which root. `about` is the signature's file."""
    path = path_to_root(leaf, chain, roots.load())
    who = f"{leaf.subject.rfc4514_string()} (certificate {fingerprint(leaf)})"
    root = f"{path[-1].subject.rfc4514_string()} ({fingerprint(path[-1])})" if path else ""
    findings = [
        Finding(
            check="signature",
            ok=bool(path),
            subject=about,
            expected=expected(roots),
            found=f"a signature by {who}, under the root {root}" if path else f"no path from {who} to the root",
        ),
        _usage(leaf, about),
        _named(leaf, chain, plan.signer if plan else None, about),
        _valid(path or [leaf], plan, about),
    ]
    if roots.identity is not None:
        known = names(leaf)
        findings.append(
            Finding(
                check="identity",
                ok=roots.identity in known,
                subject=about,
                expected=f"a certificate of {roots.identity}",
                found=f"a certificate of {', '.join(known)}",
            )
        )
    return findings


def no_path(leaf: Certificate, chain: list[Certificate], problem: str) -> str:
    """Why a certificate does not lead to a trusted root, and where it leads instead. `problem` is OpenSSL's."""
    last = leaf
    for certificate in chain:
        last = certificate if path_to_root(last, [], [certificate]) else last
    where = f"its certificates lead from {leaf.subject.rfc4514_string()} to {last.issuer.rfc4514_string()}"
    return f"{where} ({problem.removeprefix('X509StoreContextError: ')})"


def expected(roots: Roots) -> str:
    """What must have signed, in words."""
    known = ", ".join(dict.fromkeys(root.subject.rfc4514_string() for root in roots.load()))
    return f"a signature by a certificate under the root {known}"


def _usage(leaf: Certificate, about: str) -> Finding:
    problem = usage_problem(leaf)
    return Finding(check="usage", ok=problem is None, subject=about, expected=USAGE, found=problem or USAGE)


def _named(leaf: Certificate, chain: list[Certificate], named: Signer | None, about: str) -> Finding:
    """plan.json, which is signed, names the certificate and its chain: so no byte of them can be another's."""
    ours = signer_of(leaf, chain)
    return Finding(
        check="certificate",
        ok=named == ours,
        subject=about,
        expected=f"{_told(named)}, as plan.json says",
        found=_told(ours),
    )


def _told(signer: Signer | None) -> str:
    if not isinstance(signer, CertificateSigner):
        return "no certificate" if signer is None else told(signer)
    return " and ".join([told(signer), *signer.chain])


def _valid(path: list[Certificate], plan: ReleasePlan | None, about: str) -> Finding:
    """Every certificate on the path was valid when the release says that it was planned and signed."""
    moment = _moment(plan)
    if moment is None:
        found = "none that can be read" if plan is None else repr(plan.created)
        return Finding(check="valid", ok=False, subject=about, expected="a plan.json that says when", found=found)
    wrong = outside(path, moment)
    now = datetime.now(UTC)
    said = f"{moment.isoformat(timespec='seconds')} by its own word"
    since = f"; it has expired since, on {path[0].not_valid_after_utc.date()}" if outside(path[:1], now) else ""
    return Finding(
        check="valid",
        ok=wrong is None,
        subject=about,
        expected=f"certificates that were valid when it was signed, {said}",
        found=f"{wrong.subject.rfc4514_string()} is valid from {validity(wrong)}"
        if wrong is not None
        else f"valid from {validity(path[0])}, so also when it signed, {said}{since}",
    )


def _moment(plan: ReleasePlan | None) -> datetime | None:
    """When the release says that it was planned; None where it says nothing that can be read, as a damaged plan.json may."""
    try:
        moment = datetime.fromisoformat(plan.created) if plan else None
    except ValueError:
        return None
    return moment if moment is None or moment.tzinfo else None
