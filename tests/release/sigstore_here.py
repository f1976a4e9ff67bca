"""A small instance of sigstore on loopback, for the public one cannot be reached from a test.

    with running_sigstore(folder) as sigstore:
        token = sigstore.token(email="me@slipway.dev")          # an identity token of its own provider
        sigstore.trust_config                                    # the file that --trust-config takes

It speaks what sigstore's unchanged client asks for: OpenID's discovery, Fulcio's certificates with an embedded and signed
certificate timestamp (RFC 6962), and Rekor's log of version 1 with signed entry timestamp, inclusion proof and checkpoint. All
are made with real keys, which the trust configuration names, so the client verifies them as it would the public instance's.
What it leaves out: the log is a new tree of one entry each time, nothing is kept, and there is no timestamp authority.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
from authority import authority, key_usage
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

TIMESTAMPS = x509.ObjectIdentifier("1.3.6.1.4.1.11129.2.4.2")  # RFC 6962, 3.3
ISSUER = x509.ObjectIdentifier("1.3.6.1.4.1.57264.1.1")  # Fulcio's extension with the identity provider
SECRET = "the provider's own, of a length that HS256 takes"


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def log_id(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(public(key)).digest()


def signature(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


@dataclass
class Sigstore:
    """The instance's keys, and the answers that it gives."""

    folder: Path
    url: str = ""
    authority_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    timestamp_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    log_key: ec.EllipticCurvePrivateKey = field(default_factory=new_key)
    entries: int = 0

    def __post_init__(self) -> None:
        self.root = authority("sigstore here", self.authority_key)

    @property
    def trust_config(self) -> Path:
        return self.folder / "trust.json"

    def token(self, *, expires: float = 300, **claims: str) -> Path:
        """A file with an identity token of the provider; `sub` is "tester" unless claimed otherwise."""
        now = time.time()
        said = {"iss": self.url, "sub": "tester", "aud": "sigstore", "iat": now - 600, "exp": now + expires, **claims}
        file = self.folder / "token"
        file.write_text(jwt.encode(said, SECRET, algorithm="HS256") + "\n")
        return file

    def write_trust_config(self) -> None:
        since = {"start": "2020-01-01T00:00:00Z"}
        service = [{"url": self.url, "majorApiVersion": 1, "validFor": since, "operator": "here"}]

        def log(key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
            named = {"rawBytes": b64(public(key)), "keyDetails": "PKIX_ECDSA_P256_SHA_256", "validFor": since}
            known = {"baseUrl": self.url, "hashAlgorithm": "SHA2_256", "publicKey": named}
            return known | {"logId": {"keyId": b64(log_id(key))}}

        root = {"certificates": [{"rawBytes": b64(self.root.public_bytes(Encoding.DER))}]}
        about = {"organization": "here", "commonName": "sigstore here"}
        trusted = {
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [log(self.log_key)],
            "certificateAuthorities": [{"subject": about, "uri": self.url, "certChain": root, "validFor": since}],
            "ctlogs": [log(self.timestamp_key)],
            "timestampAuthorities": [],
        }
        signing = {
            "mediaType": "application/vnd.dev.sigstore.signingconfig.v0.2+json",
            **dict.fromkeys(("caUrls", "oidcUrls", "rekorTlogUrls"), service),
            "tsaUrls": [],
            "rekorTlogConfig": {"selector": "ANY"},
            "tsaConfig": {"selector": "ANY"},
        }
        kind = "application/vnd.dev.sigstore.clienttrustconfig.v0.1+json"
        self.trust_config.write_text(json.dumps({"mediaType": kind, "trustedRoot": trusted, "signingConfig": signing}))

    def certify(self, token: str, request: bytes) -> list[str]:
        """Fulcio: a certificate of ten minutes for whoever the token says, and the root, as PEM."""
        claims = jwt.decode(token, SECRET, algorithms=["HS256"], audience="sigstore")
        key = x509.load_pem_x509_csr(request).public_key()
        said = claims.get("job_workflow_ref")
        named: x509.GeneralName = x509.RFC822Name(claims.get("email", "tester@slipway.dev"))
        if said:
            named = x509.UniformResourceIdentifier(f"https://github.com/{said}")
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.root.subject)
            .public_key(key)  # type: ignore[arg-type]  # the client makes elliptic keys
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(seconds=5))
            .not_valid_after(now + timedelta(minutes=10))
            .add_extension(key_usage(signs=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .add_extension(x509.SubjectAlternativeName([named]), critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.authority_key.public_key()), critical=False
            )
            .add_extension(x509.UnrecognizedExtension(ISSUER, claims["iss"].encode()), critical=False)
        )
        before = builder.sign(self.authority_key, hashes.SHA256()).tbs_certificate_bytes
        stamped = builder.add_extension(x509.UnrecognizedExtension(TIMESTAMPS, self._stamp(before)), critical=False)
        certificate = stamped.sign(self.authority_key, hashes.SHA256())
        return [one.public_bytes(Encoding.PEM).decode() for one in (certificate, self.root)]

    def _stamp(self, certificate: bytes) -> bytes:
        """A signed certificate timestamp over a certificate without one, as the extension's DER (RFC 6962, 3.2 and 3.3)."""
        moment = int(time.time() * 1000)
        issuer = log_id(self.authority_key)  # RFC 6962's issuer_key_hash is made as a log's id is
        entry = issuer + struct.pack("!I", len(certificate))[1:] + certificate
        signed = signature(self.timestamp_key, struct.pack("!BBQH", 0, 0, moment, 1) + entry + struct.pack("!H", 0))
        stamp = struct.pack("!B32sQHBBH", 0, log_id(self.timestamp_key), moment, 0, 4, 3, len(signed)) + signed
        stamps = struct.pack("!HH", len(stamp) + 2, len(stamp)) + stamp
        assert len(stamps) < 128  # as DER's short form of a length has it
        return b"\x04" + bytes([len(stamps)]) + stamps

    def log(self, proposed: dict[str, Any]) -> dict[str, Any]:
        """Rekor: the entry of a DSSE envelope, in a tree of its own, with its promise, proof and checkpoint."""
        content = proposed["spec"]["proposedContent"]
        envelope = json.loads(content["envelope"])
        payload = base64.b64decode(envelope["payload"])
        spec = {
            "envelopeHash": {"algorithm": "sha256", "value": hashlib.sha256(content["envelope"].encode()).hexdigest()},
            "payloadHash": {"algorithm": "sha256", "value": hashlib.sha256(payload).hexdigest()},
            "signatures": [{"signature": envelope["signatures"][0]["sig"], "verifier": content["verifiers"][0]}],
        }
        body = json.dumps({"apiVersion": "0.0.1", "kind": "dsse", "spec": spec}, separators=(",", ":")).encode()
        root = hashlib.sha256(b"\0" + body).digest()
        name, identifier = "log.here", log_id(self.log_key)
        note = f"{name}\n1\n{b64(root)}\n"
        mark = b64(identifier[:4] + signature(self.log_key, note.encode()))
        entry = {
            "body": b64(body),
            "integratedTime": int(time.time()),
            "logID": identifier.hex(),
            "logIndex": self.entries,
        }
        self.entries += 1
        promise = json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()
        proof = {"logIndex": 0, "rootHash": root.hex(), "treeSize": 1, "hashes": []}
        proof["checkpoint"] = f"{note}\n\u2014 {name} {mark}\n"
        verification = {"inclusionProof": proof, "signedEntryTimestamp": b64(signature(self.log_key, promise))}
        return {root.hex(): entry | {"verification": verification}}


@contextmanager
def running_sigstore(folder: Path) -> Iterator[Sigstore]:
    sigstore = Sigstore(folder)

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            places = {"authorization_endpoint": f"{sigstore.url}/auth", "token_endpoint": f"{sigstore.url}/token"}
            self._answer(200, places)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/log/entries"):
                self._answer(201, sigstore.log(asked))
                return
            try:
                request = base64.b64decode(asked["certificateSigningRequest"])
                chain = sigstore.certify(self.headers["Authorization"].removeprefix("Bearer "), request)
            except jwt.InvalidTokenError as error:
                self._answer(401, {"code": 16, "message": str(error)})
                return
            self._answer(201, {"signedCertificateEmbeddedSct": {"chain": {"certificates": chain}}})

        def _answer(self, status: int, value: dict[str, Any]) -> None:
            content = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    sigstore.url = f"http://127.0.0.1:{server.server_port}"
    sigstore.write_trust_config()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield sigstore
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
