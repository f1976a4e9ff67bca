"""The keys that sign releases: made, read, and named by a fingerprint.

fingerprint = make_key(Path("slipway.key"))          # and slipway.pub beside it
fingerprint_of(load_private_key(Path("slipway.key")).public_key())
"""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from training.errors import UsageError
from training.records import write_atomically

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

CURVES = ("secp256r1", "secp384r1", "secp521r1")  # those that model-signing signs with


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
    write_atomically(public, pem(key.public_key()))
    return fingerprint_of(key.public_key())


def load_private_key(file: Path) -> EllipticCurvePrivateKey:
    """A private key. Raises UsageError where the file is no key that can sign."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise _no_key(file, error.strerror or str(error)) from error
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise _no_key(file, str(error)) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name not in CURVES:
        raise _no_key(file, type(key).__name__)
    return key


def load_public_key(file: Path) -> EllipticCurvePublicKey:
    """A public key. Raises UsageError where the file is no key that can have signed."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(file.read_bytes())
    except OSError as error:
        raise UsageError(
            "this is not a key to check with, for no such file can be read",
            where=str(file),
            expected="the file of a public key, as `release keygen` writes slipway.pub; not a name or a fingerprint",
            found=error.strerror or str(error),
            next_step="get that file from whoever signs the releases, not from the repository",
        ) from error
    except ValueError as error:
        raise _no_key(file, str(error)) from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in CURVES:
        raise _no_key(file, type(key).__name__)
    return key


def fingerprint(public_key: Path) -> str:
    """The fingerprint of a file with a public key. Raises UsageError where it is none."""
    return fingerprint_of(load_public_key(public_key))


def fingerprint_of(key: EllipticCurvePublicKey) -> str:
    """`sha256:` and the SHA-256 of a public key's PEM, as the bundle names it."""
    return f"sha256:{hashlib.sha256(pem(key)).hexdigest()}"


def pem(key: EllipticCurvePublicKey) -> bytes:
    """A public key as a PEM file has it."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _no_key(file: Path, found: str) -> UsageError:
    return UsageError(
        "this is not a key to sign or check with",
        where=str(file),
        expected="a PEM file, not encrypted, with a key on one of " + ", ".join(CURVES),
        found=re.sub(r"\s+", " ", found)[:200],
        next_step="python -m release keygen --out slipway.key makes one; its public half is slipway.pub",
    )
