"""The signature of a release: one in-toto statement in a sigstore bundle over all its files.

    sign(run / "bundle", Path("slipway.key"), subject("org/name", "v1.0.0"), keep=run / SIGNATURE)
    findings = check(snapshot, files_of(snapshot), Path("slipway.pub"), "org/name", "v1.0.0")

What signs is a key's file, a CertificateKey, or Keyless; what checks is a public key's file, Roots, or an Identity. Statement
and bundle are those of the OpenSSF's model-signing, so whoever has that tool can check a release without Slipway. The
statement names every file by its SHA-256, plan.json among them, which says repository, tag, the checkpoint's digest,
scorecard, run record, policy, the gates' verdicts and who signs. Its subject is the repository and the tag: a release that is
copied to another repository, or to another tag, is signed for the first one.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from model_cards.signer import Signer, told, verify_options
from release import certificates
from release.bundle import PLAN
from release.certificate_check import certificate_findings, no_path
from release.certificate_check import expected as expected_certificate
from release.certificates import CertificateKey, Roots
from release.hub_files import HUB_OWN_FILE
from release.keyless import NO_CHOICE, TRUSTED_KEYS, Identity, Keyless, instance, reaching
from release.records import Finding, ReleasePlan
from release.signature_bundle import certificates as certificates_in
from release.signature_bundle import kind, logged, read_bundle, statement
from release.signing_keys import fingerprint, fingerprint_of, load_private_key, pem
from training.checkpoint import FileEntry
from training.command import log
from training.errors import UsageError
from training.records import write_atomically

if TYPE_CHECKING:
    from model_signing import hashing, verifying

SIGNATURE = "slipway.sigstore.json"
SignWith = Path | CertificateKey | Keyless  # a path is that of a private key
Trust = Path | Roots | Identity  # a path is that of a public key


def signer_of(with_what: SignWith) -> Signer:
    """Who will sign, as plan.json records it. Raises UsageError where that cannot or must not sign, HubError where it
    needs a network that is not there."""
    if isinstance(with_what, CertificateKey):
        return certificates.signer_of(*with_what.load())
    if isinstance(with_what, Keyless):
        signer = with_what.signer()
        instance(with_what.trust_config)  # what cannot be reached must be known before the gates are asked
        return signer
    return fingerprint_of(load_private_key(with_what).public_key())


def require_usable(trust: Trust) -> None:
    """Raises UsageError where what is to check is no key and no root, HubError where it needs a network that is not there."""
    if isinstance(trust, Roots):
        trust.load()
    elif isinstance(trust, Identity):
        instance(trust.trust_config, NO_CHOICE)
    else:
        fingerprint(trust)


def subject(repo_id: str, tag: str) -> str:
    """The name that the statement is about."""
    return f"{repo_id.replace('/', '--')}@{tag}"


def sign(bundle: Path, with_what: SignWith, name: str, keep: Path) -> None:
    """Write `bundle`/SIGNATURE over every other file of the bundle, and a copy of it to `keep`.

    A signature differs each time that it is made. Where `keep` already holds one by this signer over these very bytes it
    is taken again, so that a publication that is planned twice is one release.
    """
    with tempfile.TemporaryDirectory(prefix="slipway-sign-") as scratch:
        named = Path(scratch) / name  # model-signing takes the subject's name from the directory's
        named.symlink_to(bundle.resolve(), target_is_directory=True)
        if keep.is_file():
            write_atomically(bundle / SIGNATURE, keep.read_bytes())
            if _still_signs(named, with_what, Path(scratch)) and statement(keep)["subject"][0]["name"] == name:
                return
            (bundle / SIGNATURE).unlink()
        made = Path(scratch) / SIGNATURE
        _make(named, with_what, made)
        if isinstance(with_what, Keyless):
            _require_identity(named, with_what, made)
        write_atomically(keep, made.read_bytes())
        write_atomically(bundle / SIGNATURE, made.read_bytes())


def check(directory: Path, entries: Iterable[FileEntry], trust: Trust, repo_id: str, tag: str) -> list[Finding]:
    """Who signed, for which repository and tag, and whether every file is as it was signed.

    `entries` are the files of `directory` as they were hashed. Raises UsageError where `trust` is no key or root.
    """
    expected = _expected(trust)
    if not (directory / SIGNATURE).is_file():
        return [_finding("signature", SIGNATURE, expected, "the release is not signed")]
    if (other := _other_kind(directory / SIGNATURE, trust)) is not None:
        return [_finding("kind", SIGNATURE, expected, f"a signature by {other}")]
    problem = _problem(directory, trust)
    if problem is not None and not problem.startswith("Signature mismatch"):  # of files, which are named below
        if isinstance(trust, Roots) and problem.startswith("X509StoreContextError"):
            leaf, *chain = certificates_in(directory / SIGNATURE)
            problem = no_path(leaf, chain, problem)
        return [_finding("signature", SIGNATURE, expected, problem)]
    said = statement(directory / SIGNATURE)
    about = str(said["subject"][0]["name"])
    wanted = subject(repo_id, tag)
    findings = [
        *_who(directory, trust, expected),
        Finding(
            check="subject",
            ok=about.casefold() == wanted.casefold(),
            subject=SIGNATURE,
            expected=f"signed for {wanted}",
            found=f"signed for {about}",
        ),
    ]
    signed = {resource["name"]: resource["digest"] for resource in said["predicate"]["resources"]}
    there = {entry.path: entry.sha256 for entry in entries if entry.path not in (SIGNATURE, HUB_OWN_FILE)}
    for path in sorted({*signed, *there}):
        ours = f"sha256 {signed[path]}" if path in signed else "no such file"
        theirs = f"sha256 {there[path]}" if path in there else "missing"
        findings.append(Finding(check="signed", ok=ours == theirs, subject=path, expected=ours, found=theirs))
    return findings


def _make(named: Path, with_what: SignWith, made: Path) -> None:
    """Sign the directory `named` into the file `made`."""
    from model_signing import signing

    config = signing.Config().set_hashing_config(_all_files())
    if isinstance(with_what, Keyless):
        with reaching("its certificate authority or its transparency log"):
            token = str(with_what.token())
            log(f"signing as {told(with_what.signer())}; the log of sigstore keeps that name for ever")
            config.use_sigstore_signer(identity_token=token, trust_config=with_what.trust_config).sign(named, made)
        return
    if isinstance(with_what, CertificateKey):
        leaf, *chain = _written(with_what, made.parent)
        config.use_certificate_signer(  # 1.1.1 takes no empty chain
            private_key=with_what.key, signing_certificate=leaf, certificate_chain=chain or [leaf]
        )
    else:
        config.use_elliptic_key_signer(private_key=with_what)
    config.sign(named, made)


def _require_identity(named: Path, with_what: Keyless, made: Path) -> None:
    """Raises UsageError where the signature is not by the identity that plan.json and card name."""
    signer = with_what.signer()
    trust = Identity(signer.identity, signer.identity_provider, with_what.trust_config)
    if (problem := _refusal(_verifier(trust), named, made)) is not None:
        raise UsageError(
            "sigstore's certificate does not name the identity that the plan names; nothing was sent to the Hub",
            where="--keyless",
            expected=trust.told(),
            found=problem,
            next_step="give --identity NAME as the certificate has it",
        )


def _written(with_what: CertificateKey, scratch: Path) -> list[Path]:
    """The certificate and its chain, each in a file of its own, for that is how model-signing reads them."""
    from cryptography.hazmat.primitives.serialization import Encoding

    leaf, chain = with_what.load()
    files = []
    for number, certificate in enumerate([leaf, *chain]):
        files.append(scratch / f"{number}.pem")
        files[-1].write_bytes(certificate.public_bytes(Encoding.PEM))
    return files


def _still_signs(named: Path, with_what: SignWith, scratch: Path) -> bool:
    """Whether the signature in `named` is by this very signer over these very bytes."""
    if isinstance(with_what, Keyless):
        signer = with_what.signer()
        return _problem(named, Identity(signer.identity, signer.identity_provider, with_what.trust_config)) is None
    public = scratch / "key.pub"
    if isinstance(with_what, Path):
        public.write_bytes(pem(load_private_key(with_what).public_key()))
        return _problem(named, public) is None
    # The key's part by model-signing's verifier of keys: that of certificates asks for a root, which a signer need not have.
    leaf, chain = with_what.load()
    if certificates_in(named / SIGNATURE) != [leaf, *chain]:
        return False
    key = leaf.public_key()
    public.write_bytes(pem(key))  # type: ignore[arg-type]  # load has refused other kinds
    bundle = json.loads((named / SIGNATURE).read_text(encoding="utf-8"))
    hint = fingerprint_of(key).removeprefix("sha256:")  # type: ignore[arg-type]
    bundle["verificationMaterial"] = {"publicKey": {"hint": hint}, "tlogEntries": []}
    (scratch / "by-key.json").write_text(json.dumps(bundle), encoding="utf-8")
    return _refusal(_verifier(public), named, scratch / "by-key.json") is None


def _expected(trust: Trust) -> str:
    if isinstance(trust, Roots):
        return expected_certificate(trust)
    return f"a signature by {trust.told() if isinstance(trust, Identity) else f'the key {fingerprint(trust)}'}"


def _who(directory: Path, trust: Trust, expected: str) -> list[Finding]:
    """Who signed, once the signature itself holds."""
    if isinstance(trust, Roots):
        leaf, *chain = certificates_in(directory / SIGNATURE)
        return certificate_findings(leaf, chain, trust, _plan(directory), SIGNATURE)
    since = logged(directory / SIGNATURE) if isinstance(trust, Identity) else ""
    return [Finding(check="signature", ok=True, subject=SIGNATURE, expected=expected, found=f"{expected}{since}")]


def _other_kind(file: Path, trust: Trust) -> str | None:
    """What signed, in words, where `trust` checks another kind of signature; None where it is of that kind, or damaged."""
    found = kind(file)
    if found is None or found == {Roots: "certificate", Identity: "keyless"}.get(type(trust), "key"):
        return None
    named = _plan(file.parent)
    if named is None or named.signer is None:
        return {"key": "a key", "certificate": "a certificate", "keyless": "an identity without a key"}[found]
    return f"{told(named.signer)};{verify_options(named.signer)} checks it"


def _plan(directory: Path) -> ReleasePlan | None:
    """The release's plan.json, where it can be read."""
    try:
        return ReleasePlan.read(directory / PLAN)
    except UsageError:
        return None


def _problem(directory: Path, trust: Trust) -> str | None:
    """What is wrong with the signature of a directory, in model-signing's words; None where nothing is."""
    try:
        read_bundle(directory / SIGNATURE)
    except Exception as error:  # noqa: BLE001 - whatever a damaged bundle makes its parsers raise, it is no signature
        return _words(error)
    return _refusal(_verifier(trust), directory, directory / SIGNATURE)


def _verifier(trust: Trust) -> verifying.Config:
    from model_signing import verifying

    config = verifying.Config().set_hashing_config(_all_files())
    if isinstance(trust, Roots):
        return config.use_certificate_verifier(certificate_chain=list(trust.files))
    if isinstance(trust, Identity):
        with reaching(TRUSTED_KEYS, NO_CHOICE):
            return config.use_sigstore_verifier(
                identity=trust.identity, oidc_issuer=trust.provider, trust_config=trust.trust_config
            )
    return config.use_elliptic_key_verifier(public_key=trust)


def _refusal(verifier: verifying.Config, directory: Path, file: Path) -> str | None:
    """Why model-signing refuses the signature in `file` over a directory; None where it does not."""
    from cryptography.exceptions import InvalidSignature

    try:
        verifier.verify(directory, file)
    except InvalidSignature:
        return "the signature is not of this statement by this key"
    except Exception as error:  # noqa: BLE001 - the same
        return _words(error)
    return None


def _words(error: Exception) -> str:
    return f"{'' if isinstance(error, ValueError) else type(error).__name__ + ': '}{error}".strip()[:400]


def _all_files() -> hashing.Config:
    """Hash every file but the signature and the Hub's own; a Hub's cache holds links to files."""
    from model_signing import hashing

    return hashing.Config().set_allow_symlinks(True).set_ignored_paths(paths=[SIGNATURE])


def _finding(check: str, about: str, expected: str, found: str) -> Finding:
    return Finding(check=check, ok=False, subject=about, expected=expected, found=found)
