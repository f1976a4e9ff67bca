"""A signed release is checked by whoever has the public key; what is not as it was signed is named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from release.__main__ import main
from release.bundle import files_of
from release.hub_client import HubClient
from release.hub_files import LocalFile
from release.local_hub.server import RunningHub
from release.plan import make_plan, plan_for, read_plan, require_current
from release.publish import publish
from release.records import Receipt
from release.request import Request
from release.signature import SIGNATURE, check, sign, signer_of, subject
from release.signing_keys import fingerprint, make_key
from release.verify import verify
from training.errors import GateRefused, UsageError


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A private key; its public half lies beside it."""
    path = tmp_path_factory.mktemp("keys") / "slipway.key"
    make_key(path)
    return path


@pytest.fixture
def public(key: Path) -> Path:
    return key.with_suffix(".pub")


@pytest.fixture
def signed(run: Path, hub: HubClient, repo_id: str, load_here: None, key: Path) -> Receipt:
    make_plan(run, Request(repo_id, sign=key))
    return publish(run, hub)[0]


@pytest.fixture
def folder(tmp_path: Path, key: Path) -> Path:
    """A signed folder of two files."""
    folder = tmp_path / "folder"
    (folder / "samples").mkdir(parents=True)
    (folder / "plan.json").write_text("{}\n")
    (folder / "samples" / "a.jsonl").write_text("one\n")
    sign(folder, key, subject("org/name", "v1"), keep=tmp_path / SIGNATURE)
    return folder


def wrong(folder: Path, public: Path, repo_id: str = "org/name", tag: str = "v1") -> dict[str, str | None]:
    """What is not as it was signed: file -> what was found."""
    findings = check(folder, files_of(folder), public, repo_id, tag)
    return {finding.subject: finding.found for finding in findings if not finding.ok}


def put(hub: HubClient, repo_id: str, path: str, content: bytes | None) -> None:
    hub.commit(
        repo_id,
        "main",
        parent=hub.head(repo_id, "main"),
        additions={} if content is None else {path: LocalFile.of(content)},
        deletions=[path] if content is None else [],
        title="Edit",
        message="",
        landed=lambda _: False,
    )


def test_a_stranger_with_the_public_key_alone_checks_every_file_and_plan_json(
    signed: Receipt, public: Path, hub: HubClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", f"{signed.repo_id}@v1.0.0", "--key", str(public)]) == 0
    assert f"a signature by the key {fingerprint(public)}, over every file" in capsys.readouterr().out
    verification = verify(hub, signed.repo_id, "v1.0.0", None, public)
    covered = {finding.subject for finding in verification.findings if finding.check == "signed"}
    assert covered == {entry.path for entry in signed.files} | {"plan.json"}
    assert signed.signature_digest is not None
    assert verify(hub, signed.repo_id, None, signed, public).mismatches == []


def test_without_the_key_the_release_only_says_of_itself_who_signed_it(
    signed: Receipt, public: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", f"{signed.repo_id}@v1.0.0"]) == 0
    assert f"by the key {fingerprint(public)}, as the release says itself" in capsys.readouterr().out


def test_an_unsigned_release_is_exit_4_where_a_signature_is_asked_for(
    run: Path, hub: HubClient, repo_id: str, load_here: None, public: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_plan(run, Request(repo_id))
    publish(run, hub)
    assert main(["verify", f"{repo_id}@v1.0.0", "--key", str(public)]) == 4
    assert "the release is not signed" in capsys.readouterr().err
    hub.create_repository(f"{repo_id}-empty", private=False)
    assert main(["verify", f"{repo_id}-empty", "--key", str(public)]) == 4


def test_another_key_is_exit_4(signed: Receipt, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_key(tmp_path / "other.key")
    assert main(["verify", f"{signed.repo_id}@v1.0.0", "--key", str(tmp_path / "other.pub")]) == 4
    error = capsys.readouterr().err
    assert f"signature {SIGNATURE}: expected a signature by the key {fingerprint(tmp_path / 'other.pub')}" in error
    assert "Key mismatch" in error


def test_a_verdict_edited_in_plan_json_and_a_removed_signature_are_each_named(
    signed: Receipt, public: Path, hub: HubClient
) -> None:
    plan = json.loads(hub.download(signed.repo_id, "main", public.parent / "cache").joinpath("plan.json").read_text())
    plan["verdicts"][0]["explanation"] = "all is well"
    put(hub, signed.repo_id, "plan.json", json.dumps(plan).encode())
    assert verify(hub, signed.repo_id, "main", None).mismatches == [], "without the key plan.json is its own witness"
    assert [finding.subject for finding in verify(hub, signed.repo_id, "main", None, public).mismatches] == [
        "plan.json"
    ]
    put(hub, signed.repo_id, SIGNATURE, None)
    missing = verify(hub, signed.repo_id, "main", None).mismatches
    assert [(finding.subject, finding.found) for finding in missing] == [(SIGNATURE, "no such file")]


def test_a_plan_json_that_cannot_be_read_is_exit_4_not_a_usage_error(
    signed: Receipt, hub: HubClient, capsys: pytest.CaptureFixture[str]
) -> None:
    put(hub, signed.repo_id, "plan.json", b'{"schema_version": 1')
    assert main(["verify", f"{signed.repo_id}@main"]) == 4
    assert "plan.json is damaged" in capsys.readouterr().err


def test_a_tag_that_points_at_another_signed_release_is_found(
    signed: Receipt, public: Path, hub: HubClient, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.create_tag(signed.repo_id, "v2.0.0", signed.commit, "")
    found = verify(hub, signed.repo_id, "v2.0.0", None, public).mismatches
    assert [finding.check for finding in found] == ["tag", "subject"]
    assert verify(hub, signed.repo_id, "main", None, public).mismatches == []


def test_a_flipped_byte_of_the_signature_in_the_store_is_found_by_the_key_and_by_the_receipt(
    signed: Receipt, public: Path, run: Path, hub: HubClient, hub_with_owner: tuple[RunningHub, str]
) -> None:
    assert signed.signature_digest is not None
    blob = hub_with_owner[0].store.blobs.path(signed.signature_digest.removeprefix("sha256:"))
    whole = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(whole.replace(b'"sig":"ME', b'"sig":"MF'))
    try:
        for receipt, who in ((None, public), (signed, None)):
            assert SIGNATURE in {
                finding.subject for finding in verify(hub, signed.repo_id, "main", receipt, who).mismatches
            }
    finally:
        blob.write_bytes(whole)


def test_a_changed_an_added_and_a_missing_file_are_each_named(folder: Path, public: Path) -> None:
    assert wrong(folder, public) == {}
    (folder / "samples" / "a.jsonl").write_text("two\n")
    (folder / "extra.txt").write_text("boo")
    (folder / "plan.json").unlink()
    found = wrong(folder, public)
    assert set(found) == {"samples/a.jsonl", "extra.txt", "plan.json"}
    assert found["plan.json"] == "missing"


def test_a_release_copied_to_another_repository_or_tag_is_signed_for_the_first(folder: Path, public: Path) -> None:
    assert wrong(folder, public, repo_id="evil/name") == {SIGNATURE: "signed for org--name@v1"}
    assert wrong(folder, public, tag="v2") == {SIGNATURE: "signed for org--name@v1"}
    assert wrong(folder, public, repo_id="Org/Name") == {}, "the Hub does not tell capitals apart"


def test_no_byte_of_the_signature_may_change(folder: Path, public: Path) -> None:
    file = folder / SIGNATURE
    whole = file.read_bytes()
    for place in range(0, len(whole), 7):
        for flip in (1, 32):
            changed = bytearray(whole)
            changed[place] ^= flip
            file.write_bytes(changed)
            assert wrong(folder, public), f"byte {place} of {len(whole)}: {whole[place - 10 : place + 10]!r}"
    for spaced in (whole + b"\n", whole.replace(b":", b": ", 1)):
        file.write_bytes(spaced)
        assert SIGNATURE in wrong(folder, public)


def test_the_field_s_own_tool_accepts_the_signature(folder: Path, public: Path) -> None:
    words = [sys.executable, "-m", "model_signing", "verify", "key", str(folder), "--public_key", str(public)]
    finished = subprocess.run(
        [*words, "--signature", str(folder / SIGNATURE)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr + finished.stdout


def test_planning_again_keeps_the_signature_so_that_it_stays_one_release(run: Path, key: Path) -> None:
    request = Request("org/name", sign=key)
    first = make_plan(run, request)
    signature = (run / "bundle" / SIGNATURE).read_bytes()
    assert make_plan(run, request) == first
    assert (run / "bundle" / SIGNATURE).read_bytes() == signature
    assert plan_for(run, Request("org/name")) == first, "a plan signed elsewhere is published as it is, without the key"
    assert first.signer == signer_of(key)
    make_plan(run, Request("org/name", tag="v2.0.0", sign=key))
    assert (run / "bundle" / SIGNATURE).read_bytes() != signature


def test_a_bundle_without_the_signature_of_its_plan_is_not_published(run: Path, key: Path) -> None:
    make_plan(run, Request("org/name", sign=key))
    (run / "bundle" / SIGNATURE).unlink()
    with pytest.raises(GateRefused, match=SIGNATURE):
        require_current(run, read_plan(run))


def test_a_killed_signed_publication_continues_to_the_same_commit_and_signature(
    run: Path, hub: HubClient, repo_id: str, load_here: None, key: Path, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    make_plan(run, Request(repo_id, sign=key))
    with monkeypatch.context() as patched:
        patched.setattr("release.publish.Publication._tag", die)
        with pytest.raises(KeyboardInterrupt):
            publish(run, hub)
    commit = hub.head(repo_id, "main")
    plan_for(run, Request(repo_id, sign=key))
    receipt, already = publish(run, hub)
    assert (receipt.commit, already) == (commit, False)
    assert publish(run, hub) == (receipt, True)
    assert verify(hub, repo_id, "v1.0.0", receipt, public).mismatches == []


def test_keygen_makes_a_pair_that_only_its_owner_reads_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "new" / "slipway.key"
    assert main(["keygen", "--out", str(path), "--json"]) == 0
    assert (
        json.loads(capsys.readouterr().out)["fingerprint"] == signer_of(path) == fingerprint(path.with_suffix(".pub"))
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert main(["keygen", "--out", str(path)]) == 2


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_what_is_no_key_is_refused_before_anything_is_built(run: Path, tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "no.key").write_bytes(content)
    with pytest.raises(UsageError, match="not a key"):
        make_plan(run, Request("org/name", sign=tmp_path / "no.key"))
    with pytest.raises(UsageError, match="not a key"):
        fingerprint(tmp_path / "no.key")
    assert not (run / "bundle").exists()
