"""What stands in a signature's file: the statement, the certificates beside it, and what its log says. Nothing is checked here.

statement(folder / SIGNATURE)["subject"][0]["name"]
kind(folder / SIGNATURE)                    # "key", "certificate", "keyless"; None where the file is damaged
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from sigstore_models.bundle.v1 import Bundle

if TYPE_CHECKING:
    from cryptography.x509 import Certificate


def read_bundle(file: Path) -> Bundle:
    """The bundle. Raises ValueError where the file is none, or not written as model-signing writes them: white space and the
    like are not covered by the signature."""
    text = file.read_text(encoding="utf-8")
    bundle = Bundle.from_json(text)
    if bundle.to_json() != text:
        raise ValueError("the file is not written as a signature is")
    return bundle


def statement(file: Path) -> dict[str, Any]:
    """The in-toto statement in a bundle."""
    envelope = Bundle.from_json(file.read_text(encoding="utf-8")).dsse_envelope
    assert envelope is not None  # model-signing writes no other kind
    return dict(json.loads(envelope.payload))


def certificates(file: Path) -> list[Certificate]:
    """The certificate that signed and those that go with it, copies of itself left out; none where no certificate did."""
    from cryptography.x509 import load_der_x509_certificate

    chain = Bundle.from_json(file.read_text(encoding="utf-8")).verification_material.x509_certificate_chain
    found = [load_der_x509_certificate(one.raw_bytes) for one in chain.certificates] if chain else []
    return found[:1] + [certificate for certificate in found[1:] if certificate != found[0]]


def logged(file: Path) -> str:
    """Since when the log has a keyless signature, which sigstore has checked; nothing where another service says the time."""
    entries = Bundle.from_json(file.read_text(encoding="utf-8")).verification_material.tlog_entries
    moments = [datetime.fromtimestamp(entry.integrated_time, UTC) for entry in entries if entry.integrated_time]
    return f", in the log since {moments[0].isoformat()}" if moments else ""


def kind(file: Path) -> Literal["key", "certificate", "keyless"] | None:
    """What signed; None where the file does not say."""
    try:
        material = json.loads(file.read_text(encoding="utf-8"))["verificationMaterial"]
        if material.get("publicKey"):
            return "key"
        if material.get("x509CertificateChain"):
            return "certificate"
        return "keyless" if material.get("certificate") else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
