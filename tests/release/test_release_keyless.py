"""A release signed without a key: by whoever an identity token says, on a sigstore instance of the test's own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from authority import Authority
from signed_release import found_wrong, published
from sigstore_here import Sigstore, running_sigstore
from tiny_run import OWNER

from model_cards.signer import KeylessSigner
from release.__main__ import main
from release.bundle import PLAN, files_of
from release.certificates import Roots
from release.hub_client import HubClient
from release.keyless import Identity, Keyless, certified_name
from release.local_hub.server import RunningHub
from release.plan import make_plan, plan_for
from release.records import Receipt, ReleasePlan
from release.request import Request
from release.signature import SIGNATURE, check
from training.errors import HubError, UsageError

ME = "me@slipway.dev"
REPO = f"{OWNER}/keyless"
wrong = partial(found_wrong, repo_id=REPO)


@pytest.fixture(scope="module")
def sigstore(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sigstore]:
    with running_sigstore(tmp_path_factory.mktemp("sigstore")) as running:
        yield running


@pytest.fixture(autouse=True)
def no_ambient_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the tests themselves run in a CI system, its identity is not theirs."""
    for name in [
        name for name in os.environ if name.startswith(("GITHUB_", "ACTIONS_", "SIGSTORE_", "BUILDKITE", "CIRCLE"))
    ]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def released(
    tiny_run: Path,
    hub_with_owner: tuple[RunningHub, str],
    sigstore: Sigstore,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Path, Receipt]]:
    sign = Keyless(sigstore.token(email=ME), sigstore.trust_config)
    with published(REPO, tiny_run, tmp_path_factory.mktemp("keyless"), hub_with_owner, sign) as made:
        yield made


@pytest.fixture
def folder(tmp_path: Path, released: tuple[Path, Receipt]) -> Path:
    return Path(shutil.copytree(released[0] / "bundle", tmp_path / "folder"))


def identity(sigstore: Sigstore, name: str = ME, provider: str | None = None) -> Identity:
    return Identity(name, provider or sigstore.url, sigstore.trust_config)


def options(trust: Identity) -> list[str]:
    words = ["--identity", trust.identity, "--identity-provider", trust.provider]
    return [*words, "--trust-config", str(trust.trust_config)] if trust.trust_config else words


def test_whoever_knows_identity_and_provider_checks_every_file_and_learns_since_when_the_log_has_it(
    released: tuple[Path, Receipt],
    hub: HubClient,
    load_here: None,
    sigstore: Sigstore,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verify", "slipway/keyless@v1.0.0", *options(identity(sigstore))]) == 0
    said = capsys.readouterr().out
    assert f"a signature by {ME} as {sigstore.url} knows it, in the log since 20" in said


def test_another_identity_another_provider_and_another_kind_are_exit_4(
    released: tuple[Path, Receipt],
    hub: HubClient,
    load_here: None,
    sigstore: Sigstore,
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verify", "slipway/keyless@v1.0.0", *options(identity(sigstore, "you@slipway.dev"))]) == 4
    error = capsys.readouterr().err
    assert f"actual SANs: {{'{ME}'}}" in error
    assert f"it names --identity {ME} --identity-provider {sigstore.url} --trust-config trust.json" in error
    found = wrong(folder, identity(sigstore, provider="https://accounts.google.com"))
    assert list(found) == ["signature"]
    other = Authority.make(tmp_path / "ca")
    found = wrong(folder, Roots((other.folder / "root.pem",)))
    assert list(found) == ["kind"]
    assert f"--identity {ME}" in str(found["kind"])


def test_another_instance_has_not_signed_it(folder: Path, sigstore: Sigstore, tmp_path: Path) -> None:
    other = Sigstore(tmp_path, sigstore.url)
    other.write_trust_config()
    assert list(wrong(folder, Identity(ME, sigstore.url, other.trust_config))) == ["signature"]


def test_a_changed_file_and_a_changed_byte_of_the_signature_are_found(folder: Path, sigstore: Sigstore) -> None:
    assert wrong(folder, identity(sigstore)) == {}
    (folder / "config.json").write_text("{}")
    assert list(wrong(folder, identity(sigstore))) == ["config.json"]
    shutil.copy(folder / PLAN, folder / "config.json")
    entries = files_of(folder)
    whole = (folder / SIGNATURE).read_bytes()
    unbound = range(whole.index("— log.here".encode()), whole.index(b"log.here ") + 9)  # the log's name beside its mark
    for place in range(0, len(whole), 101):
        changed = bytearray(whole)
        changed[place] ^= 1
        (folder / SIGNATURE).write_bytes(changed)
        findings = check(folder, entries, identity(sigstore), REPO, "v1.0.0")
        assert place in unbound or any(one.check == "signature" and not one.ok for one in findings), place


def test_the_field_s_own_tool_accepts_the_signature(folder: Path, sigstore: Sigstore) -> None:
    words = [sys.executable, "-m", "model_signing", "verify", "sigstore", str(folder), "--identity", ME]
    words += ["--signature", str(folder / SIGNATURE), "--identity_provider", sigstore.url]
    finished = subprocess.run(
        [*words, "--trust_config", str(sigstore.trust_config)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr + finished.stdout


def test_plan_receipt_and_card_name_the_identity_and_a_second_plan_makes_no_second_log_entry(
    released: tuple[Path, Receipt], sigstore: Sigstore
) -> None:
    run, receipt = released
    signer = receipt.signer
    assert isinstance(signer, KeylessSigner)
    assert (signer.identity, signer.identity_provider) == (ME, sigstore.url)
    plan = ReleasePlan.read(run / PLAN)
    assert plan.signer == signer
    card = (run / "bundle" / "README.md").read_text()
    assert f"--identity {ME} --identity-provider {sigstore.url} --trust-config trust.json\n" in card
    entries = sigstore.entries
    again = Request(receipt.repo_id, sign=Keyless(sigstore.token(email=ME), sigstore.trust_config))
    assert plan_for(run, again) == plan
    assert make_plan(run, again) == plan
    assert sigstore.entries == entries


def test_a_workflow_s_certificate_names_the_workflow_and_not_the_token_s_subject(run: Path, sigstore: Sigstore) -> None:
    workflow = "org/train/.github/workflows/release.yaml@refs/heads/main"
    token = sigstore.token(sub="repo:org/train:ref:refs/heads/main", job_workflow_ref=workflow)
    plan = make_plan(run, Request("org/name", sign=Keyless(token, sigstore.trust_config)))
    assert isinstance(plan.signer, KeylessSigner)
    assert plan.signer.identity == f"https://github.com/{workflow}"
    assert (run / "bundle" / SIGNATURE).is_file()


def test_names_in_certificates_by_the_claims_of_each_ci_system() -> None:
    assert certified_name({"ci_config_ref_uri": "gitlab.com/g/p//.gitlab-ci.yml@refs/heads/main"}, "sub") == (
        "https://gitlab.com/g/p//.gitlab-ci.yml@refs/heads/main"
    )
    assert certified_name({"organization_slug": "o", "pipeline_slug": "p"}, "sub") == "https://buildkite.com/o/p"
    circle = {"oidc.circleci.com/project-id": "1", "oidc.circleci.com/pipeline-definition-id": "2"}
    assert certified_name(circle, "sub") == "https://circleci.com/api/v2/projects/1/pipeline-definitions/2"
    assert certified_name({"email": ME}, "sub") == ME
    assert certified_name({}, "sub") == "sub"


def test_a_certificate_of_another_name_than_the_plan_s_is_refused_before_anything_is_sent(
    run: Path, hub: HubClient, repo_id: str, sigstore: Sigstore, capsys: pytest.CaptureFixture[str]
) -> None:
    token = sigstore.token(sub="spiffe://slipway.dev/release")  # this instance certifies it as tester@slipway.dev
    words = ["publish", "--run", str(run), "--repo", repo_id, "--keyless", "--identity-token", str(token)]
    words += ["--trust-config", str(sigstore.trust_config)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "actual SANs: {'tester@slipway.dev'}" in error
    assert "next:     give --identity NAME" in error
    assert hub.repository(repo_id) is None
    assert main(["plan", *words[1:], "--identity", "tester@slipway.dev"]) == 0


def test_without_a_token_an_expired_one_and_what_is_none_are_exit_2_before_anything_is_built(
    run: Path, sigstore: Sigstore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "none").write_text("hello")
    for words, what in (
        ([], "nothing says who signs"),
        (["--identity-token", str(sigstore.token(email=ME, expires=-10))], "Signature has expired"),
        (["--identity-token", str(tmp_path / "none")], "the identity token says nobody"),
        (["--identity-token", str(tmp_path / "missing")], "this file cannot be read"),
    ):
        assert main(["plan", "--run", str(run), "--repo", "org/name", "--keyless", *words]) == 2
        assert what in capsys.readouterr().err
    assert not (run / "bundle").exists()


def test_what_is_no_trust_configuration_is_refused(run: Path, sigstore: Sigstore, tmp_path: Path) -> None:
    (tmp_path / "trust.json").write_text("{}")
    with pytest.raises(UsageError, match="no trust configuration"):
        make_plan(run, Request("org/name", sign=Keyless(sigstore.token(email=ME), tmp_path / "trust.json")))


def test_where_sigstore_cannot_be_reached_it_is_exit_5_before_anything_is_sent(
    run: Path, hub: HubClient, repo_id: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with running_sigstore(tmp_path) as gone:
        token = gone.token(email=ME)
    words = ["publish", "--run", str(run), "--repo", repo_id, "--keyless", "--identity-token", str(token)]
    assert main([*words, "--trust-config", str(gone.trust_config)]) == 5
    error = capsys.readouterr().err
    assert "sigstore did not answer" in error
    assert "ConnectionRefusedError" in error
    assert hub.repository(repo_id) is None
    assert not (run / PLAN).exists()


def test_a_certificate_authority_that_refuses_the_token_is_exit_5(
    run: Path, sigstore: Sigstore, tmp_path: Path
) -> None:
    foreign = Path(shutil.copy(sigstore.token(email=ME), tmp_path / "token"))
    head, middle, _ = foreign.read_text().strip().split(".")
    foreign.write_text(f"{head}.{middle}.c29tZWJvZHkgZWxzZSdzIHNpZ25hdHVyZQ")
    with pytest.raises(HubError, match="401"):
        make_plan(run, Request("org/name", sign=Keyless(foreign, sigstore.trust_config)))


def test_the_public_instance_s_keys_are_asked_for_before_anything_is_downloaded(
    released: tuple[Path, Receipt],
    hub: HubClient,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing listens there: a network that leads nowhere
    assert main(["verify", "slipway/keyless@v1.0.0", *options(Identity(ME, "https://accounts.google.com"))]) == 5
    error = capsys.readouterr().err
    assert "sigstore's trusted keys" in error
    assert "downloading" not in error
