"""What webhooks are told: the Hub's payload, version 3, of a change to a repository or to a discussion.

announce(call, repository, "update", "repo.content", refs=[("refs/heads/main", old, new)])
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from release.local_hub import discussions
from release.local_hub.refusals import Refusal
from release.local_hub.repository import MAIN, Repository
from release.local_hub.web import Call
from release.local_hub.webhook_delivery import Delivery
from release.local_hub.webhooks import Webhook

Refs = Sequence[tuple[str, str | None, str | None]]  # name, commit before, commit afterwards

log = logging.getLogger("slipway.hub")


def announce(call: Call, repository: Repository, action: str, scope: str, **about: Any) -> None:
    """Tell those who watch the repository and may read it; returns at once."""
    call.deliveries.send(announcement(call, repository, action, scope, **about))


def announcement(call: Call, repository: Repository, action: str, scope: str, **about: Any) -> list[Delivery]:
    """The deliveries of a change: before what cannot be told of afterwards, such as a deletion.

    What goes wrong here is the log's: the change itself was, or will be, answered as if nobody watched.
    """
    try:
        return _announcement(call, repository, action, scope, **about)
    except (Refusal, OSError, ValueError, KeyError) as error:
        log.error("no webhook was told of %s %s of %s: %r", action, scope, repository.id, error)
        return []


def _announcement(
    call: Call,
    repository: Repository,
    action: str,
    scope: str,
    *,
    refs: Refs = (),
    number: int | None = None,
    comment: dict[str, Any] | None = None,
    moved_to: str | None = None,
) -> list[Delivery]:
    """`number` is the discussion's, `comment` its event, `moved_to` the new id."""
    hooks = [hook for hook in call.deliveries.webhooks.all() if _concerns(call, hook, repository, scope)]
    if not hooks:
        return []
    payload: dict[str, Any] = {"event": {"action": action, "scope": scope}, "repo": _repo(call, repository)}
    if refs:
        payload["updatedRefs"] = [{"ref": ref, "oldSha": old, "newSha": new} for ref, old, new in refs]
    if number is not None:
        payload["discussion"] = _discussion(call, repository, number)
    if comment is not None:
        payload["comment"] = _comment(call, repository, number or 0, comment)
    if moved_to is not None:
        payload["movedTo"] = {"name": moved_to, "owner": {"id": moved_to.partition("/")[0].lower()}}
    return [Delivery(hook["id"], {**payload, "webhook": {"id": hook["id"], "version": 3}}) for hook in hooks]


def _concerns(call: Call, hook: Webhook, repository: Repository, scope: str) -> bool:
    if hook["disabled"] or scope.partition(".")[0] not in hook["domains"]:
        return False
    names = {("user", repository.namespace.lower()), ("org", repository.namespace.lower())}
    names.add((repository.kind, repository.id.lower()))
    if not any((item["type"], item["name"].lower()) in names for item in hook["watched"]):
        return False
    return not repository.private or repository.namespace.lower() in call.store.accounts.namespaces_of(hook["owner"])


def _repo(call: Call, repository: Repository) -> dict[str, Any]:
    return {
        "type": repository.kind,
        "name": repository.id,
        "id": repository.folder.name,
        "private": repository.private,
        "url": {"web": call.web_url(repository), "api": f"{call.endpoint}/api/{repository.kind}s/{repository.id}"},
        "headSha": repository.refs().get(MAIN),
        "owner": {"id": repository.namespace.lower()},
    }


def _discussion(call: Call, repository: Repository, number: int) -> dict[str, Any]:
    item = discussions.read(repository, number)
    web = f"{call.web_url(repository)}/discussions/{number}"
    told = {
        "id": f"{repository.folder.name}-{number}",
        "num": number,
        "title": item["title"],
        "status": item["status"],
        "isPullRequest": item["pull_request"],
        "author": {"id": item["author"].lower()},
        "url": {"web": web, "api": f"{call.endpoint}/api/{repository.kind}s/{repository.id}/discussions/{number}"},
        "pinned": False,
    }
    if item["pull_request"]:
        told["changes"] = {"base": MAIN, "mergeCommitId": item["merged"]}
    return told


def _comment(call: Call, repository: Repository, number: int, event: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": event["id"],
        "author": {"id": event["author"]["name"].lower()},
        "content": event["data"]["latest"]["raw"],
        "hidden": event["data"]["hidden"],
        "url": {"web": f"{call.web_url(repository)}/discussions/{number}#{event['id']}"},
    }
