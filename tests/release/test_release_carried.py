"""What comes along with a checkpoint from elsewhere beside its weights, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.carried import carry, read, why_left_out


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A checkpoint's directory as people have them."""
    source = tmp_path / "source"
    for name in ("LICENSE", "NOTICE", "README.md", "assets/a.png", "train.log", "config.json", "docs/use.md"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(f"{name}\n")
    for name in ("model.safetensors", "model-Q4.gguf", "training_args.bin", "blob.dat", ".git/config"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(b"\x00\x01")
    (tmp_path / "passwd").write_text("root:x\n")
    (source / "notes.txt").symlink_to(tmp_path / "passwd")
    (tmp_path / "run" / "checkpoint").mkdir(parents=True)
    return source


def test_texts_and_pictures_come_along_and_the_rest_is_named_with_its_reason(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert carry(source, run) is False
    carried = read(run)
    assert carried is not None
    assert set(carried.files) == {"LICENSE", "NOTICE", "README.md", "assets/a.png", "train.log", "docs/use.md"}
    assert all((run / "checkpoint" / name).read_text() == f"{name}\n" for name in carried.files)
    assert carried.left_out == {
        ".git/config": "hidden",
        "blob.dat": "binary, so no gate can read it",
        "model-Q4.gguf": "weights that nothing here compared with the model",
        "notes.txt": "a link to elsewhere",
        "training_args.bin": "reading it can run code",
    }
    assert (carried.sentence() or "").count("\n") == 0


def test_what_changes_or_goes_in_the_source_does_so_in_the_run(source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    carry(source, run)
    assert carry(source, run) is False
    (source / "NOTICE").write_text("another\n")
    (source / "docs" / "use.md").unlink()
    assert carry(source, run, ["*.log"]) is True
    assert (run / "checkpoint" / "NOTICE").read_text() == "another\n"
    assert not (run / "checkpoint" / "docs" / "use.md").exists()
    assert not (run / "checkpoint" / "train.log").exists()
    carried = read(run)
    assert carried is not None
    assert carried.left_out["train.log"] == "--leave-out"


def test_a_file_of_a_hubs_cache_is_a_link_into_its_store_and_comes_along(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--a--b" / "snapshots" / "abc", tmp_path / "models--a--b" / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    (blobs / "1").write_text("All of it.\n")
    (snapshot / "LICENSE").symlink_to(blobs / "1")
    carry(snapshot, tmp_path / "run", unseen=["LICENSE", "model.safetensors", "model.gguf"])
    carried = read(tmp_path / "run")
    assert carried is not None
    assert list(carried.files) == ["LICENSE"]
    assert list(carried.left_out) == ["model.gguf"]


@pytest.mark.parametrize("path", ["run.json", "samples/a.jsonl", "checkpoint-100/config.json", "onnx/model.onnx"])
def test_records_of_other_bytes_and_other_checkpoints_stay_behind(path: str) -> None:
    assert why_left_out(path) is not None
