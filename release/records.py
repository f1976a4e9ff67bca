"""plan.json and receipt.json, and what verification finds: the values that flow through a release.

    ReleasePlan -> Receipt -> Verification

The plan says which exact bytes would be pushed and what the gates say of them; it is made without the network. The
receipt says what stands on the Hub. A verification is a receipt held against what the Hub serves now.
"""

from __future__ import annotations

from typing import Any, Literal

from model_cards.signer import Signer
from release.space_flavour import SpaceFlavour
from training.checkpoint import FileEntry
from training.records import Record, canonical_json


class Verdict(Record):
    """What one gate says, with the evidence (numbers, file names) and the remedy for a refusal."""

    gate: str
    outcome: Literal["passed", "refused", "skipped", "waived"]
    evidence: dict[str, Any]
    explanation: str
    remedy: str | None = None


class ReleasePlan(Record):
    """The exact files of a release, by hash, and the verdict of every gate."""

    schema_version: int = 1
    endpoint: str  # the Hub that it is for; the card names it
    repo_id: str
    tag: str
    private: bool
    checkpoint_digest: str
    parent_digest: str | None
    scorecard_digest: str | None
    run_record_digest: str | None
    policy: str
    policy_digest: str
    files: list[FileEntry]
    verdicts: list[Verdict]
    probe: Probe | None  # None where the weights could not be loaded, which a gate has then refused
    space: str | None = None
    waivers: dict[str, str] = {}  # gate -> why its refusal is accepted; they stand on the card
    signer: Signer | None = (
        None  # whose signature goes with the release, a key by its fingerprint; None: it is not signed
    )
    space_flavour: SpaceFlavour | None = None  # None: transformers answers
    gated: Literal["auto", "manual", "no"] | None = None  # who is let in; None: as the repository is
    created: str

    def to_json(self) -> bytes:
        """Without a flavour or a gate the bytes are those of plans from before there were any, so that their digests stay."""
        value = self.model_dump(mode="json")
        for later in ("space_flavour", "gated"):
            if value[later] is None:
                del value[later]
        return canonical_json(value)

    @property
    def refused(self) -> list[Verdict]:
        return [verdict for verdict in self.verdicts if verdict.outcome == "refused"]


class SpaceBoot(Record):
    """What the Space said when it was run once before the release was shown, or why it was not run."""

    question: str | None = None
    answer: str | None = None  # its beginning
    runtime: str | None = None  # what answered
    isolated: bool = False  # in an environment made from its requirements, not on the publisher's packages
    not_booted: str | None = None  # the reason


class SpaceReceipt(Record):
    repo_id: str
    commit: str
    files: list[FileEntry]
    boot: SpaceBoot | None = None  # receipts from before 2026-11-28 do not say


class Receipt(Record):
    """What was released: where, at which commit, which bytes, under which verdicts."""

    schema_version: int = 1
    endpoint: str
    repo_id: str
    commit: str
    tag: str
    checkpoint_digest: str
    parent_digest: str | None
    scorecard_digest: str | None
    plan_digest: str
    files: list[FileEntry]
    probe: Probe
    space: SpaceReceipt | None = None
    signature_digest: str | None = None  # of the signature's file, which plan.json cannot name
    signer: Signer | None = None  # as plan.json has it; receipts from before 2026-11-28 do not say
    created: str


class Probe(Record):
    """Logits of the released model on a fixed text, by which its behaviour is compared later, not only its bytes.

    `top_tokens` are the most likely next tokens at the last position and `top_logits` their logits in float32;
    `greedy` is the greedy continuation's token ids.
    """

    text: str
    input_ids: list[int]
    top_tokens: list[int]
    top_logits: list[float]
    greedy: list[int]
    packages: dict[str, str]


class Finding(Record):
    """One thing that verification looked at."""

    check: str
    ok: bool
    subject: str
    expected: str | None = None
    found: str | None = None


class Verification(Record):
    """Is it still true? Every finding, the agreeing ones too."""

    repo_id: str
    revision: str
    commit: str
    checkpoint_digest: str | None
    differs_from_parent: bool | None
    signer: Signer | None = None  # by whom the release says it is signed; a finding says whether that was checked
    findings: list[Finding]
    created: str

    @property
    def mismatches(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.ok]


ReleasePlan.model_rebuild()
Receipt.model_rebuild()
