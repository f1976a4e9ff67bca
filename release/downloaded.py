"""Hold a downloaded revision against what it should be: every file by its hash, the digest, and how the model behaves.

findings = compare_files(snapshot, plan.files)
findings += compare_behaviour(snapshot, plan.probe)
[finding for finding in findings if not finding.ok]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from release.bundle import PLAN, files_of
from release.hub_client import HubClient, Kind
from release.hub_files import HUB_OWN_FILE
from release.probe import TOLERANCE, load_in_fresh_process, probe_difference
from release.records import Finding, Probe
from release.signature import SIGNATURE
from training.checkpoint import FileEntry
from training.errors import UsageError


@contextmanager
def fresh_download(hub: HubClient, repo_id: str, commit: str, kind: Kind = "model") -> Iterator[Path]:
    """A revision downloaded into an empty cache, which is removed afterwards: nothing seen before can answer for it."""
    with TemporaryDirectory(prefix="slipway-download-") as cache:
        yield hub.download(repo_id, commit, Path(cache), kind)


def compare_files(
    snapshot: Path, expected: Iterable[FileEntry], entries: Iterable[FileEntry] | None = None
) -> list[Finding]:
    """A finding for every expected file, and one for every file that is there beside them.

    plan.json and the signature are in no list, so they are left to the caller. `entries` are the snapshot's files
    where they have been hashed already.
    """
    wanted = {entry.path: entry for entry in expected}
    hashed = files_of(snapshot) if entries is None else entries
    found = {entry.path: entry for entry in hashed if entry.path not in (PLAN, SIGNATURE, HUB_OWN_FILE)}
    findings = []
    for path in sorted({*wanted, *found}):
        theirs, ours = found.get(path), wanted.get(path)
        findings.append(
            Finding(
                check="file",
                ok=theirs == ours,
                subject=path,
                expected=_hash(ours, theirs) if ours else "no such file",
                found=_hash(theirs, ours) if theirs else "missing",
            )
        )
    return findings


def compare_behaviour(snapshot: Path, probe: Probe) -> list[Finding]:
    """Load in a fresh process, with stock settings, and compare logits (within TOLERANCE) and greedy tokens."""
    try:
        examination = load_in_fresh_process(snapshot)
    except UsageError as error:
        return [
            Finding(
                check="load", ok=False, subject="from_pretrained", expected="a model", found=error.found or error.what
            )
        ]
    wrong = examination.missing + examination.mismatched + examination.unexpected
    difference = probe_difference(probe, examination.probe)
    return [
        Finding(
            check="load",
            ok=not wrong,
            subject="from_pretrained",
            expected="every parameter from the files",
            found=", ".join(wrong[:5]) or "every parameter from the files",
        ),
        Finding(
            check="logits",
            ok=difference <= TOLERANCE,
            subject=repr(probe.text),
            expected=f"largest difference at most {TOLERANCE:g}",
            found=f"{difference:.3g}",
        ),
        Finding(
            check="greedy",
            ok=examination.probe.greedy == probe.greedy,
            subject=repr(probe.text),
            expected=str(probe.greedy),
            found=str(examination.probe.greedy),
        ),
    ]


def describe(finding: Finding) -> str:
    """One line of a mismatch."""
    return f"{finding.check} {finding.subject}: expected {finding.expected}, found {finding.found}"


def _hash(entry: FileEntry, other: FileEntry | None) -> str:
    size = f" ({entry.size} bytes)" if other is None or other.size != entry.size else ""
    return f"sha256 {entry.sha256}{size}"
