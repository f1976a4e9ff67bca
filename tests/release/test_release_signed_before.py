"""A release that nobody, or somebody else, signed after a signed one is told of; a key that is no file is said to be none."""

from __future__ import annotations

from pathlib import Path

import pytest
from releases import next_release
from tiny_run import change_weights, rescore

from release.__main__ import main
from release.hub_client import HubClient
from release.plan import make_plan, read_plan
from release.publish import publish
from release.request import Request
from release.signed_before import signed_before
from release.signing_keys import fingerprint, make_key
from training.run_record import RunRecord


@pytest.fixture
def key(tmp_path: Path) -> Path:
    make_key(tmp_path / "slipway.key")
    return tmp_path / "slipway.key"


def test_an_unsigned_release_after_a_signed_one_is_told_by_publish_and_by_verify(
    run: Path, hub: HubClient, repo_id: str, load_here: None, key: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_plan(run, Request(repo_id, tag="v1", sign=key))
    publish(run, hub)
    assert signed_before(hub, read_plan(run)) is None, "itself is no earlier one"
    parent = RunRecord.read(run / "run.json").parent("base")
    assert parent is not None
    rescore(
        run, change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(1)), parent.digest
    )
    said = f"v1 was signed by the key {fingerprint(key.with_suffix('.pub'))}; v2 is not signed"
    capsys.readouterr()
    assert main(["publish", "--run", str(run), "--repo", repo_id, "--tag", "v2"]) == 0
    assert f"warning: {said}" in capsys.readouterr().err
    assert main(["verify", repo_id]) == 0, "nothing says that it had to be signed"
    out = capsys.readouterr()
    assert f"warning: {said}" in out.out
    assert main(["verify", f"{repo_id}@v1"]) == 0
    assert "warning" not in capsys.readouterr().out
    assert main(["rollback", "--run", str(run)]) == 0
    capsys.readouterr()
    assert main(["verify", repo_id]) == 0
    assert "warning" not in capsys.readouterr().out, "main holds the signed one again"


def test_another_signer_is_told_and_the_same_one_is_not(
    run: Path, hub: HubClient, repo_id: str, load_here: None, key: Path, tmp_path: Path
) -> None:
    make_plan(run, Request(repo_id, tag="v1", sign=key))
    publish(run, hub)
    plan = read_plan(run)
    assert plan.signer is not None
    assert signed_before(hub, plan.model_copy(update={"tag": "v2"})) is None
    other = make_key(tmp_path / "other.key")
    said = signed_before(hub, plan.model_copy(update={"tag": "v2", "signer": other}))
    assert said == f"v1 was signed by the key {plan.signer}; v2 is signed by the key {other}"


def test_an_unsigned_plan_in_the_place_of_a_signed_one_under_the_same_tag_is_told(
    run: Path, hub: HubClient, repo_id: str, load_here: None, key: Path
) -> None:
    make_plan(run, Request(repo_id, tag="v1", sign=key))
    publish(run, hub)
    unsigned = read_plan(run).model_copy(update={"signer": None})
    assert (signed_before(hub, unsigned) or "").endswith("what stands in its place now is not signed")


def test_releases_that_were_never_signed_are_told_nothing_of(
    run: Path, hub: HubClient, repo_id: str, load_here: None
) -> None:
    make_plan(run, Request(repo_id, tag="v1"))
    publish(run, hub)
    next_release(run, hub, repo_id)
    assert signed_before(hub, read_plan(run)) is None


def test_a_name_in_place_of_a_public_keys_file_is_a_usage_error_that_does_not_advise_a_new_key(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verify", "slipway/anything", "--key", "sha256:1234"]) == 2
    said = capsys.readouterr().err
    assert "this is not a key to check with, for no such file can be read" in said
    assert "not a name or a fingerprint" in said
    assert "keygen --out" not in said
