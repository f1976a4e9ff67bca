"""Verify a release from nothing but its id: download, hash, load, compare, and say what is not as it was promised.

    verification = verify(HubClient.connect(), "org/name", "v1.0.0", receipt=None)
    verification.mismatches

Without a receipt the promise is the plan.json that stands in the repository itself: it shows whether the files are
those that were checked before the release. With a receipt, or with the publisher's public key, root or identity where the
release is signed, it also shows whether somebody replaced all of them.
"""

from __future__ import annotations

import re
from pathlib import Path

from model_cards.signer import told, verify_options
from release.bundle import PLAN, files_of
from release.claims import check_claims
from release.downloaded import compare_behaviour, compare_files, describe, fresh_download
from release.hub_client import HubClient, HubRepository, check_repo_id
from release.records import Finding, Probe, Receipt, ReleasePlan, Verification
from release.rescoring import Rescoring, rescored
from release.signature import SIGNATURE, Trust, check, require_usable
from release.signed_before import signed_before
from release.space_check import CHECK as SPACE
from release.space_check import check_space
from training.checkpoint import FileEntry, changes_behaviour, manifest_digest
from training.command import log
from training.counted import are, counted
from training.errors import UsageError, VerificationMismatch
from training.run_record import now

ANNOUNCED = re.compile(r"^Plan (sha256:[0-9a-f]{64})$", re.MULTILINE)  # in the message of a release's commit


def parse_target(target: str) -> tuple[str, str | None]:
    """`ORG/NAME[@REVISION]` as its two parts. Raises UsageError for what is no such id."""
    repo_id, _, revision = target.partition("@")
    check_repo_id(repo_id)
    return repo_id, revision or None


def verify(
    hub: HubClient,
    repo_id: str,
    revision: str | None,
    receipt: Receipt | None,
    trust: Trust | None = None,
    rescoring: Rescoring | None = None,
) -> Verification:
    """Everything that was looked at, agreeing or not. `revision` defaults to the receipt's tag, else to main; `trust` is
    who must have signed (a path is that of a public key); with `rescoring` the figures of the scorecard are computed again.

    Raises UsageError where there is nothing to hold the repository against or to re-score, or `trust` is no key or root,
    VerificationMismatch where its plan.json cannot be read, HubError.
    """
    if receipt is not None and receipt.repo_id.lower() != repo_id.lower():
        raise UsageError(
            "the receipt is of another repository",
            expected=receipt.repo_id,
            found=repo_id,
            next_step="give its receipt",
        )
    if trust is not None:
        require_usable(trust)
    revision = revision or (receipt.tag if receipt else "main")
    commit = hub.resolve(repo_id, revision)
    log(f"downloading {repo_id}@{commit} into an empty cache")
    with fresh_download(hub, repo_id, commit) as snapshot:
        promise = receipt or plan_in(snapshot, f"{hub.endpoint}/{repo_id}, commit {commit}", trust)
        log(f"holding it against {'the receipt' if receipt else 'the plan.json in the repository'}")
        entries = files_of(snapshot)
        findings = _commit_findings(hub, receipt, revision, commit)
        if receipt is None:
            findings += _announced(hub, repo_id, commit, entries)
        repository = hub.repository(repo_id)
        if receipt is None:
            findings += _named(hub, repository, repo_id, revision, promise)
        tag = revision if repository and revision in repository.tags else promise.tag
        findings += hold_bytes(snapshot, entries, promise, trust, repo_id, tag)
        digest = manifest_digest(tuple(entry for entry in entries if changes_behaviour(Path(entry.path))))
        findings += _digest_findings(digest, promise.checkpoint_digest, promise.parent_digest)
        if all(finding.ok for finding in findings):  # else there are other bytes to speak of than their words
            log("holding its card and its figures against its records and samples")
            findings += check_claims(snapshot, _own_plan(snapshot))
        findings += _behaviour_findings(snapshot, promise.files, entries, promise.probe)
        findings += _earlier_signer(hub, repo_id, commit, _own_plan(snapshot))
        if rescoring is not None:
            if all(finding.ok for finding in findings):
                findings += rescored(snapshot, rescoring)
            else:
                log("not re-scored: the download is not what was released")
    if receipt is not None:
        findings += check_space(hub, receipt)
    return Verification(
        repo_id=repo_id,
        revision=revision,
        commit=commit,
        checkpoint_digest=digest,
        differs_from_parent=None if promise.parent_digest is None else digest != promise.parent_digest,
        signer=promise.signer,
        findings=findings,
        created=now(),
    )


def hold_bytes(
    snapshot: Path,
    entries: list[FileEntry],
    promise: Receipt | ReleasePlan,
    trust: Trust | None,
    repo_id: str,
    tag: str,
) -> list[Finding]:
    """Every file of a download, whose hashes are `entries`, held against a promise and against who must have signed."""
    findings = _signature_findings(promise, entries)
    if trust is not None:
        findings += check(snapshot, entries, trust, repo_id, tag)
    if isinstance(promise, Receipt):
        findings += _plan_findings(entries, promise)
    return findings + compare_files(snapshot, promise.files, entries)


def require_true(verification: Verification, endpoint: str, next_step: str | None = None) -> None:
    """Raises VerificationMismatch naming every finding that does not agree, the first one as expected and found."""
    wrong = verification.mismatches
    if wrong:
        raise VerificationMismatch(
            f"{len(wrong)} of {counted(len(verification.findings), 'thing')} {are(len(wrong))} not as released\n  "
            + "\n  ".join(describe(finding) for finding in wrong),
            where=f"{endpoint}/{verification.repo_id}, commit {verification.commit}, {wrong[0].subject}",
            expected=wrong[0].expected,
            found=wrong[0].found,
            next_step=next_step or _advice(wrong, verification),
        )


def _advice(wrong: list[Finding], verification: Verification) -> str:
    if {finding.check for finding in wrong} == {SPACE}:
        return "the model itself is as released; what its Space answers is not known to come from it"
    if {finding.check for finding in wrong} <= {"kind", "signature", "identity"} and verification.signer is not None:
        options = verify_options(verification.signer)
        return f"do not use it, unless you expected another: it names{options}; have that from its owner, not from here"
    return "do not use this revision; `python -m release rollback` returns main to the previous release"


def plan_in(snapshot: Path, where: str, trust: Trust | None) -> ReleasePlan:
    """The repository's own plan.json. Where somebody must have signed, a repository without one is not what they signed."""
    missing = f"the repository has no {PLAN}, so it says nothing of itself that could be verified"
    if not (snapshot / PLAN).is_file():
        if trust is not None:
            raise VerificationMismatch(
                f"it is not signed: {missing}", where=where, expected=SIGNATURE, found="no release"
            )
        raise UsageError(missing, where=where, next_step="give the receipt: --receipt FILE or --run runs/ID")
    try:
        return ReleasePlan.read(snapshot / PLAN)
    except UsageError as error:
        raise VerificationMismatch(
            f"the repository's {PLAN} is damaged: {error.what}",
            where=f"{where}, {error.where}",
            expected=error.expected,
            found=error.found,
            next_step="do not use this revision",
        ) from error


def _commit_findings(hub: HubClient, receipt: Receipt | None, revision: str, commit: str) -> list[Finding]:
    """The tag still stands where the receipt says, and the revision asked for is that commit."""
    if receipt is None:
        return []
    repository = hub.repository(receipt.repo_id)
    tagged = repository.tags.get(receipt.tag) if repository else None
    return [
        Finding(
            check="tag",
            ok=tagged == receipt.commit,
            subject=receipt.tag,
            expected=receipt.commit,
            found=tagged or "no tag",
        ),
        Finding(check="commit", ok=commit == receipt.commit, subject=revision, expected=receipt.commit, found=commit),
    ]


def _plan_findings(entries: list[FileEntry], receipt: Receipt) -> list[Finding]:
    """plan.json is the receipt's; without a receipt it is the promise itself, which only a signature witnesses."""
    found = next((f"sha256:{entry.sha256}" for entry in entries if entry.path == PLAN), "missing")
    return [
        Finding(check="file", ok=found == receipt.plan_digest, subject=PLAN, expected=receipt.plan_digest, found=found)
    ]


def _named(
    hub: HubClient, repository: HubRepository | None, repo_id: str, revision: str, promise: Receipt | ReleasePlan
) -> list[Finding]:
    """The release is of this repository, which may have been renamed since, and of the tag that was asked for: another's
    files under this name, or an earlier release under a later tag, are as whole as any."""
    findings = []
    if repository is not None and revision in repository.tags:
        said = f"the release {promise.tag}, by its {PLAN}"
        findings.append(
            Finding(
                check="tag",
                ok=promise.tag == revision,
                subject=revision,
                expected=f"the release {revision}",
                found=said,
            )
        )
    here, ok, told = repository.repo_id if repository else repo_id, True, ""
    if promise.repo_id.lower() not in (repo_id.lower(), here.lower()):
        original = hub.repository(promise.repo_id)
        ok = original is not None and original.repo_id.lower() == here.lower()
        told = ", which has been renamed" if ok else ", of which these files are a copy" if original else ""
    findings.append(
        Finding(
            check="repository",
            ok=ok,
            subject=repo_id,
            expected=f"a release of {repo_id}",
            found=f"one of {promise.repo_id}, by its {PLAN}{told}",
        )
    )
    return findings


def _own_plan(snapshot: Path) -> ReleasePlan | None:
    return ReleasePlan.read(snapshot / PLAN) if (snapshot / PLAN).is_file() else None


def _earlier_signer(hub: HubClient, repo_id: str, commit: str, plan: ReleasePlan | None) -> list[Finding]:
    """A warning, not a mismatch, where an earlier release was signed by another than who signed this one, or this by nobody."""
    said = signed_before(hub, plan.model_copy(update={"repo_id": repo_id}), commit) if plan is not None else None
    if said is None:
        return []
    log(f"warning: {said}")
    return [
        Finding(
            check="signed before", ok=True, subject=SIGNATURE, expected="the signer of earlier releases", found=said
        )
    ]


def _announced(hub: HubClient, repo_id: str, commit: str, entries: list[FileEntry]) -> list[Finding]:
    """plan.json is the one that the commit's message names, where it names one: no signature, but a damaged store shows."""
    named = ANNOUNCED.search(hub.history(repo_id, commit)[0].message)
    if named is None:
        return []
    found = next((f"sha256:{entry.sha256}" for entry in entries if entry.path == PLAN), "missing")
    return [Finding(check="file", ok=found == named[1], subject=PLAN, expected=named[1], found=found)]


def _signature_findings(promise: Receipt | ReleasePlan, entries: list[FileEntry]) -> list[Finding]:
    """The signature's file is there where one was promised, and there only; a receipt also knows its hash."""
    there = next((f"sha256:{entry.sha256}" for entry in entries if entry.path == SIGNATURE), "no such file")
    if isinstance(promise, Receipt):
        expected = promise.signature_digest or "no such file"
        ok = there == expected
    else:
        expected = "no such file" if promise.signer is None else f"a signature by {told(promise.signer)}"
        ok = (there == "no such file") == (promise.signer is None)
    if ok and there == "no such file":
        return []
    return [Finding(check="file", ok=ok, subject=SIGNATURE, expected=expected, found=there)]


def _digest_findings(digest: str, expected: str, parent: str | None) -> list[Finding]:
    findings = [Finding(check="digest", ok=digest == expected, subject="checkpoint", expected=expected, found=digest)]
    if parent is not None:
        findings.append(
            Finding(
                check="parent",
                ok=digest != parent,
                subject="checkpoint",
                expected=f"other bytes than the parent's, {parent}",
                found=digest,
            )
        )
    return findings


def _behaviour_findings(
    snapshot: Path, expected: list[FileEntry], found: list[FileEntry], probe: Probe | None
) -> list[Finding]:
    """Load and compare. Files of the model that are missing or not those that were released are not loaded: nobody looked
    at what they would do, and there are findings of them already."""
    there = {entry.path: entry for entry in found}
    model = [entry for entry in expected if changes_behaviour(Path(entry.path))]
    others = [entry.path for entry in model if there.get(entry.path) != entry]
    others += [path for path in there if changes_behaviour(Path(path)) and path not in {entry.path for entry in model}]
    if probe is None or others:
        return [
            Finding(
                check="load",
                ok=False,
                subject="from_pretrained",
                expected="the model's files as they were released" if others else "a plan with a probe",
                found=f"not loaded, for others are there or missing: {', '.join(others)}" if others else "no probe",
            )
        ]
    log("loading it in a fresh process")
    return compare_behaviour(snapshot, probe)
