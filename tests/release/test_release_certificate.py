"""A release signed with a certificate is checked by whoever trusts its root: who signed, and whether the certificate was valid."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from authority import DAY, MAIL, Authority, write_certificate, write_key
from authority import authority as ca
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import Certificate
from cryptography.x509.oid import ExtendedKeyUsageOID
from signed_release import found_wrong, published
from tiny_run import OWNER

from model_cards.signer import CertificateSigner
from release.__main__ import main
from release.bundle import PLAN, files_of
from release.certificates import CertificateKey, Roots, fingerprint, read_certificates, signer_of
from release.hub_client import HubClient
from release.local_hub.server import RunningHub
from release.plan import make_plan, plan_for
from release.publish import publish
from release.records import Receipt, ReleasePlan
from release.request import Request
from release.signature import SIGNATURE, check, sign, subject
from release.signing_keys import make_key
from release.verify import verify
from training.errors import UsageError

REPO = f"{OWNER}/certified"
wrong = partial(found_wrong, repo_id=REPO)
Change = Callable[..., CertificateKey]


@pytest.fixture(scope="module")
def released(
    tiny_run: Path,
    hub_with_owner: tuple[RunningHub, str],
    signing: CertificateKey,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, Receipt]]:
    with published(REPO, tiny_run, tmp_path_factory.mktemp("certified"), hub_with_owner, signing) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path, released: tuple[Path, Receipt]) -> Path:
    """The bundle of the release, to be changed."""
    return Path(shutil.copytree(released[0] / "bundle", tmp_path / "folder"))


def signed_at(folder: Path, moment: datetime, with_what: CertificateKey) -> None:
    """Sign the folder again with a plan.json that says this time and this certificate, and nothing else that is not so."""
    plan = ReleasePlan.read(folder / PLAN)
    update = {"created": moment.isoformat(), "signer": signer_of(*loaded(with_what))}
    plan.model_copy(update=update).write(folder / PLAN)
    signed_without_looking(folder, with_what)


def loaded(with_what: CertificateKey) -> tuple[Certificate, list[Certificate]]:
    """What CertificateKey.load gives, without its questions."""
    (leaf,) = read_certificates(with_what.certificate)
    return leaf, [one for file in with_what.chain for one in read_certificates(file)]


def signed_without_looking(folder: Path, with_what: CertificateKey) -> None:
    """The signature of somebody who does not ask whether the certificate is for that: model-signing's own."""
    from model_signing import hashing, signing

    (folder / SIGNATURE).unlink()
    named = folder.parent / subject(REPO, "v1.0.0")
    named.symlink_to(folder, target_is_directory=True)
    config = signing.Config().set_hashing_config(hashing.Config().set_allow_symlinks(True))
    config.use_certificate_signer(
        private_key=with_what.key, signing_certificate=with_what.certificate, certificate_chain=with_what.chain
    ).sign(named, folder / SIGNATURE)


def test_a_stranger_with_the_root_alone_learns_who_signed_every_file_and_when_the_certificate_was_valid(
    released: tuple[Path, Receipt],
    hub: HubClient,
    load_here: None,
    authority: Authority,
    signing: CertificateKey,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, receipt = released
    words = [
        "verify",
        "slipway/certified@v1.0.0",
        "--cert-root",
        str(authority.folder / "root.pem"),
        "--identity",
        MAIL,
    ]
    assert main(words) == 0
    said = capsys.readouterr().out
    leaf, _ = signing.load()
    assert (
        f"CN=Release signing (certificate {fingerprint(leaf)}), under the root {authority.root.subject.rfc4514_string()}"
        in said
    )
    assert "so also when it signed" in said
    verification = verify(hub, receipt.repo_id, "v1.0.0", receipt, Roots((authority.folder / "root.pem",)))
    assert verification.mismatches == []
    covered = {finding.subject for finding in verification.findings if finding.check == "signed"}
    assert covered == {entry.path for entry in receipt.files} | {PLAN}


def test_without_a_root_the_release_only_says_of_itself_who_signed_it(
    released: tuple[Path, Receipt], hub: HubClient, load_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "slipway/certified@v1.0.0"]) == 0
    said = capsys.readouterr().out
    assert f"of CN=Release signing ({MAIL}), issued by CN=Issuing, as the release says itself" in said
    assert f"--cert-root root.pem --identity {MAIL} checks it" in said


def test_another_root_another_name_and_a_key_are_each_exit_4_and_say_what_was_found(
    released: tuple[Path, Receipt],
    hub: HubClient,
    load_here: None,
    authority: Authority,
    other: Authority,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_key(tmp_path / "k.key")
    root = str(authority.folder / "root.pem")
    for words, found in (
        (
            ["--cert-root", str(other.folder / "root.pem")],
            f"from CN=Release signing to {authority.root.subject.rfc4514_string()}",
        ),
        (["--cert-root", root, "--identity", "me@slipway.dev"], f"a certificate of {MAIL}, CN=Release signing"),
        (["--key", str(tmp_path / "k.pub")], f"; --cert-root root.pem --identity {MAIL} checks it"),
    ):
        assert main(["verify", "slipway/certified@v1.0.0", *words]) == 4
        error = capsys.readouterr().err
        assert found in error
        assert "next:     do not use it, unless you expected another" in error


def test_a_release_signed_by_a_key_does_not_pass_for_one_signed_with_a_certificate(
    tmp_path: Path, folder: Path, roots: Roots
) -> None:
    make_key(tmp_path / "k.key")
    plan = ReleasePlan.read(folder / PLAN)
    plan.model_copy(update={"signer": "sha256:1234"}).write(folder / PLAN)
    (folder / SIGNATURE).unlink()
    sign(folder, tmp_path / "k.key", subject(REPO, "v1.0.0"), keep=tmp_path / SIGNATURE)
    assert wrong(folder, tmp_path / "k.pub") == {}
    assert wrong(folder, roots) == {"kind": "a signature by the key sha256:1234; --key slipway.pub checks it"}


def test_a_changed_an_added_and_a_missing_file_are_each_named(folder: Path, roots: Roots) -> None:
    assert wrong(folder, roots) == {}
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[100_000] ^= 1
    (folder / "model.safetensors").write_bytes(content)
    (folder / "extra.txt").write_text("boo")
    (folder / "config.json").unlink()
    assert set(wrong(folder, roots)) == {"model.safetensors", "extra.txt", "config.json"}


def test_no_byte_of_the_signature_may_change_its_certificates_included(folder: Path, roots: Roots) -> None:
    file = folder / SIGNATURE
    whole = file.read_bytes()
    entries = files_of(folder)
    for place in range(0, len(whole), 29):
        changed = bytearray(whole)
        changed[place] ^= 1
        file.write_bytes(changed)
        findings = check(folder, entries, roots, REPO, "v1.0.0")
        assert not all(finding.ok for finding in findings), f"byte {place}: {whole[place - 10 : place + 10]!r}"


def test_a_certificate_that_had_expired_when_it_signed_is_found_and_one_that_expired_since_is_said(
    folder: Path, roots: Roots, other_signing: Change
) -> None:
    old = other_signing(start=-40 * DAY, end=-10 * DAY)
    signed_at(folder, datetime.now(UTC) - 5 * DAY, old)
    found = wrong(folder, roots)
    assert set(found) == {"valid"}
    assert found["valid"] is not None
    assert found["valid"].startswith("CN=Somebody else is valid from")
    (folder.parent / subject(REPO, "v1.0.0")).unlink()
    signed_at(folder, datetime.now(UTC) - 20 * DAY, old)
    (valid,) = [one for one in check(folder, files_of(folder), roots, REPO, "v1.0.0") if one.check == "valid"]
    assert valid.ok
    assert valid.found is not None
    assert "it has expired since, on" in valid.found


@pytest.mark.parametrize("damaged", ["2026-11-28T16:32:01+0p:00", "2026-11-28T16:32:01"])
def test_a_plan_json_whose_time_is_damaged_is_named_and_is_no_bug(folder: Path, roots: Roots, damaged: str) -> None:
    plan = ReleasePlan.read(folder / PLAN)
    plan.model_copy(update={"created": damaged}).write(folder / PLAN)
    assert wrong(folder, roots).keys() == {"valid", PLAN}


def test_a_certificate_for_web_servers_under_the_same_root_signs_nothing(
    folder: Path, roots: Roots, other_signing: Change
) -> None:
    signed_at(folder, datetime.now(UTC), other_signing(purposes=(ExtendedKeyUsageOID.SERVER_AUTH,)))
    assert wrong(folder, roots) == {"usage": "other purposes: server_auth"}


def test_another_certificate_of_the_same_root_is_not_the_one_that_plan_json_names(
    folder: Path, roots: Roots, other_signing: Change
) -> None:
    signed_without_looking(folder, other_signing())
    assert set(wrong(folder, roots)) == {"certificate"}


def test_the_field_s_own_tool_accepts_the_signature(folder: Path, authority: Authority) -> None:
    words = [sys.executable, "-m", "model_signing", "verify", "certificate", str(folder)]
    words += ["--signature", str(folder / SIGNATURE), "--certificate_chain", str(authority.folder / "root.pem")]
    finished = subprocess.run(words, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr + finished.stdout


def test_card_plan_and_receipt_name_the_certificate_and_the_command_that_checks_it(
    released: tuple[Path, Receipt], signing: CertificateKey
) -> None:
    run, receipt = released
    named = signer_of(*signing.load())
    assert named.name == MAIL
    assert len(named.chain) == 1
    assert ReleasePlan.read(run / PLAN).signer == Receipt.read(run / "receipt.json").signer == receipt.signer == named
    card = (run / "bundle" / "README.md").read_text()
    assert f"release verify slipway/certified@v1.0.0 --cert-root root.pem --identity {MAIL}\n" in card
    assert f"with the certificate of CN=Release signing (SHA-256 `{named.fingerprint}`), issued by CN=Issuing" in card
    assert "`model_signing verify certificate`" in card


def test_a_killed_publication_continues_with_the_same_signature_and_another_signer_needs_another_tag(
    run: Path,
    hub: HubClient,
    repo_id: str,
    load_here: None,
    signing: CertificateKey,
    other_signing: Change,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    first = make_plan(run, Request(repo_id, sign=signing))
    signature = (run / "bundle" / SIGNATURE).read_bytes()
    assert make_plan(run, Request(repo_id, sign=signing)) == first
    assert (run / "bundle" / SIGNATURE).read_bytes() == signature
    with monkeypatch.context() as patched:
        patched.setattr("release.publish.Publication._promote", die)
        with pytest.raises(KeyboardInterrupt):
            publish(run, hub)
    assert plan_for(run, Request(repo_id, sign=signing)) == first
    assert plan_for(run, Request(repo_id)) == first, "what was signed elsewhere is published as it is"
    assert main(["resume", "--run", str(run)]) == 0
    assert f"--cert-root root.pem --identity {MAIL}" in capsys.readouterr().out
    assert (run / "bundle" / SIGNATURE).read_bytes() == signature
    with pytest.raises(UsageError, match="was released from this run already"):
        plan_for(run, Request(repo_id, sign=other_signing()))
    assert (run / "bundle" / SIGNATURE).read_bytes() == signature
    second = plan_for(run, Request(repo_id, tag="v1.0.1", sign=other_signing()))
    assert isinstance(second.signer, CertificateSigner)
    assert second.signer.subject == "CN=Somebody else"
    assert (run / "bundle" / SIGNATURE).read_bytes() != signature


def test_a_certificate_that_issued_itself_signs_too_and_is_its_own_root(
    folder: Path, tmp_path: Path, roots: Roots
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    itself = Authority(tmp_path, ca("Myself", key), ca("Myself", key), key).issue("Myself", key)
    with_what = CertificateKey(write_key(tmp_path / "me.key", key), write_certificate(tmp_path / "me.pem", itself))
    ReleasePlan.read(folder / PLAN).model_copy(update={"signer": signer_of(itself, [])}).write(folder / PLAN)
    for _ in range(2):
        (folder / SIGNATURE).unlink()
        sign(folder, with_what, subject(REPO, "v1.0.0"), keep=tmp_path / SIGNATURE)
        assert wrong(folder, Roots((with_what.certificate,))) == {}
    assert wrong(folder, roots) == {
        "signature": "its certificates lead from CN=Myself to CN=Myself (self-signed certificate)"
    }


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--key", "a.pub", "--cert-root", "root.pem"], "a release has one signature"),
        (["--identity", "me"], "a name alone proves nothing"),
        (["--identity-provider", "https://provider.example"], "--identity-provider without --identity"),
        (["--cert-root", "missing.pem"], "there is no certificate here"),
    ],
)
def test_what_to_check_by_is_refused_before_anything_is_downloaded(
    released: tuple[Path, Receipt], hub: HubClient, words: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "slipway/certified@v1.0.0", *words]) == 2
    error = capsys.readouterr().err
    assert what in error
    assert "downloading" not in error
