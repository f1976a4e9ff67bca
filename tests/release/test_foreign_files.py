"""What others put on main is not replaced or removed unasked, and a rollback gives it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from releases import is_visible, release
from tiny_run import change_weights, rescore

from release.__main__ import main
from release.hub_client import HubClient
from release.hub_files import HubFile
from release.plan import make_plan
from release.planned_release import PlannedRelease
from release.publish import publish
from release.request import Request
from training.errors import HubError
from training.run_record import RunRecord

pytestmark = pytest.mark.usefixtures("load_here")
THEIRS = {"README.md": b"---\nlicense: mit\n---\n# Theirs\n", "theirs.txt": b"theirs"}


def upload(hub: HubClient, repo_id: str, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        hub.api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=repo_id)


def rework(run: Path) -> None:
    parent = RunRecord.read(run / "run.json").parents[0].digest
    rescore(run, change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].add_(1)), parent)


def files_at(hub: HubClient, repo_id: str, revision: str = "main") -> dict[str, HubFile]:
    return hub.tree(repo_id, revision)


def test_files_of_others_are_named_and_nothing_is_sent_and_rollback_gives_them_back_to_everybody(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.api.create_repo(repo_id)
    upload(hub, repo_id, THEIRS)
    before = hub.repository(repo_id)
    assert before is not None
    words = ["publish", "--run", str(run), "--repo", repo_id]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "replaced  README.md" in said
    assert "removed   theirs.txt" in said
    assert ".gitattributes" not in said
    assert "the same command with --replace-files" in said
    assert hub.repository(repo_id) == before
    assert not (run / "journal.jsonl").exists()
    assert main([*words, "--replace-files"]) == 0
    assert "theirs.txt" not in files_at(hub, repo_id)
    capsys.readouterr()
    for _ in range(2):
        assert main(["rollback", "--run", str(run)]) == 0
        said = capsys.readouterr().out
        assert f"the files of commit {before.main}" in said
        assert "it is public" in said
    assert files_at(hub, repo_id) == files_at(hub, repo_id, before.main)
    assert is_visible(hub, f"models/{repo_id}")


@pytest.mark.parametrize("files", [{}, {"README.md": b"---\nlicense: mit\n---\n"}])
def test_a_repository_as_the_hub_makes_it_is_released_into_and_hidden_again(
    files: dict[str, bytes], run: Path, hub: HubClient, repo_id: str, hub_with_owner: Any
) -> None:
    """With a licence, the Hub's page makes a card of metadata in the first commit."""
    hub.api.create_repo(repo_id)
    if files:
        upload(hub, repo_id, files)
        hub.api.super_squash_history(repo_id)
    assert main(["publish", "--run", str(run), "--repo", repo_id]) == 0
    assert main(["rollback", "--run", str(run)]) == 0
    assert not is_visible(hub, f"models/{repo_id}")


def test_what_was_changed_on_main_since_our_release_is_named_and_comes_back_with_a_rollback(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (run / "checkpoint" / "notes.txt").write_text("the first one's\n")
    release(run, hub, repo_id, "v1", space=False)
    (run / "checkpoint" / "notes.txt").unlink()
    rework(run)
    upload(hub, repo_id, {"README.md": THEIRS["README.md"]})
    edited = hub.resolve(repo_id, "main")
    words = ["publish", "--run", str(run), "--repo", repo_id, "--tag", "v2"]
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "replaced  README.md" in said
    assert "notes.txt" not in said, "it is our own"
    assert main([*words, "--replace-files"]) == 0
    upload(hub, repo_id, {"since.txt": b"since"})
    capsys.readouterr()
    assert main(["rollback", "--run", str(run)]) == 0
    assert "keeps since.txt" in capsys.readouterr().err
    assert files_at(hub, repo_id) == files_at(hub, repo_id, edited)


def test_what_comes_to_main_while_a_release_is_staged_stops_it_and_resume_knows_what_was_agreed_to(
    run: Path, hub: HubClient, repo_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.api.create_repo(repo_id)
    upload(hub, repo_id, THEIRS)
    make_plan(run, Request(repo_id))
    whole = PlannedRelease.commit

    def broken(planned: PlannedRelease, branch: str, *_: Any) -> str:
        if branch == "main":
            raise HubError("the Hub was switched off", where=hub.endpoint)
        return whole(planned, branch, *_)

    with monkeypatch.context() as patch:
        patch.setattr(PlannedRelease, "commit", broken)
        with pytest.raises(HubError, match="switched off"):
            publish(run, hub, replace_files=True)
    upload(hub, repo_id, {"late.txt": b"late"})
    late = hub.resolve(repo_id, "main")
    capsys.readouterr()
    assert main(["resume", "--run", str(run)]) == 2
    said = capsys.readouterr().err
    assert "removed   late.txt" in said
    assert "theirs.txt" not in said, "it was agreed to"
    assert f"python -m release resume --run {run} --replace-files" in said
    assert main(["resume", "--run", str(run), "--replace-files"]) == 0
    assert main(["rollback", "--run", str(run)]) == 0
    assert files_at(hub, repo_id) == files_at(hub, repo_id, late)


def test_a_release_after_one_that_was_rolled_back_does_not_show_it_when_it_is_rolled_back_too(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    release(run, hub, repo_id, "v1", space=False)
    assert main(["rollback", "--run", str(run)]) == 0
    assert main(["last-release", "--run", str(run), "--repo", repo_id]) == 0
    assert "is v1, sha256:" in (said := capsys.readouterr().out)
    assert "it was rolled back, or hidden by hand" in said
    rework(run)
    release(run, hub, repo_id, "v2", space=False)
    assert is_visible(hub, f"models/{repo_id}")
    assert main(["rollback", "--run", str(run)]) == 0
    assert "holds the files of v1" in capsys.readouterr().out
    assert not is_visible(hub, f"models/{repo_id}")


def test_a_branch_with_the_name_of_the_tag_is_told_before_anything_is_sent_and_after_main_is_promoted(
    run: Path, hub: HubClient, repo_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.api.create_repo(repo_id)
    hub.api.create_branch(repo_id, branch="v1.0.0")
    words = ["publish", "--run", str(run), "--repo", repo_id]
    assert main(words) == 2
    assert f"{repo_id} has a branch v1.0.0" in (said := capsys.readouterr().err)
    assert f"hf repos branch delete {repo_id} v1.0.0" in said
    assert not (run / "journal.jsonl").exists()
    hub.api.delete_branch(repo_id, branch="v1.0.0")
    whole = PlannedRelease.commit

    def meanwhile(planned: PlannedRelease, branch: str, *_: Any) -> str:
        commit = whole(planned, branch, *_)
        if branch == "main":
            hub.api.create_branch(repo_id, branch="v1.0.0")
        return commit

    with monkeypatch.context() as patch:
        patch.setattr(PlannedRelease, "commit", meanwhile)
        assert main(words) == 2
    assert f"{repo_id} has a branch v1.0.0" in capsys.readouterr().err
    hub.api.delete_branch(repo_id, branch="v1.0.0")
    assert main(words) == 0


def test_a_tag_that_is_not_on_main_is_told_before_anything_is_sent_and_before_main_is_promoted(
    run: Path, hub: HubClient, repo_id: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of these very files, as one who tagged what was staged; of other files it is refused as ever."""
    make_plan(run, Request(repo_id))
    hub.api.create_repo(repo_id)
    hub.api.create_branch(repo_id, branch="mine")
    hub.api.upload_folder(repo_id=repo_id, folder_path=run / "bundle", revision="mine")
    hub.api.create_tag(repo_id, tag="v1.0.0", revision="mine")
    main_before = hub.resolve(repo_id, "main")
    assert main(["publish", "--run", str(run), "--repo", repo_id]) == 2
    assert "is at a commit that main does not have" in (said := capsys.readouterr().err)
    assert f"hf repos tag delete {repo_id} v1.0.0" in said
    assert hub.resolve(repo_id, "main") == main_before
    hub.api.delete_tag(repo_id, tag="v1.0.0")
    whole = PlannedRelease.commit

    def meanwhile(planned: PlannedRelease, branch: str, *_: Any) -> str:
        hub.api.create_tag(repo_id, tag="v1.0.0", revision="mine")
        return whole(planned, branch, *_)

    with monkeypatch.context() as patch:
        patch.setattr(PlannedRelease, "commit", meanwhile)
        assert main(["publish", "--run", str(run), "--repo", repo_id]) == 2
    assert "is at a commit that main does not have" in capsys.readouterr().err
    assert hub.resolve(repo_id, "main") == main_before


def test_files_of_others_in_the_space_are_named_and_a_rollback_gives_them_back_as_they_could_be_read(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    space = f"{repo_id[:40].rstrip('-')}-demo"
    hub.create_repository(space, "space", private=True, sdk="gradio")
    hub.api.upload_file(path_or_fileobj=b"theirs", path_in_repo="app.py", repo_id=space, repo_type="space")
    before = hub.resolve(space, "main", "space")
    words = [
        "publish",
        "--run",
        str(run),
        "--repo",
        repo_id,
        "--space",
        space,
        "--no-boot",
        "it is looked at elsewhere",
    ]
    hub.api.create_repo(repo_id)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert f"replaced  spaces/{space}/app.py" in said
    assert "README.md" not in said, "the Hub has made it"
    assert main([*words, "--replace-files"]) == 0
    assert is_visible(hub, f"spaces/{space}")
    assert main(["rollback", "--run", str(run)]) == 0
    assert hub.tree(space, "main", "space") == hub.tree(space, before, "space")
    assert not is_visible(hub, f"spaces/{space}")
