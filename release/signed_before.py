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


def signed_before(hub: HubClient, plan: ReleasePlan, revision: str = "main") -> str | None:
    """What to say of the newest signed release before this one in the history of a revision; None where nothing is to be said."""
    if hub.repository(plan.repo_id) is None:
        return None
    history = hub.history(plan.repo_id, revision)
    own = [place for place, entry in enumerate(history) if entry.title == f"{RELEASE}{plan.tag}"]
    for entry in history[own[-1] + 1 if own else 0 :]:  # a rollback may have put later releases before it
        if not entry.title.startswith(RELEASE):
            continue
        before = plan_at(hub, plan.repo_id, entry.commit)
        if before is not None and before.signer is not None:
            here = "is not signed" if plan.signer is None else f"is signed by {told(plan.signer)}"
            same = plan.signer is not None and _alike(before.signer, plan.signer)
            return None if same else f"{before.tag} was signed by {told(before.signer)}; {plan.tag} {here}"
    return None


def _alike(one: Signer, other: Signer) -> bool:
    """The same signer; a certificate is renewed now and then, for the same name."""
    if isinstance(one, CertificateSigner) and isinstance(other, CertificateSigner):
        return one.name == other.name
    return one == other
