"""The Space that a receipt names, held against what the Hub serves now.

    findings = check_space(hub, receipt)     # none where the release has no Space

Its commit must still be in the history of its main, with the files of the receipt. Main itself may have moved on: to a later or
an earlier release of the same model, never to anything else; where it serves this release, its files are the receipt's too.
"""

from __future__ import annotations

from release.downloaded import compare_files, fresh_download
from release.hub_client import HubClient, HubRepository
from release.records import Finding, Receipt, SpaceReceipt
from release.space_rollback import served
from training.command import log
from training.counted import counted

CHECK = "space"


def check_space(hub: HubClient, receipt: Receipt) -> list[Finding]:
    """What was looked at of the receipt's Space, agreeing or not. Raises HubError."""
    space = receipt.space
    if space is None:
        return []
    log(f"holding its Space {space.repo_id} against the receipt")
    there = hub.repository(space.repo_id, "space")
    if there is None:
        return [
            _of(space.repo_id, False, f"the Space at commit {space.commit}", "no such Space, or none that you may see")
        ]
    history = [entry.commit for entry in hub.history(space.repo_id, there.main, "space")]
    if space.commit not in history:
        expected = f"commit {space.commit} in the history of main"
        return [
            _of(space.repo_id, False, expected, f"{counted(len(history), 'other commit')}, the newest {there.main}")
        ]
    findings = _files(hub, space, space.commit)
    model, revision = served(hub, space.repo_id)
    serves = (model or "").lower() == receipt.repo_id.lower() and revision == receipt.commit
    if serves and there.main != space.commit:  # as a rollback leaves it
        findings += _files(hub, space, there.main)
    if any(not finding.ok for finding in findings):
        return findings
    tag = receipt.tag if serves else _release_served(hub, receipt, model, revision)
    found = (
        f"serves {tag}" if tag else f"serves {f'{model} at {revision}' if model else 'something that names no model'}"
    )
    if there.private:
        found += "; it is private"
    return [
        _of(space.repo_id, tag is not None, f"serves {receipt.tag}, or another release of {receipt.repo_id}", found)
    ]


def _files(hub: HubClient, space: SpaceReceipt, commit: str) -> list[Finding]:
    """A finding for each file of the Space at a commit that is not the receipt's."""
    with fresh_download(hub, space.repo_id, commit, "space") as snapshot:
        findings = compare_files(snapshot, space.files)
    return [
        finding.model_copy(update={"check": CHECK, "subject": f"{space.repo_id}@{commit[:12]}/{finding.subject}"})
        for finding in findings
        if not finding.ok
    ]


def _release_served(hub: HubClient, receipt: Receipt, model: str | None, revision: str | None) -> str | None:
    """The tag of the model's release that the Space serves instead; None where it is no release of this model."""
    repository: HubRepository | None = hub.repository(receipt.repo_id)
    if repository is None or (model or "").lower() not in (receipt.repo_id.lower(), repository.repo_id.lower()):
        return None
    return next((tag for tag, commit in repository.tags.items() if commit == revision), None)


def _of(space: str, ok: bool, expected: str, found: str) -> Finding:
    return Finding(check=CHECK, ok=ok, subject=space, expected=expected, found=found)
