"""Receipts and signatures of earlier versions verify for ever: a release is kept here as each version made it.

Add a folder for every version that changes plan.json, receipt.json or the signature; never change one that is here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from evals.regenerate import OTHER_STREAM, regenerate
from evals.saved import SavedRun
from release.bundle import PLAN, files_of
from release.certificates import Roots
from release.claims import check_claims
from release.keyless import Identity
from release.probe import TOLERANCE, load, probe_difference, take_probe
from release.records import Receipt, ReleasePlan
from release.signature import Trust
from release.verify import hold_bytes
from training.checkpoint import Checkpoint

RELEASED = Path(__file__).parent / "released"
# By whom: a key; a certificate that expires in February 2027; an identity at an instance of sigstore that is no more.
SIGNED: dict[str, Trust] = {
    "v0.1": RELEASED / "v0.1.pub",
    "v0.1-certificate": Roots((RELEASED / "v0.1-certificate.root.pem",), "releases@slipway.dev"),
    "v0.1-keyless": Identity("me@slipway.dev", "http://127.0.0.1:43639", RELEASED / "v0.1-keyless.trust.json"),
}
VERSIONS = sorted(SIGNED)


def test_every_release_that_is_kept_is_looked_at() -> None:
    assert sorted(folder.name for folder in RELEASED.iterdir() if folder.is_dir()) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_release_of_an_earlier_version_still_verifies(version: str) -> None:
    folder = RELEASED / version
    receipt = Receipt.read(RELEASED / f"{version}.receipt.json")
    plan = ReleasePlan.read(folder / PLAN)
    entries = files_of(folder)
    for promise in (receipt, plan):
        findings = hold_bytes(folder, entries, promise, SIGNED[version], plan.repo_id, plan.tag)
        assert [finding for finding in findings if not finding.ok] == []
    assert {finding.subject for finding in findings if finding.check == "signed"} >= {PLAN, "model.safetensors"}
    assert Checkpoint.open(folder).digest == receipt.checkpoint_digest == plan.checkpoint_digest
    assert plan.refused == []
    assert [finding for finding in check_claims(folder, plan) if not finding.ok] == []


@pytest.mark.parametrize("version", VERSIONS)
def test_its_model_still_loads_to_the_same_logits_and_its_figures_are_still_those_of_its_samples(version: str) -> None:
    folder = RELEASED / version
    receipt = Receipt.read(RELEASED / f"{version}.receipt.json")
    assert probe_difference(receipt.probe, take_probe(load(folder))) <= TOLERANCE
    assert [found.problem for found in regenerate(SavedRun.open(folder), OTHER_STREAM) if found.problem] == []
