"""Verification finds what is not as it was promised, names it, and needs nothing but the id; rollback goes back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tiny_run import change_weights, rescore

from release.__main__ import main
from release.hub_client import HubClient
from release.hub_files import LocalFile
from release.local_hub.server import RunningHub
from release.plan import make_plan
from release.publish import publish
from release.records import Receipt, Verification
from release.request import Request
from release.verify import verify
from training.errors import UsageError
from training.run_record import RunRecord


@pytest.fixture
def released(run: Path, hub: HubClient, repo_id: str, load_here: None) -> Receipt:
    make_plan(run, Request(repo_id))
    return publish(run, hub)[0]


def commit_file(hub: HubClient, repo_id: str, path: str, content: bytes | None, branch: str = "main") -> str:
    """Somebody changes one file of the repository (None deletes it) without a release."""
    return hub.commit(
        repo_id,
        branch,
        parent=hub.head(repo_id, branch),
        additions={} if content is None else {path: LocalFile.of(content)},
        deletions=[path] if content is None else [],
        title="Edit",
        message="",
        landed=lambda _: False,
    )


def test_a_stranger_verifies_with_nothing_but_the_id_in_a_fresh_process(
    released: Receipt,
    hub: HubClient,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    from release.probe import load_in_fresh_process

    monkeypatch.setattr("release.downloaded.load_in_fresh_process", load_in_fresh_process)
    monkeypatch.delenv("HF_TOKEN")
    out = tmp_path / "verification.json"
    assert main(["verify", f"{released.repo_id}@v1.0.0", "--out", str(out), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert "plan.json in the repository itself" in result["summary"]
    assert result["commit"] == released.commit
    assert result["differs_from_parent"] is True
    verification = Verification.read(out)
    assert verification.mismatches == []
    assert {finding.check for finding in verification.findings} == {
        "file",
        "tag",
        "repository",
        "digest",
        "parent",
        "card",
        "figures",
        "gates",
        "load",
        "logits",
        "greedy",
    }


def test_with_a_receipt_the_tag_and_the_commit_are_held_against_it(released: Receipt, hub: HubClient) -> None:
    verification = verify(hub, released.repo_id, None, released)
    assert verification.mismatches == []
    assert {"tag", "commit"} <= {finding.check for finding in verification.findings}


def test_one_flipped_byte_in_the_store_is_exit_4_naming_the_file_and_both_hashes(
    released: Receipt, hub: HubClient, hub_with_owner: tuple[RunningHub, str], capsys: pytest.CaptureFixture[str]
) -> None:
    blobs = hub_with_owner[0].store.blobs
    expected = next(entry.sha256 for entry in released.files if entry.path == "model.safetensors")
    blob = blobs.path(expected)
    whole = blob.read_bytes()
    flipped = bytearray(whole)
    flipped[-2] ^= 4
    blob.chmod(0o644)
    blob.write_bytes(flipped)
    try:
        assert main(["verify", f"{released.repo_id}@v1.0.0", "--json"]) == 4
    finally:
        blob.write_bytes(whole)
    error = json.loads(capsys.readouterr().out)["error"]
    assert "file model.safetensors: expected sha256" in error["what"]
    assert "digest checkpoint" in error["what"]
    found = LocalFile.of(bytes(flipped)).sha256
    assert expected in error["what"]
    assert found in error["what"]


def test_missing_extra_and_edited_files_are_each_named(released: Receipt, hub: HubClient) -> None:
    commit_file(hub, released.repo_id, "README.md", b"---\nlicense: mit\n---\nedited\n")
    commit_file(hub, released.repo_id, "run.json", None)
    commit_file(hub, released.repo_id, "surprise.txt", b"boo")
    wrong = {finding.subject: finding for finding in verify(hub, released.repo_id, "main", None).mismatches}
    assert set(wrong) == {"README.md", "run.json", "surprise.txt"}
    assert wrong["run.json"].found == "missing"
    assert wrong["surprise.txt"].expected == "no such file"
    assert verify(hub, released.repo_id, "v1.0.0", released).mismatches == [], "the tag stands for the old bytes"


def test_a_missing_weight_file_is_a_mismatch_not_a_crash(released: Receipt, hub: HubClient) -> None:
    commit_file(hub, released.repo_id, "model.safetensors", None)
    wrong = verify(hub, released.repo_id, "main", None).mismatches
    assert {finding.subject for finding in wrong} >= {"model.safetensors", "from_pretrained"}


def test_a_repository_remade_as_a_whole_convinces_without_a_receipt_but_not_with_one(
    released: Receipt, run: Path, hub: HubClient, load_here: None, tmp_path: Path
) -> None:
    hub.api.delete_repo(released.repo_id)
    theirs = shutil.ignore_patterns("receipt.json", "journal.jsonl")  # who remakes it has another machine
    other = Path(shutil.copytree(run, tmp_path / "other", ignore=theirs))
    parent = RunRecord.read(run / "run.json").parent("base")
    assert parent is not None
    digest = change_weights(other / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(1))
    rescore(other, digest, parent.digest)
    make_plan(other, Request(released.repo_id))
    publish(other, hub)
    assert verify(hub, released.repo_id, "v1.0.0", None).mismatches == []
    wrong = {finding.check for finding in verify(hub, released.repo_id, "v1.0.0", released).mismatches}
    assert {"tag", "commit", "file", "digest", "load"} <= wrong


def test_a_repository_without_a_plan_needs_a_receipt(hub: HubClient, repo_id: str) -> None:
    hub.create_repository(repo_id, private=False)
    with pytest.raises(UsageError, match="says nothing of itself"):
        verify(hub, repo_id, None, None)


def test_an_unknown_repository_or_revision_is_exit_5(
    released: Receipt, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["verify", "slipway/nothing-here"]) == 5
    assert "no such repository" in capsys.readouterr().err
    assert main(["verify", f"{released.repo_id}@v9"]) == 5
    assert "no such revision" in capsys.readouterr().err


def test_rollback_returns_main_to_the_release_before_in_one_commit_and_moves_no_tag(
    released: Receipt, run: Path, hub: HubClient, load_here: None
) -> None:
    parent = RunRecord.read(run / "run.json").parent("base")
    assert parent is not None
    (run / "samples" / "only-in-the-second.jsonl").write_text("{}\n")
    digest = change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(1))
    rescore(run, digest, parent.digest)
    make_plan(run, Request(released.repo_id, tag="v2.0.0"))
    second, _ = publish(run, hub)
    for _ in range(2):  # the second time there is nothing left to do
        assert main(["rollback", "--run", str(run)]) == 0
        assert hub.tree(released.repo_id, "main") == hub.tree(released.repo_id, "v1.0.0")
    titles = [commit.title for commit in hub.history(released.repo_id)]
    assert titles == ["Roll back to v1.0.0", "Release v2.0.0", "Release v1.0.0", "initial commit"]
    repository = hub.repository(released.repo_id)
    assert repository is not None
    assert repository.tags == {"v1.0.0": released.commit, "v2.0.0": second.commit}
    assert verify(hub, released.repo_id, "main", None).mismatches == []
    assert main(["rollback", "--repo", released.repo_id, "--to", "v2.0.0"]) == 0
    assert hub.tree(released.repo_id, "main") == hub.tree(released.repo_id, "v2.0.0")


def test_rolling_back_the_first_release_hides_the_repository_and_erases_nothing(
    released: Receipt, run: Path, hub: HubClient, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "--run", str(run)]) == 0
    assert "private now" in capsys.readouterr().out
    repository = hub.repository(released.repo_id)
    assert repository is not None
    assert repository.private
    assert repository.main == released.commit


def test_rolling_back_to_an_unknown_tag_is_refused_with_the_known_ones(
    released: Receipt, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rollback", "--repo", released.repo_id, "--to", "v9"]) == 2
    assert "v1.0.0" in capsys.readouterr().err


def test_a_seed_without_anything_to_draw_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "slipway/anything", "--seed", "3"]) == 2
    assert "--seed is what --rescore reads" in capsys.readouterr().err
