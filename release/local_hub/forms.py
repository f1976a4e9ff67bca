"""Forms of the Hub's own pages, which a browser sends with the login that it remembers.

    proof = form_proof(call, repository, "ask-access")      # a hidden field of the form
    is_own_form(call, repository, "ask-access")             # of the request that it becomes

A browser sends its login along from any page, so a login alone may only read. The proof is a signature of the action, the
repository and the user; no other site can read it, and no frame of theirs shows the page.
"""

from __future__ import annotations

from urllib.parse import parse_qs

from release.local_hub.repository import Repository
from release.local_hub.web import Call

FORM = "application/x-www-form-urlencoded"


def form_proof(call: Call, repository: Repository, action: str) -> str | None:
    """None for those whose form would be refused: the anonymous, and tokens that only read."""
    user = call.caller.user
    if user is None or "write" not in (call.caller.login, call.caller.scope):
        return None
    return call.store.sign("form", action, repository.kind, repository.id, user)


def is_own_form(call: Call, repository: Repository, action: str) -> bool:
    """Whether the body is a form that a page of this Hub made for this user."""
    user, kind = call.caller.user, call.request.headers.get("content-type", "").partition(";")[0].strip()
    if user is None or kind != FORM or "write" not in (call.caller.login, call.caller.scope):
        return False
    proof = parse_qs(call.body.decode(errors="replace"), max_num_fields=100).get("proof", [""])[0]
    return call.store.signed(proof, "form", action, repository.kind, repository.id, user)
