"""That something is released already is said only of what still stands on the Hub as it was released."""

from __future__ import annotations

from pathlib import Path

import pytest
from releases import next_release, release

from release.__main__ import main
from release.hub_client import HubClient

pytestmark = pytest.mark.usefixtures("load_here")


def test_what_was_changed_on_the_hub_since_is_told_with_what_to_type_next(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["publish", "--run", str(run), "--repo", repo_id]
    assert main(words) == 0
    released, journal = hub.resolve(repo_id, "main"), (run / "journal.jsonl").read_bytes()
    capsys.readouterr()

    def said(*parts: str) -> None:
        assert main(words) == 4
        told = capsys.readouterr()
        assert "already released" not in told.out
        for part in parts:
            assert part in told.err

    hub.api.delete_tag(repo_id, tag="v1.0.0")
    create = f"hf repos tag create {repo_id} v1.0.0 --revision {released}"
    said("tag: v1.0.0 is gone", create)
    hub.set_private(repo_id, True)
    said("readers: the repository is private", f"hf repos settings {repo_id} --public")
    hub.set_private(repo_id, False)
    hub.api.upload_file(path_or_fileobj=b"x", path_in_repo="x.txt", repo_id=repo_id)
    said("main: since", "x.txt is there", f"python -m release rollback --repo {repo_id} --to v1.0.0")
    hub.api.create_tag(repo_id, tag="v1.0.0")
    said("tag: v1.0.0 is at commit", f"hf repos tag delete {repo_id} v1.0.0 && {create}")
    hub.api.delete_tag(repo_id, tag="v1.0.0")
    hub.api.create_tag(repo_id, tag="v1.0.0", revision=released)
    assert main(["rollback", "--repo", repo_id, "--to", "v1.0.0"]) == 0
    assert main(words) == 0, "as the messages said"
    assert "is already released" in capsys.readouterr().out
    hub.api.delete_repo(repo_id)
    said("repository: gone", str(run / "receipt.json"), str(run / "journal.jsonl"))
    assert hub.repository(repo_id) is None
    assert (run / "journal.jsonl").read_bytes() == journal
    (run / "receipt.json").unlink()
    (run / "journal.jsonl").unlink()
    assert main(words) == 0


def test_a_release_is_still_there_under_a_later_one_and_not_after_a_rollback(
    run: Path, tmp_path: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    other = Path(shutil.copytree(run, tmp_path / "other"))
    release(run, hub, repo_id, "v1", space=False)
    next_release(other, hub, repo_id)
    assert main(["resume", "--run", str(run)]) == 0
    assert main(["resume", "--run", str(other)]) == 0
    assert main(["rollback", "--repo", repo_id, "--to", "v1"]) == 0
    capsys.readouterr()
    assert main(["resume", "--run", str(other)]) == 4
    said = capsys.readouterr().err
    assert "main: the files of v1" in said
    assert main(["resume", "--run", str(run)]) == 0
    space = f"{repo_id}-chat"
    assert hub.repository(space, "space") is not None
    hub.api.delete_repo(space, repo_type="space")
    assert main(["rollback", "--repo", repo_id, "--to", "v2"]) == 0
    assert main(["resume", "--run", str(other)]) == 4
    assert f"Space: {space} is gone" in capsys.readouterr().err
