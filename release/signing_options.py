"""How `release plan` and `publish` are told what to sign with, and `verify` what must have signed: options, and what they make.

    --sign KEY | --sign KEY --sign-cert CERT [--cert-chain FILE ...] | --keyless [--identity-token FILE]
    --key PUB  | --cert-root FILE ... [--identity NAME]              | --identity NAME --identity-provider URL

`--trust-config FILE` goes with the keyless ones, where sigstore is an instance of one's own.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from training.command import Parser, Result
from training.errors import UsageError

if TYPE_CHECKING:
    from release.signature import SignWith, Trust


def add_signing_options(command: argparse.ArgumentParser) -> None:
    options = command.add_argument_group("signing")
    options.add_argument("--sign", type=Path, metavar="KEY", help="sign the release with this private key (keygen)")
    options.add_argument("--sign-cert", type=Path, metavar="CERT", help="with --sign: the certificate of that key")
    options.add_argument(
        "--cert-chain",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="with --sign-cert: the certificates between it and its root, in order",
    )
    options.add_argument(
        "--keyless", action="store_true", help="sign by sigstore as whoever the identity token says; public, for ever"
    )
    options.add_argument(
        "--identity-token",
        type=Path,
        metavar="FILE",
        help="with --keyless: the token (default: the CI's, or a browser)",
    )
    options.add_argument(
        "--identity",
        metavar="NAME",
        help="with --keyless: the name in the certificate, where the token does not tell it",
    )
    _add_trust_config(options)


def add_trust_options(command: argparse.ArgumentParser) -> None:
    options = command.add_argument_group("who must have signed every file")
    options.add_argument("--key", type=Path, metavar="FILE", help="this public key")
    options.add_argument(
        "--cert-root",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="a certificate under one of these roots; with --identity the one of that name",
    )
    options.add_argument("--identity", metavar="NAME", help="this identity, with --identity-provider or --cert-root")
    options.add_argument(
        "--identity-provider", metavar="URL", help="the OpenID Connect provider that knows it (keyless)"
    )
    _add_trust_config(options)


def add_keygen_command(parser: Parser) -> None:
    keygen = parser.command("keygen", "Make a private key to sign releases with, and its public half.", run_keygen)
    keygen.add_argument("--out", type=Path, default=Path("slipway.key"), metavar="FILE", help="default: slipway.key")


def run_keygen(args: argparse.Namespace) -> Result:
    """`keygen`: the private key stays with the publisher, the public one goes to whoever is to check."""
    from release.signing_keys import make_key

    fingerprint, public = make_key(args.out), args.out.with_suffix(".pub")
    said = f"{args.out} signs (keep it secret), {public} checks (publish it where people know you)\n  key {fingerprint}"
    return {"summary": said, "private_key": str(args.out), "public_key": str(public), "fingerprint": fingerprint}


def sign_with(args: argparse.Namespace) -> SignWith | None:
    """What the options say to sign with; None where they say nothing, as those of `release check` do."""
    from release.certificates import CertificateKey
    from release.keyless import Keyless

    if not hasattr(args, "sign"):
        return None
    _require(args, "cert_chain", "sign_cert")
    _require(args, "sign_cert", "sign")
    _require(args, "identity_token", "keyless")
    _require(args, "identity", "keyless")
    _require(args, "trust_config", "keyless")
    if args.keyless and args.sign:
        raise UsageError(
            "a release has one signature", expected="--sign or --keyless", found="both", next_step="leave one out"
        )
    if args.keyless:
        return Keyless(args.identity_token, args.trust_config, args.identity)
    if args.sign_cert:
        return CertificateKey(args.sign, args.sign_cert, tuple(args.cert_chain))
    key: Path | None = args.sign
    return key


def must_have_signed(args: argparse.Namespace) -> Trust | None:
    """Who must have signed; None where the options say nothing."""
    from release.certificates import Roots
    from release.keyless import Identity

    given = [name for name in ("key", "cert_root", "identity_provider") if getattr(args, name)]
    if len(given) > 1:
        raise UsageError(
            "a release has one signature",
            expected="one of --key, --cert-root and --identity-provider",
            found=" and ".join(_option(name) for name in given),
            next_step="give the one that the release's card names",
        )
    _require(args, "identity_provider", "identity")
    _require(args, "trust_config", "identity_provider")
    if args.identity and not (args.identity_provider or args.cert_root):
        raise UsageError(
            "a name alone proves nothing",
            expected="--identity NAME with --identity-provider URL (keyless) or --cert-root FILE (certificate)",
            found=f"--identity {args.identity}",
            next_step="add the one that the release's card names",
        )
    if args.cert_root:
        return Roots(tuple(args.cert_root), args.identity)
    if args.identity_provider:
        return Identity(args.identity, args.identity_provider, args.trust_config)
    key: Path | None = args.key
    return key


def _add_trust_config(options: argparse._ArgumentGroup) -> None:
    options.add_argument(
        "--trust-config", type=Path, metavar="FILE", help="keyless, on a sigstore instance of one's own"
    )


def _require(args: argparse.Namespace, name: str, needed: str) -> None:
    """Raises UsageError where one option was given without the other that it belongs to."""
    if getattr(args, name) and not getattr(args, needed):
        raise UsageError(f"{_option(name)} without {_option(needed)}", next_step=f"give {_option(needed)} too")


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
