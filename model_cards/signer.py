"""Who signs a release, as plan.json records it and as the card tells it: a key, a certificate, or an identity.

signer: Signer = "sha256:9f2c..."                       # a key, by its fingerprint
verify_options(signer)                                  # " --key slipway.pub"
told(signer)                                            # "the key sha256:9f2c..."
sentences(signer)                                       # what the card says of it
"""

from __future__ import annotations

import shlex

from evals.presentation import markdown_text
from training.records import Record


class CertificateSigner(Record):
    """A certificate (X.509) whose key signs. Names as RFC 4514 writes them; fingerprints are of the certificates' DER."""

    subject: str
    name: str  # by which `--identity` asks for it: e-mail address, URI or common name, whichever it has first
    issuer: str
    fingerprint: str
    chain: list[str]  # fingerprints of the certificates that go with it, in their order
    not_before: str
    not_after: str


class KeylessSigner(Record):
    """An identity at an OpenID Connect provider, to which sigstore gives a certificate for minutes."""

    identity: str
    identity_provider: str
    trust_config: str | None = (
        None  # fingerprint of a sigstore instance's own trust configuration; None: the public one
    )


Signer = str | CertificateSigner | KeylessSigner


def told(signer: Signer) -> str:
    """The signer in words, in full."""
    if isinstance(signer, CertificateSigner):
        name = "" if signer.name in signer.subject else f" ({signer.name})"
        return f"the certificate {signer.fingerprint} of {signer.subject}{name}, issued by {signer.issuer}"
    if isinstance(signer, KeylessSigner):
        return f"{signer.identity} as {signer.identity_provider} knows it, without a key"
    return f"the key {signer}"


def verify_options(signer: Signer | None) -> str:
    """What `release verify` has to be given beside the id, with a space before it; files by the names of the examples."""
    if isinstance(signer, CertificateSigner):
        return f" --cert-root root.pem --identity {shlex.quote(signer.name)}"
    if isinstance(signer, KeylessSigner):
        config = " --trust-config trust.json" if signer.trust_config else ""
        provider = shlex.quote(signer.identity_provider)
        return f" --identity {shlex.quote(signer.identity)} --identity-provider {provider}{config}"
    return " --key slipway.pub" if signer else ""


def sentences(signer: Signer | None) -> str | None:
    """What the card says of who signed, as Markdown; None where nobody did."""
    if signer is None:
        return None
    end = (
        "one in-toto statement over every file, `slipway.sigstore.json`, that the OpenSSF's "
        f"`{_other_tool(signer)}` checks as well."
    )
    if isinstance(signer, CertificateSigner):
        return (
            f"It is signed with the certificate of {markdown_text(signer.subject)} (SHA-256 `{signer.fingerprint}`), issued by "
            f"{markdown_text(signer.issuer)} and valid from {signer.not_before[:10]} to {signer.not_after[:10]}: {end} Get the "
            "root's certificate, `root.pem`, from whoever vouches for it, not from here."
        )
    if isinstance(signer, KeylessSigner):
        private = (
            f" `trust.json` is the trust configuration of the sigstore instance (SHA-256 `{signer.trust_config}`); get it "
            "from whoever runs that, not from here."
            if signer.trust_config
            else ""
        )
        who = f"{markdown_text(signer.identity)}, as {markdown_text(signer.identity_provider)} knows it"
        return f"It is signed by {who}, without a key: {end}{private}"
    return (
        f"It is signed by the key `{signer}` (SHA-256 of the public key's PEM file; get that file from its owner, not from "
        f"here): {end}"
    )


def _other_tool(signer: Signer) -> str:
    """The command of the OpenSSF's model-signing that checks the same."""
    if isinstance(signer, CertificateSigner):
        return "model_signing verify certificate"
    return "model_signing verify sigstore" if isinstance(signer, KeylessSigner) else "model_signing verify key"
