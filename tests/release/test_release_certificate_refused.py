"""What must not sign a release, and options that do not go together, are refused before anything is built."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from authority import Authority, key_usage, write_certificate
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from release.__main__ import main
from release.certificates import CertificateKey, Roots
from release.plan import make_plan
from release.request import Request
from release.signing_keys import make_key
from training.errors import UsageError

Change = Callable[..., CertificateKey]


@pytest.mark.parametrize(
    ("differences", "what"),
    [
        ({"end": -timedelta(hours=1)}, "the certificate has expired"),
        ({"start": timedelta(hours=1)}, "the certificate is not valid yet"),
        ({"purposes": (ExtendedKeyUsageOID.SERVER_AUTH,)}, "this certificate is not for signing"),
        ({"usage": key_usage(issues=True)}, "this certificate is not for signing"),
        ({"key": rsa.generate_private_key(65537, 2048)}, "model-signing signs with elliptic curves only"),
        ({"key": ec.generate_private_key(ec.SECP256K1())}, "model-signing signs with elliptic curves only"),
    ],
)
def test_what_must_not_sign_is_refused_before_anything_is_built(
    run: Path, other_signing: Change, differences: dict[str, object], what: str
) -> None:
    with pytest.raises(UsageError, match=what) as refusal:
        make_plan(run, Request("org/name", sign=other_signing(**differences)))
    assert refusal.value.found
    assert refusal.value.next_step
    assert not (run / "bundle").exists()


def test_a_key_a_chain_or_a_file_that_does_not_belong_to_the_certificate_is_named(
    run: Path, signing: CertificateKey, other: Authority, tmp_path: Path
) -> None:
    make_key(tmp_path / "other.key")
    none = tmp_path / "none.pem"
    for with_what, what, where in (
        (CertificateKey(tmp_path / "other.key", signing.certificate, signing.chain), "does not belong", "other.key"),
        (
            CertificateKey(signing.key, signing.certificate, (other.folder / "root.pem",)),
            "chain does not lead",
            "release.pem",
        ),
        (CertificateKey(signing.key, none), "no certificate here", "none.pem"),
        (CertificateKey(none, signing.certificate), "not a key", "none.pem"),
        (CertificateKey(signing.key, signing.key), "no certificate here", "release.key"),
    ):
        with pytest.raises(UsageError, match=what) as refusal:
            make_plan(run, Request("org/name", sign=with_what))
        assert where in str(refusal.value.where)
        assert refusal.value.next_step
    assert not (run / "bundle").exists()


def test_a_file_with_the_whole_chain_is_as_good_as_a_file_for_each(
    signing: CertificateKey, authority: Authority, tmp_path: Path
) -> None:
    leaf, chain = signing.load()
    whole = write_certificate(tmp_path / "fullchain.pem", leaf, *chain)
    assert CertificateKey(signing.key, whole).load() == (leaf, chain)
    assert CertificateKey(signing.key, signing.certificate, (whole,)).load() == (leaf, chain)


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--sign-cert", "a.pem"], "--sign-cert without --sign"),
        (["--sign", "a.key", "--cert-chain", "b.pem"], "--cert-chain without --sign-cert"),
        (["--sign", "a.key", "--keyless"], "a release has one signature"),
        (["--identity-token", "token"], "--identity-token without --keyless"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    run: Path, words: list[str], what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "--run", str(run), "--repo", "org/name", *words]) == 2
    assert what in capsys.readouterr().err


def test_a_certificate_that_another_one_issued_is_no_root(authority: Authority) -> None:
    with pytest.raises(UsageError, match="not a root"):
        Roots((authority.folder / "issuing.pem",)).load()


def test_the_signer_s_own_address_is_no_secret_and_anybody_else_s_is(run: Path, signing: CertificateKey) -> None:
    verdicts = {one.gate: one for one in make_plan(run, Request("org/name", sign=signing)).verdicts}
    assert verdicts["no_personal_data"].outcome == "passed"
    record = json.loads((run / "run.json").read_text())
    record["recipe"]["note"] = "ask somebody@slipway.dev"
    (run / "run.json").write_text(json.dumps(record))
    verdicts = {one.gate: one for one in make_plan(run, Request("org/name", sign=signing)).verdicts}
    assert verdicts["no_personal_data"].outcome == "refused"
