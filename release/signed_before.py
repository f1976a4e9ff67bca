"""Whether an earlier release of the same repository was signed by somebody who has not signed this one.

    told = signed_before(hub, plan)     # "v1.0.0 was signed by the key sha256:...; v2.0.0 is not signed", or None

Whoever may write to a repository can release to it, but not sign with a key that is kept elsewhere. So that a release is not
signed any more is told, by `publish` to who makes it and by `verify` to who looks.
"""

from __future__ import annotations

from model_cards.signer import CertificateSigner, Signer, told
from release.hub_client import HubClient
from release.records import ReleasePlan
from release.releases_there import RELEASE, plan_at

LOOKED_AT = 10  # earlier releases, each of which costs a request


def signed_before(hub: HubClient, plan: ReleasePlan, revision: str = "main") -> str | None:
    """What to say of the newest signed one of the LOOKED_AT releases before this one in the history of a revision; None where
    nothing is to be said. Raises HubError."""
    if hub.repository(plan.repo_id) is None:
        return None
    history = hub.history(plan.repo_id, revision)
    own = [place for place, entry in enumerate(history) if entry.title == f"{RELEASE}{plan.tag}"]
    earlier = history[own[-1] if own else 0 :]  # a rollback may have put later releases before it
    for entry in [entry for entry in earlier if entry.title.startswith(RELEASE)][:LOOKED_AT]:
        before = plan_at(hub, plan.repo_id, entry.commit)
        if before is None or before.model_copy(update={"repo_id": plan.repo_id}) == plan:
            continue  # itself; another plan of its tag has been replaced by it
        if before.signer is not None:
            here = "is not signed" if plan.signer is None else f"is signed by {told(plan.signer)}"
            same = plan.signer is not None and _alike(before.signer, plan.signer)
            subject = plan.tag if plan.tag != before.tag else "what stands in its place now"
            return None if same else f"{before.tag} was signed by {told(before.signer)}; {subject} {here}"
    return None


def _alike(one: Signer, other: Signer) -> bool:
    """The same signer; a certificate is renewed now and then, for the same name."""
    if isinstance(one, CertificateSigner) and isinstance(other, CertificateSigner):
        return one.name == other.name
    return one == other
