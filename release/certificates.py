"""Certificates (X.509) that sign releases: read, checked before they sign, and followed to a root that is trusted.

    with_key = CertificateKey(key=Path("release.key"), certificate=Path("release.pem"), chain=(Path("issuing.pem"),))
    with_key.load()                         # (certificate, chain); raises UsageError where these must not sign
    Roots((Path("root.pem"),)).load()
    path_to_root(certificate, chain, roots)  # [certificate, ..., root], or []

No network: nothing is asked about revocation. Whether a certificate may sign is RFC 5280's question (4.2.1.3 and 4.2.1.12):
where it limits the use of its key, signatures must be among the uses, and where it names purposes, signing code must be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from model_cards.signer import CertificateSigner
from release.signing_keys import CURVES, fingerprint_of, load_private_key
from training.errors import UsageError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

USAGE = "a key usage of digitalSignature and, where purposes are named, codeSigning among them"


@dataclass(frozen=True)
class CertificateKey:
    """What a release is signed with: a private key, its certificate, and the certificates between that and a root.

    `certificate` may hold the chain too, after the certificate itself, as such files often do.
    """

    key: Path
    certificate: Path
    chain: tuple[Path, ...] = ()

    def load(self) -> tuple[Certificate, list[Certificate]]:
        """The certificate and its chain. Raises UsageError where they must not sign now, or cannot."""
        leaf, *chain = read_certificates(self.certificate)
        chain += [certificate for file in self.chain for certificate in read_certificates(file)]
        chain = [certificate for certificate in chain if certificate != leaf]  # a full chain begins with it
        self._require_pair(leaf)
        for certificate in (leaf, *chain):
            _require_valid(certificate, self.certificate, datetime.now(UTC))
        if (found := usage_problem(leaf)) is not None:
            raise UsageError(
                "this certificate is not for signing",
                where=str(self.certificate),
                expected=USAGE,
                found=found,
                next_step="ask whoever issued it for one for signing code",
            )
        _require_chain(leaf, chain, self.certificate)
        return leaf, chain

    def _require_pair(self, leaf: Certificate) -> None:
        from cryptography.hazmat.primitives.asymmetric import ec

        theirs = leaf.public_key()
        if not isinstance(theirs, ec.EllipticCurvePublicKey) or theirs.curve.name not in CURVES:
            raise UsageError(
                "model-signing signs with elliptic curves only",
                where=str(self.certificate),
                expected="a certificate of a key on one of " + ", ".join(CURVES),
                found=type(theirs).__name__ if not isinstance(theirs, ec.EllipticCurvePublicKey) else theirs.curve.name,
                next_step="openssl ecparam -name prime256v1 -genkey -noout -out release.key, and have that certified",
            )
        ours = load_private_key(self.key).public_key()
        if ours != theirs:
            raise UsageError(
                "the key does not belong to the certificate",
                where=f"{self.key} and {self.certificate}",
                expected=f"the certificate's key {fingerprint_of(theirs)}",
                found=f"the key {fingerprint_of(ours)}",
                next_step="give the key that this certificate was issued for as --sign KEY",
            )


@dataclass(frozen=True)
class Roots:
    """Who may have signed: certificates that lead to one of these roots; with `identity`, the one of that name only."""

    files: tuple[Path, ...]
    identity: str | None = None

    def load(self) -> list[Certificate]:
        """The roots. Raises UsageError where a file holds none, or a certificate that another one issued."""
        roots = []
        for file in self.files:
            for certificate in read_certificates(file):
                if not _issued(certificate, certificate):
                    raise UsageError(
                        "this certificate is not a root",
                        where=str(file),
                        expected="a certificate that issued itself",
                        found=f"{certificate.subject.rfc4514_string()}, issued by {certificate.issuer.rfc4514_string()}",
                        next_step="give the root's; what lies between it and the signer comes with the signature",
                    )
                roots.append(certificate)
        return roots


def read_certificates(file: Path) -> list[Certificate]:
    """Every certificate of a PEM file, in order. Raises UsageError where there is none."""
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(file.read_bytes())
    except (OSError, ValueError) as error:
        missing = isinstance(error, OSError)
        raise UsageError(
            "there is no certificate here",
            where=str(file),
            expected="a PEM file with -----BEGIN CERTIFICATE-----",
            found=(error.strerror or str(error)) if isinstance(error, OSError) else str(error)[:200],
            next_step="give the path of the certificate"
            if missing
            else "openssl x509 -in FILE -inform DER -out FILE.pem makes one of DER",
        ) from error


def signer_of(leaf: Certificate, chain: Sequence[Certificate]) -> CertificateSigner:
    """The certificate as plan.json records it."""
    return CertificateSigner(
        subject=leaf.subject.rfc4514_string(),
        name=names(leaf)[0],
        issuer=leaf.issuer.rfc4514_string(),
        fingerprint=fingerprint(leaf),
        chain=[fingerprint(certificate) for certificate in chain],
        not_before=leaf.not_valid_before_utc.isoformat(),
        not_after=leaf.not_valid_after_utc.isoformat(),
    )


def fingerprint(certificate: Certificate) -> str:
    """`sha256:` and the SHA-256 of the certificate's DER, as `openssl x509 -fingerprint -sha256` shows it."""
    from cryptography.hazmat.primitives.hashes import SHA256

    return f"sha256:{certificate.fingerprint(SHA256()).hex()}"


def names(certificate: Certificate) -> list[str]:
    """The names that a certificate is for: e-mail addresses and URIs, where it has none its common names, and last its whole
    subject. A common name beside other names is no name to ask for (as RFC 6125, 6.4.4, has it for servers)."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    found: list[str] = []
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        found += alternatives.get_values_for_type(x509.RFC822Name)
        found += alternatives.get_values_for_type(x509.UniformResourceIdentifier)
    except x509.ExtensionNotFound:
        pass
    if not found:
        found = [str(part.value) for part in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    return [*found, certificate.subject.rfc4514_string()]


def usage_problem(certificate: Certificate) -> str | None:
    """Why a certificate is not for signing, by what it says of its use; None where it is."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    said = []
    try:
        if not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return "a key usage without digitalSignature"
        said.append("digitalSignature")
    except x509.ExtensionNotFound:
        pass
    try:
        purposes = list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        if not {ExtendedKeyUsageOID.CODE_SIGNING, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & set(purposes):
            known = {oid: name.lower() for name, oid in vars(ExtendedKeyUsageOID).items()}
            return "other purposes: " + ", ".join(known.get(one, one.dotted_string) for one in purposes)
        said.append("codeSigning")
    except x509.ExtensionNotFound:
        pass
    return None if said else "neither a key usage nor a purpose"  # which model-signing does not accept either


def path_to_root(leaf: Certificate, chain: Sequence[Certificate], roots: Sequence[Certificate]) -> list[Certificate]:
    """The certificates from `leaf` to one of `roots`, each issued by the next; none where there is no such path."""
    path, left = [leaf], [certificate for certificate in chain if certificate != leaf]
    while path[-1] not in roots:
        trusted = next((root for root in roots if _issued(path[-1], root)), None)
        if trusted is not None:
            return [*path, trusted]
        issuer = next((certificate for certificate in left if _issued(path[-1], certificate)), None)
        if issuer is None:
            return []
        path.append(issuer)
        left.remove(issuer)
    return path


def outside(path: Sequence[Certificate], moment: datetime) -> Certificate | None:
    """The first certificate that is not valid at that moment."""
    return next(
        (one for one in path if not one.not_valid_before_utc <= moment <= one.not_valid_after_utc),
        None,
    )


def validity(certificate: Certificate) -> str:
    """From when to when, to the second."""
    return f"{certificate.not_valid_before_utc.isoformat()} to {certificate.not_valid_after_utc.isoformat()}"


def _require_valid(certificate: Certificate, file: Path, moment: datetime) -> None:
    if outside([certificate], moment) is None:
        return
    expired = certificate.not_valid_after_utc < moment
    raise UsageError(
        "the certificate has expired" if expired else "the certificate is not valid yet",
        where=f"{file}, {certificate.subject.rfc4514_string()}",
        expected=f"one that is valid now, {moment.isoformat(timespec='seconds')}",
        found=f"valid from {validity(certificate)}",
        next_step="have it renewed by whoever issued it; what was signed before continues with python -m release resume --run DIR"
        if expired
        else "look at this machine's clock, or wait",
    )


def _require_chain(leaf: Certificate, chain: list[Certificate], file: Path) -> None:
    """Raises UsageError where a certificate of the chain did not issue the one before it."""
    below = leaf
    for certificate in chain:
        if not _issued(below, certificate):
            raise UsageError(
                "the chain does not lead from the certificate to its root",
                where=str(file),
                expected=f"next in the chain the issuer of {below.subject.rfc4514_string()}, "
                f"{below.issuer.rfc4514_string()}",
                found=certificate.subject.rfc4514_string(),
                next_step="give --cert-chain the files in order: the issuer's, then that one's issuer's",
            )
        below = certificate


def _issued(certificate: Certificate, issuer: Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
