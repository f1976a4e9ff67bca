"""Keyless signatures: an identity at an OpenID Connect provider, to which sigstore gives a certificate for minutes.

    Keyless().signer()                       # KeylessSigner(identity=..., identity_provider=...); asks the network
    Identity("me@example.com", "https://accounts.google.com")    # who must have signed

Needs a network: sigstore's certificate authority knows the identity by its token, and its transparency log keeps identity
and signature, publicly and for ever. The token comes from a file, or from the CI system that this runs on (GitHub Actions,
GitLab, Buildkite, CircleCI, Google Cloud), or from a browser where a person sits at the terminal. An instance of one's own
is named by its trust configuration (`--trust-config`, sigstore's ClientTrustConfig).
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model_cards.signer import KeylessSigner
from training.command import log
from training.errors import HubError, UsageError

if TYPE_CHECKING:
    from sigstore.models import ClientTrustConfig
    from sigstore.oidc import IdentityToken

TRUSTED_KEYS = "tuf-repo-cdn.sigstore.dev, where sigstore's trusted keys are"
CHOICES = "python -m release keygen and --sign slipway.key sign without a network"  # what to do without sigstore
NO_CHOICE = "without one, verify leaves the signature out where no identity is asked for"


@dataclass
class Keyless:
    """What a release is signed with: whoever the token says. A token is asked for once, and again where it has expired.

    `identity` is the name that the certificate will carry, where `certified_name` does not tell it from the token.
    """

    token_file: Path | None = None
    trust_config: Path | None = None
    identity: str | None = None
    _token: IdentityToken | None = None

    def signer(self) -> KeylessSigner:
        """Who signs. Raises UsageError where nothing says who, HubError where sigstore cannot be reached."""
        token = self.token()
        return KeylessSigner(
            identity=self.identity or certified_name(claims_of(str(token)), token.identity),
            identity_provider=token.federated_issuer,
            trust_config=_fingerprint(self.trust_config) if self.trust_config else None,
        )

    def token(self) -> IdentityToken:
        """A token that is valid now, of the same identity as the one before."""
        before = self._token
        if before is None or not before.in_validity_period():
            self._token = self._ask()
        assert self._token is not None
        if before is not None and before.identity != self._token.identity:
            raise UsageError(
                "another identity than the release was planned for",
                expected=before.identity,
                found=self._token.identity,
                next_step="give a token of the first one, or run the command again",
            )
        return self._token

    def _ask(self) -> IdentityToken:
        from sigstore.oidc import IdentityError, IdentityToken, Issuer, detect_credential

        try:
            if self.token_file is not None:
                return IdentityToken(_read(self.token_file).strip())
            with reaching("the CI system's identity provider"):
                ambient = detect_credential()
            if ambient is not None:
                return IdentityToken(ambient)
        except IdentityError as error:
            raise UsageError(
                "the identity token says nobody for whom sigstore could sign now",
                where=str(self.token_file) if self.token_file else "the CI system's token",
                expected="a JSON Web Token for the audience sigstore that has not expired",
                found=str(error.__cause__ or error),
                next_step=f"fetch a new one; {CHOICES}",
            ) from error
        if not sys.stdin.isatty():
            raise UsageError(
                "nothing says who signs",
                where="--keyless",
                expected="a CI system with an identity, --identity-token FILE, or a terminal to sign in from a browser",
                found="none of these",
                next_step=f"give --identity-token FILE; {CHOICES}",
            )
        with reaching("sigstore's identity provider"):
            return Issuer(instance(self.trust_config).signing_config.get_oidc_url()).identity_token()


@dataclass(frozen=True)
class Identity:
    """Who must have signed: this identity, as this provider knows it."""

    identity: str
    provider: str
    trust_config: Path | None = None

    def told(self) -> str:
        return f"{self.identity} as {self.provider} knows it"


def instance(trust_config: Path | None, without: str = CHOICES) -> ClientTrustConfig:
    """The sigstore instance: its services, and the keys to trust. Of the public one they are fetched, and that is
    checked against what the sigstore package carries. Raises UsageError for a file that is none, HubError."""
    from sigstore.models import ClientTrustConfig

    if trust_config is None:
        log("fetching sigstore's trusted keys")
        with reaching(TRUSTED_KEYS, without):
            return ClientTrustConfig.production()
    try:
        return ClientTrustConfig.from_json(_read(trust_config))
    except UsageError:
        raise
    except Exception as error:  # whatever its parsers raise, it is no trust configuration
        raise UsageError(
            "this is no trust configuration of a sigstore instance",
            where=str(trust_config),
            expected="a ClientTrustConfig as JSON, with trustedRoot and signingConfig",
            found=f"{type(error).__name__}: {error}"[:200],
            next_step="ask whoever runs that instance for it, or leave --trust-config out for the public one",
        ) from error


def certified_name(claims: Mapping[str, Any], identity: str) -> str:
    """The name that the certificate will carry: of a CI system that of the workflow, which is another than the token's
    subject; else `identity`, the token's e-mail address or subject. After sigstore's own configuration of its certificate
    authority (sigstore/fulcio, config/identity/config.yaml); what is signed is held against it."""
    if "job_workflow_ref" in claims:  # GitHub Actions
        return f"https://github.com/{claims['job_workflow_ref']}"
    if "ci_config_ref_uri" in claims:  # GitLab
        return f"https://{claims['ci_config_ref_uri']}"
    if "organization_slug" in claims and "pipeline_slug" in claims:
        return f"https://buildkite.com/{claims['organization_slug']}/{claims['pipeline_slug']}"
    circle = "oidc.circleci.com/"
    if f"{circle}pipeline-definition-id" in claims:
        project, definition = claims[f"{circle}project-id"], claims[f"{circle}pipeline-definition-id"]
        return f"https://circleci.com/api/v2/projects/{project}/pipeline-definitions/{definition}"
    return str(claims.get("email", identity))


def claims_of(token: str) -> dict[str, Any]:
    """What a JSON Web Token says (RFC 7519), which IdentityToken has found to be one. Nobody's signature is checked here:
    that is the certificate authority's part."""
    middle = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4))))


@contextmanager
def reaching(what: str, without: str = CHOICES) -> Iterator[None]:
    """Turn what sigstore raises where a service cannot be reached, or refuses, into HubError."""
    import requests
    from sigstore import errors
    from sigstore.oidc import ExpiredIdentity, IdentityError, IssuerError

    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        ours = (errors.Error, IssuerError, ExpiredIdentity, requests.RequestException)
        service = type(error).__module__.startswith(
            "sigstore._internal."
        )  # FulcioClientError and the like are not public
        if isinstance(error, IdentityError) or not (isinstance(error, ours) or service):
            raise
        raise HubError(
            f"sigstore did not answer as a keyless signature needs it: {what}",
            where=what,
            found=_cause(error),
            next_step=f"try again where there is a network; {without}",
        ) from error


def _cause(error: BaseException) -> str:
    """The first cause, which says more than what wraps it."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    return f"{type(error).__name__}: {error}"[:300]


def _fingerprint(file: Path) -> str:
    return f"sha256:{hashlib.sha256(_read(file).encode()).hexdigest()}"


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError("this file cannot be read", where=str(file), found=str(error)[:200]) from error
