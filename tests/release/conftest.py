"""A tiny run that the default policy lets through, one Hub for all tests of this folder, and certificates to sign with."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from authority import MAIL, Authority, write_certificate, write_key
from cryptography.hazmat.primitives.asymmetric import ec
from tiny_run import OWNER, examine_here, make_checkpoint, write_run_record, write_scores

from release.certificates import CertificateKey, Roots
from release.hub_client import HubClient
from release.local_hub.server import RunningHub, running_hub


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """runs/tiny: a trained checkpoint with its record, its scores and its parent's. Copy it before changing it."""
    root = tmp_path_factory.mktemp("runs")
    parent = make_checkpoint(root / "base" / "checkpoint", seed=1)
    run = root / "tiny"
    checkpoint = make_checkpoint(run / "checkpoint", seed=2)
    write_run_record(run, checkpoint.digest, parent.digest)
    write_scores(run, checkpoint.digest, {"helpfulness": 0.6, "truthfulness": 0.5, "toxicity": 0.1})
    write_scores(run / "baseline", parent.digest, {"helpfulness": 0.5, "truthfulness": 0.5, "toxicity": 0.1})
    return run


@pytest.fixture
def run(tiny_run: Path, tmp_path: Path) -> Path:
    """A copy of the tiny run that a test may change."""
    return Path(shutil.copytree(tiny_run, tmp_path / "run"))


@pytest.fixture(scope="session")
def hub_with_owner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningHub, str]]:
    """A running Hub, and the token of its user OWNER."""
    with running_hub(tmp_path_factory.mktemp("hub")) as hub:
        yield hub, hub.store.create_user(OWNER)


@pytest.fixture
def hub(hub_with_owner: tuple[RunningHub, str], monkeypatch: pytest.MonkeyPatch) -> HubClient:
    """The owner's client of the shared Hub, by the same environment as the commands read; it waits for nothing."""
    running, token = hub_with_owner
    monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
    monkeypatch.setenv("HF_TOKEN", token)
    client = HubClient.connect()
    client.pauses = (0.0, 0.0)
    return client


@pytest.fixture
def repo_id(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own on the shared Hub."""
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)[-60:].strip("-")
    while "--" in name:
        name = name.replace("--", "-")
    return f"{OWNER}/{name}"


@pytest.fixture
def load_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load what was downloaded in this process: a new one takes seconds, and other tests start it."""
    monkeypatch.setattr("release.downloaded.load_in_fresh_process", examine_here)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("other"))


@pytest.fixture(scope="module")
def signing(authority: Authority) -> CertificateKey:
    """A key, its certificate and its chain, without the root."""
    key = ec.generate_private_key(ec.SECP384R1())
    folder = authority.folder
    certificate = write_certificate(folder / "release.pem", authority.issue("Release signing", key, mail=MAIL))
    return CertificateKey(write_key(folder / "release.key", key), certificate, (folder / "issuing.pem",))


@pytest.fixture(scope="module")
def roots(authority: Authority) -> Roots:
    return Roots((authority.folder / "root.pem",))


@pytest.fixture
def other_signing(authority: Authority, tmp_path: Path) -> Callable[..., CertificateKey]:
    """Makes a signer of another certificate of the same authority."""

    def make(key: object = None, **differences: object) -> CertificateKey:
        made = key or ec.generate_private_key(ec.SECP256R1())
        certificate = authority.issue("Somebody else", made, **differences)  # type: ignore[arg-type]
        file = write_certificate(tmp_path / "else.pem", certificate)
        return CertificateKey(write_key(tmp_path / "else.key", made), file, (authority.folder / "issuing.pem",))  # type: ignore[arg-type]

    return make
