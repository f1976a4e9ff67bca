"""A checkpoint from elsewhere is released in one command and rolled back in another."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_model import save_model

from release.__main__ import main
from release.hub_client import HubClient
from training.checkpoint import Checkpoint
from training.run_record import RunRecord


def test_a_bare_directory_is_released_and_taken_back(
    hub: HubClient, repo_id: str, load_here: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, run = save_model(tmp_path / "mine"), tmp_path / "run"
    words = ["publish", "--checkpoint", str(source), "--run", str(run), "--repo", repo_id]
    assert main(words) == 3, "nobody has said its licence"
    told = capsys.readouterr()
    assert "--license ID" in told.out + told.err
    (source / "README.md").write_text("---\npipeline_tag: text-generation\n---\n# Mine\n\n| MMLU | 45.2 |\n|---|---|\n")
    (source / "LICENSE").write_text("All of it.\n")
    (source / "optimizer.pt").write_bytes(b"\x80\x04.")
    assert main([*words, "--license", "apache-2.0"]) == 0
    assert "left out: optimizer.pt (reading it can run code)" in capsys.readouterr().err
    assert "1 line with figures of its authors, not measured here" in (run / "plan.json").read_text()
    there = hub.tree(repo_id, "v1.0.0")
    assert there["LICENSE"].size == 11
    assert "optimizer.pt" not in there
    assert "# Mine\n\n| MMLU | 45.2 |" in hub.text(repo_id, "v1.0.0", "README.md")
    assert str(tmp_path) not in (run / "run.json").read_text()
    (source / "LICENSE").write_text("Half of it.\n")
    assert main(words) == 2
    assert "the checkpoint's files have changed since" in capsys.readouterr().err
    assert RunRecord.read(run / "run.json").checkpoint_digest == Checkpoint.open(source).digest
    released = hub.repository(repo_id)
    assert released is not None
    assert not released.private
    assert main(["rollback", "--run", str(run)]) == 0
    assert "it is private now" in capsys.readouterr().out
    taken_back = hub.repository(repo_id)
    assert taken_back is not None
    assert taken_back.private


def test_a_run_directory_of_another_checkpoint_is_not_released_as_this_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, run = save_model(tmp_path / "mine"), tmp_path / "run"
    words = ["plan", "--checkpoint", str(source), "--run", str(run), "--license", "mit", "--repo", "me/mine"]
    assert main(words) == 0
    save_model(source, seed=1)
    assert main(words) == 2
    assert "has changed since" in (said := capsys.readouterr().err)
    assert f"rm -r {run}" in said
    shutil.rmtree(run)
    assert main(words) == 0, "as the message said"


def test_a_checkpoint_from_elsewhere_gets_a_flavour_of_the_space_that_it_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "mine")
    words = ["plan", "--checkpoint", "mine", "--license", "mit", "--repo", "me/mine", "--space", "cpu"]
    assert main(words) == 0
    assert (tmp_path / "runs" / "mine-v1.0.0" / "plan.json").is_file()
    assert "Space: transformers in" in capsys.readouterr().err
    assert main(["check", "mine", "--space", "cpu"]) == 2
    assert "a flavour of the Space is chosen for a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["--space", "cpu", "--space-hardware", "abacus"], "the memory of this hardware is not known"),
        (["--space", "cpu", "--space-precision", "Q1"], "runs in no such precision"),
        (["--space", "endpoint"], "needs the address of its server"),
        (["--space", "abacus"], "there is no such flavour"),
    ],
)
def test_a_space_that_cannot_be_is_told_before_a_checkpoint_is_copied(
    asked: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_model(tmp_path / "mine")
    assert main(["plan", "--checkpoint", "mine", "--license", "mit", "--repo", "me/mine", *asked]) == 2
    assert told in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_what_names_nothing_to_release_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--repo", "me/mine"]) == 2
    assert "--checkpoint DIR" in capsys.readouterr().err
    assert main(["plan", "--repo", "me/mine", "--run", "runs/none", "--license", "mit"]) == 2
    assert "there is no run with a record" in capsys.readouterr().err


def test_a_licence_that_only_its_card_names_goes_on_with_its_text_and_a_card_that_cannot_be_read_is_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, run = save_model(tmp_path / "mine"), tmp_path / "run"
    words = ["plan", "--checkpoint", str(source), "--run", str(run), "--repo", "me/mine"]
    (source / "README.md").write_text("---\nlicense: [mit\n---\n# Mine\n")
    assert main(words) == 2
    assert "the metadata of the checkpoint's card cannot be read" in capsys.readouterr().err
    licence = "license: other\nlicense_name: harbour-research\nlicense_link: LICENSE\npipeline_tag: text-generation\n"
    (source / "README.md").write_text(f"---\n{licence}---\n# Mine\n")
    (source / "LICENSE").write_text("For research.\n")
    assert main(words) == 0
    assert licence.splitlines()[1] in (run / "bundle" / "README.md").read_text()
    assert (run / "bundle" / "LICENSE").is_file()
