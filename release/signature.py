"""The signature of a release: one in-toto statement in a sigstore bundle over all its files, made and checked offline.

    fingerprint = make_key(Path("slipway.key"))                     # and slipway.pub beside it
    sign(run / "bundle", Path("slipway.key"), subject("org/name", "v1.0.0"), keep=run / SIGNATURE)
    findings = check(snapshot, files_of(snapshot), Path("slipway.pub"), "org/name", "v1.0.0")

Statement and bundle are those of the OpenSSF's model-signing, so whoever has that tool can check a release without
Slipway. It names every file by its SHA-256, plan.json among them, which says repository, tag, the checkpoint's digest,
scorecard, run record, policy and the gates' verdicts. Its subject is the repository and the tag: a release that is copied
to another repository, or to another tag, is signed for the first one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from release.hub_files import HUB_OWN_FILE
from release.records import Finding
from training.checkpoint import FileEntry
from training.errors import UsageError
from training.records import write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from model_signing import hashing

SIGNATURE = "slipway.sigstore.json"
CURVES = ("secp256r1", "secp384r1", "secp521r1")


def make_key(path: Path) -> str:
    """Write a new private key to `path`, readable by its owner only, and its public half to `path` with .pub; the
    fingerprint. Raises UsageError where either file exists already."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    public = path.with_suffix(".pub")
    for file in (path, public):
        if file.exists():
            raise UsageError("a key is never overwritten", where=str(file), next_step="give another --out")
    key = ec.generate_private_key(ec.SECP256R1())
    path.parent.mkdir(parents=True, exist_ok=True)
    content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(content)
    write_atomically(public, _pem(key.public_key()))
    return _fingerprint(key.public_key())


def signer_of(private_key: Path) -> str:
    """The fingerprint of a private key's public half. Raises UsageError where the file is no such key."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_key.read_bytes(), password=None)
    except FileNotFoundError as error:
        raise _no_key(private_key, "no such file") from error
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise _no_key(private_key, str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise _no_key(private_key, type(key).__name__)
    return _fingerprint(key.public_key())


def fingerprint(public_key: Path) -> str:
    """`sha256:` and the SHA-256 of a public key's PEM, as the bundle names it. Raises UsageError where it is none."""
    return _fingerprint(_public(public_key))


def subject(repo_id: str, tag: str) -> str:
    """The name that the statement is about."""
    return f"{repo_id.replace('/', '--')}@{tag}"


def sign(bundle: Path, private_key: Path, name: str, keep: Path) -> None:
    """Write `bundle`/SIGNATURE over every other file of the bundle, and a copy of it to `keep`.

    A signature differs each time that it is made. Where `keep` already holds one by this key over these very bytes it
    is taken again, so that a publication that is planned twice is one release.
    """
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from model_signing import signing

    with tempfile.TemporaryDirectory(prefix="slipway-sign-") as scratch:
        public = Path(scratch) / "key.pub"
        key = load_pem_private_key(private_key.read_bytes(), password=None)
        public.write_bytes(_pem(key.public_key()))  # type: ignore[arg-type]  # signer_of has refused other kinds
        named = Path(scratch) / name  # model-signing takes the subject's name from the directory's
        named.symlink_to(bundle.resolve(), target_is_directory=True)
        if keep.is_file():
            write_atomically(bundle / SIGNATURE, keep.read_bytes())
            if _problem(named, public) is None and _statement(keep)["subject"][0]["name"] == name:
                return
            (bundle / SIGNATURE).unlink()
        made = Path(scratch) / SIGNATURE
        signing.Config().set_hashing_config(_all_files()).use_elliptic_key_signer(private_key=private_key).sign(
            named, made
        )
        write_atomically(keep, made.read_bytes())
        write_atomically(bundle / SIGNATURE, made.read_bytes())


def check(directory: Path, entries: Iterable[FileEntry], public_key: Path, repo_id: str, tag: str) -> list[Finding]:
    """Who signed, for which repository and tag, and whether every file is as it was signed.

    `entries` are the files of `directory` as they were hashed. Raises UsageError where `public_key` is no key.
    """
    expected = f"a signature by the key {fingerprint(public_key)}"
    if not (directory / SIGNATURE).is_file():
        return [_finding("signature", SIGNATURE, expected, "the release is not signed")]
    problem = _problem(directory, public_key)
    if problem is not None and not problem.startswith("Signature mismatch"):  # of files, which are named below
        return [_finding("signature", SIGNATURE, expected, problem)]
    statement = _statement(directory / SIGNATURE)
    about = str(statement["subject"][0]["name"])
    wanted = subject(repo_id, tag)
    findings = [
        Finding(check="signature", ok=True, subject=SIGNATURE, expected=expected, found=expected),
        Finding(
            check="subject",
            ok=about.casefold() == wanted.casefold(),
            subject=SIGNATURE,
            expected=f"signed for {wanted}",
            found=f"signed for {about}",
        ),
    ]
    signed = {resource["name"]: resource["digest"] for resource in statement["predicate"]["resources"]}
    there = {entry.path: entry.sha256 for entry in entries if entry.path not in (SIGNATURE, HUB_OWN_FILE)}
    for path in sorted({*signed, *there}):
        ours = f"sha256 {signed[path]}" if path in signed else "no such file"
        theirs = f"sha256 {there[path]}" if path in there else "missing"
        findings.append(Finding(check="signed", ok=ours == theirs, subject=path, expected=ours, found=theirs))
    return findings


def _problem(directory: Path, public_key: Path) -> str | None:
    """What is wrong with the signature of a directory, in model-signing's words; None where nothing is."""
    from cryptography.exceptions import InvalidSignature
    from model_signing import verifying
    from sigstore_models.bundle.v1 import Bundle

    file = directory / SIGNATURE
    try:
        text = file.read_text(encoding="utf-8")
        if Bundle.from_json(text).to_json() != text:  # white space and the like are not covered by the signature
            return "the file is not written as a signature is"
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
        verifier.set_hashing_config(_all_files()).verify(directory, file)
    except InvalidSignature:
        return "the signature is not of this statement by this key"
    except Exception as error:  # noqa: BLE001 - whatever a damaged bundle makes its parsers raise, it is no signature
        return f"{'' if isinstance(error, ValueError) else type(error).__name__ + ': '}{error}".strip()[:400]
    return None


def _statement(file: Path) -> dict[str, Any]:
    """The in-toto statement in a bundle."""
    from sigstore_models.bundle.v1 import Bundle

    envelope = Bundle.from_json(file.read_text(encoding="utf-8")).dsse_envelope
    assert envelope is not None  # model-signing writes no other kind
    return dict(json.loads(envelope.payload))


def _all_files() -> hashing.Config:
    """Hash every file but the signature and the Hub's own; a Hub's cache holds links to files."""
    from model_signing import hashing

    return hashing.Config().set_allow_symlinks(True).set_ignored_paths(paths=[SIGNATURE])


def _public(file: Path) -> EllipticCurvePublicKey:
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(file.read_bytes())
    except FileNotFoundError as error:
        raise _no_key(file, "no such file") from error
    except ValueError as error:
        raise _no_key(file, str(error)) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise _no_key(file, type(key).__name__)
    return key


def _pem(key: EllipticCurvePublicKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _fingerprint(key: EllipticCurvePublicKey) -> str:
    return f"sha256:{hashlib.sha256(_pem(key)).hexdigest()}"


def _no_key(file: Path, found: str) -> UsageError:
    return UsageError(
        "this is not a key to sign or check with",
        where=str(file),
        expected="a PEM file, not encrypted, with a key on one of " + ", ".join(CURVES),
        found=re.sub(r"\s+", " ", found)[:200],
        next_step="python -m release keygen --out slipway.key makes one; its public half is slipway.pub",
    )


def _finding(check: str, about: str, expected: str, found: str) -> Finding:
    return Finding(check=check, ok=False, subject=about, expected=expected, found=found)
