"""A certificate authority for tests: a root, an issuing certificate below it, and whatever that issues."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
DAY = timedelta(days=1)
MAIL = "releases@slipway.dev"  # whom the certificate that signs is of


def name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def key_usage(*, signs: bool = False, issues: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(signs, False, False, False, False, issues, issues, False, False)


def write_key(file: Path, key: Key) -> Path:
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return file


def write_certificate(file: Path, *certificates: x509.Certificate) -> Path:
    file.write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in certificates))
    return file


def authority(common: str, key: ec.EllipticCurvePrivateKey, above: Authority | None = None) -> x509.Certificate:
    """A certificate that may issue others; its own issuer, where `above` is None."""
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name(common))
        .issuer_name(above.issuing.subject if above else name(common))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 1000 * DAY)
        .not_valid_after(now + 1000 * DAY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(key_usage(issues=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(above.issuing_key if above else key, hashes.SHA256())
    )


@dataclass(frozen=True)
class Authority:
    """A folder with root.pem and issuing.pem, and the key that issues."""

    folder: Path
    root: x509.Certificate
    issuing: x509.Certificate
    issuing_key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls, folder: Path) -> Authority:
        folder.mkdir(parents=True, exist_ok=True)
        root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
        root = authority(f"Root of {folder.name}", root_key)
        issuing = authority("Issuing", key, cls(folder, root, root, root_key))
        write_certificate(folder / "root.pem", root)
        write_certificate(folder / "issuing.pem", issuing)
        return cls(folder, root, issuing, key)

    def issue(
        self,
        common: str,
        key: Key,
        *,
        start: timedelta = -DAY,
        end: timedelta = 30 * DAY,
        usage: x509.KeyUsage | None = None,
        purposes: tuple[x509.ObjectIdentifier, ...] = (ExtendedKeyUsageOID.CODE_SIGNING,),
        mail: str | None = None,
    ) -> x509.Certificate:
        """A certificate for signing, or for what `usage` and `purposes` say, valid from `start` to `end` from now."""
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(common))
            .issuer_name(self.issuing.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + start)
            .not_valid_after(now + end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage or key_usage(signs=True), critical=True)
        )
        if purposes:
            builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if mail:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.RFC822Name(mail)]), critical=False)
        return builder.sign(self.issuing_key, hashes.SHA256())
