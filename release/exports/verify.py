"""Verify a repository of GGUF files from nothing but its id: every file, the figures of its card, and, if asked, what is lost.

    verification = verify_export(HubClient.connect(), "org/name-GGUF", None, receipt=None, remeasure=True)
    verification.mismatches

The message of the repository's commit names export.json and the card by their hashes; export.json names the files and the
scorecards, and these their samples (record_check.py holds what they say against each other and the model that they name).
`remeasure` runs every file in llama.cpp again, beside the released model that it is of (remeasure.py).
"""

from __future__ import annotations

import re
from pathlib import Path

from release.bundle import PLAN, files_of
from release.downloaded import compare_files, fresh_download
from release.exports.record import CARD, EXPORT, ExportedFile, ExportReceipt, ExportRecord
from release.exports.record_check import base_finding, check_card, check_figures, find_base
from release.exports.remeasure import remeasured
from release.hub_client import HubClient
from release.hub_files import HUB_OWN_FILE
from release.records import Finding, Verification
from training.checkpoint import FileEntry
from training.command import log
from training.errors import SlipwayError, UsageError, VerificationMismatch
from training.run_record import now

# Files and their hashes in the message of the commit.
ANNOUNCED = re.compile(rf"^({re.escape(EXPORT)}|{re.escape(CARD)}) sha256:([0-9a-f]{{64}})$", re.MULTILINE)


def is_export(hub: HubClient, repo_id: str, revision: str | None) -> bool:
    """Whether the repository holds GGUF files that `release export` made, and no release."""
    paths = hub.tree(repo_id, hub.resolve(repo_id, revision or "main"))
    return EXPORT in paths and PLAN not in paths


def verify_export(
    hub: HubClient,
    repo_id: str,
    revision: str | None,
    receipt: ExportReceipt | None,
    *,
    remeasure: bool,
    suite: str | None = None,
) -> Verification:
    """Everything that was looked at, agreeing or not. `revision` defaults to the receipt's commit, else to main.
    `suite` is the file of that by which the scores were measured, where it is none of ours and `remeasure` is to read it.

    Raises VerificationMismatch where export.json cannot be read, UsageError where the losses cannot be measured here, HubError.
    """
    if receipt is not None and receipt.repo_id.lower() != repo_id.lower():
        raise UsageError("the receipt is of another repository", expected=receipt.repo_id, found=repo_id)
    revision = revision or (receipt.commit if receipt else "main")
    commit = hub.resolve(repo_id, revision)
    log(f"downloading {repo_id}@{commit} into an empty cache")
    with fresh_download(hub, repo_id, commit) as snapshot:
        record = _record(snapshot, f"{hub.endpoint}/{repo_id}, commit {commit}")
        entries = [entry for entry in files_of(snapshot) if entry.path != HUB_OWN_FILE]
        promised = dict(ANNOUNCED.findall(hub.history(repo_id, commit)[0].message))
        findings = _held(entries, promised | _named(snapshot, record))
        findings += [_figures(snapshot, file) for file in record.files if file.scores is not None]
        if receipt is not None:
            findings += compare_files(snapshot, receipt.files, entries)
        findings += [*check_figures(snapshot, record), check_card(snapshot, record)]
        if all(finding.ok for finding in findings):  # else there are other bytes to speak of than what they are of
            base, digest = find_base(hub, record)
            findings += (
                remeasured(hub, snapshot, record, base, suite) if remeasure else [base_finding(record, base, digest)]
            )
    return Verification(
        repo_id=repo_id,
        revision=revision,
        commit=commit,
        checkpoint_digest=record.checkpoint_digest,
        differs_from_parent=None,
        findings=findings,
        created=now(),
    )


def summary(verification: Verification, against: str) -> str:
    """What a person reads when all is well."""
    files = {finding.subject for finding in verification.findings if finding.check == "file"}
    told = [
        f"\n  {finding.check:<8} {finding.subject}: {finding.found}"
        for finding in verification.findings
        if finding.check != "file"
    ]
    return (
        f"{verification.repo_id}@{verification.revision} is what was exported (commit {verification.commit[:12]})\n"
        f"  against  {against}\n"
        f"  files    {len(files)}, every hash as recorded\n"
        f"  of       checkpoint {verification.checkpoint_digest}" + "".join(told)
    )


def _record(snapshot: Path, where: str) -> ExportRecord:
    try:
        return ExportRecord.read(snapshot / EXPORT)
    except UsageError as error:
        raise VerificationMismatch(
            f"the repository's {EXPORT} is damaged: {error.what}",
            where=where,
            expected=error.expected,
            found=error.found,
            next_step="do not use this revision",
        ) from error


def _named(snapshot: Path, record: ExportRecord) -> dict[str, str]:
    """Path -> SHA-256 of what export.json names, and of the samples that its scorecards name."""
    from evals.scorecard import Scorecard

    named = {file.path: file.sha256 for file in record.files}
    for file in record.files:
        for path, sha256 in (file.scores.scorecards if file.scores else {}).items():
            named[path] = sha256
            try:
                card = Scorecard.read(snapshot / path)
            except UsageError:
                continue  # it is missing or not the recorded one, and there is a finding of that already
            named |= {f"{Path(path).parent}/samples/{task}.jsonl": digest for task, digest in card.samples.items()}
    return named


def _held(entries: list[FileEntry], named: dict[str, str]) -> list[Finding]:
    """A finding for each file that is named, and for each that nothing names: such a file has no claim to be looked at."""
    found = {entry.path: entry.sha256 for entry in entries}
    of_itself = {path: found[path] for path in (EXPORT, CARD) if path in found}  # of a commit that names neither
    return [
        Finding(
            check="file",
            ok=found.get(path) == sha256,
            subject=path,
            expected=sha256 or "no such file",
            found=found.get(path, "missing"),
        )
        for path, sha256 in sorted({**dict.fromkeys(found, ""), **of_itself, **named}.items())
    ]


def _figures(snapshot: Path, file: ExportedFile) -> Finding:
    """Whether the change of scores on the card is what the samples give."""
    from release.exports.scores import files_of as files_behind

    try:
        files_behind(snapshot, file)
    except SlipwayError as error:
        found, ok = f"{error.what}: {error.found or error.where}", False
    else:
        found, ok = f"{len(file.scores.rows) if file.scores else 0} differences, as the samples give them", True
    return Finding(check="scores", ok=ok, subject=file.path, expected="what the samples give", found=found)
