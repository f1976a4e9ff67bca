"""What a release may hold beside its model: texts and pictures. Pickles by any name, and what no gate can read, may not."""

from __future__ import annotations

import collections
import gzip
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import numpy
import pytest
from gate_verdicts import refusals, verdicts
from safetensors.numpy import save_file

from release.__main__ import main
from release.carried import carry, read
from release.readable import runs_code, why_unread
from release.text_file import encoding_of

TOKEN = "hf_" + "Ab1" * 12
PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(17)


def pickled(protocol: int, value: object = {"call": os.getcwd}) -> bytes:
    return pickle.dumps(value, protocol)


def array_of_objects() -> bytes:
    made = io.BytesIO()
    numpy.save(made, numpy.array([{"a": 1}], dtype=object), allow_pickle=True)
    return made.getvalue()


def archive(name: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as file:
        file.writestr(name, pickled(2))
    return made.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *((f"protocol-{protocol}", pickled(protocol)) for protocol in range(6)),
        ("short", pickled(4, None)),
        ("long.txt", pickled(0, ["x" * 2_000_000, collections.OrderedDict])),
        ("longer.txt", pickled(0, [collections.OrderedDict, "x" * (17 << 20)])),
        ("model.BIN", b""),
        ("scaler.Joblib", b""),
        ("opt.npy", array_of_objects()),
        ("weights", archive("archive/data.pkl")),
        ("keras", b"\x89HDF\r\n\x1a\n"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_runs_code_when_it_is_read_is_known_by_its_content_and_in_any_case(
    tmp_path: Path, name: str, content: bytes
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert runs_code(name, file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"(c) 2026 Foo\nAll rights reserved\n.\n",
        b"city and\ncountry\n.",
        b"Notes.\n",
        b"0.1 0.2\n.",
        b"I1\n.",
        "Stra\u00dfe\n".encode("latin-1"),
        PNG,
        archive("readme.txt"),
    ],
)
def test_texts_pictures_and_plain_archives_run_nothing(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    assert not runs_code("file", file)


@pytest.mark.parametrize("bytes_of_header", [640, 896, 1152, 1408])
def test_weights_whose_header_is_as_long_as_a_pickle_begins_run_nothing(tmp_path: Path, bytes_of_header: int) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": numpy.zeros(2, numpy.float32)}, file, metadata={"note": "x"})
    length = int.from_bytes(file.read_bytes()[:8], "little")
    save_file({"a": numpy.zeros(2, numpy.float32)}, file, metadata={"note": "x" * (1 + bytes_of_header - length)})
    assert file.read_bytes()[0] == 0x80
    assert not runs_code("model.safetensors", file)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be", "utf-32"])
def test_a_text_is_read_in_its_encoding_with_or_without_a_mark(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "note"
    file.write_bytes(f"token {TOKEN}\n\u00fcber\n".encode(encoding))
    found = encoding_of(file)
    assert found is not None
    assert TOKEN in file.read_text(encoding=found)


@pytest.mark.parametrize(
    "content",
    [
        b"\0" + TOKEN.encode(),
        gzip.compress(
            TOKEN.encode(), mtime=0
        ),  # the time would be part of the test's name, another one in each process
        b"\x1f\x8b\x08\x08abcdn.txt\x02" + TOKEN.encode(),
        numpy.linspace(0, 1, 99, dtype=numpy.float32).tobytes(),
        bytes(99),
    ],
    ids=["zero byte", "gzip", "gzip with a name", "floats", "zeros"],
)
def test_what_is_neither_text_nor_picture_is_read_by_no_gate(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "note"
    file.write_bytes(content)
    assert encoding_of(file) is None
    assert why_unread("note.png", file) == "binary, so no gate can read it"
    assert "save_pretrained of the tokenizer writes tokenizer.json" in (why_unread("spm.model", file) or "")


def test_pictures_and_texts_of_any_name_are_read_and_other_weights_are_not(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(PNG)
    assert why_unread("figures/a.png", file) is None
    assert why_unread("model.GGUF", file) == "weights that nothing here compared with the model"
    file.write_text("All of it.\n")
    assert why_unread("LICENSE", file) is None


def test_a_run_with_what_no_gate_can_read_is_refused_and_a_waiver_says_so(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run / "checkpoint"
    (checkpoint / "n.txt.gz").write_bytes(gzip.compress(TOKEN.encode()))
    (checkpoint / "blob").write_bytes(pickled(5))
    (checkpoint / "picture.png").write_bytes(PNG + b"tEXtkey: " + TOKEN.encode())
    (checkpoint / "u16.txt").write_bytes(TOKEN.encode("utf-16-le"))
    assert main(["plan", "--run", str(run), "--repo", "owner/name", "--json"]) == 3
    said = {verdict["gate"]: verdict for verdict in json.loads(capsys.readouterr().out)["verdicts"]}
    assert said["files_readable"]["outcome"] == "refused"
    assert set(said["files_readable"]["evidence"]["unread"]) == {"blob", "n.txt.gz"}
    assert "blob can run code when it is read" in said["weights_safetensors_only"]["explanation"]
    assert {found["file"] for found in said["no_secrets"]["evidence"]["found"]} == {"picture.png", "u16.txt"}


def test_of_a_directory_that_is_looked_at_the_same_is_noted_and_a_release_of_it_leaves_it_out(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run / "checkpoint"
    (checkpoint / "n.txt.gz").write_bytes(gzip.compress(TOKEN.encode()))
    templates = checkpoint / "additional_chat_templates"
    templates.mkdir()
    (templates / "n.gz").write_bytes(gzip.compress(TOKEN.encode()))
    (checkpoint / "tokenizer.model").write_bytes(b"\x0a\x07\x00\x1a" + TOKEN.encode() + b"\x00")
    refused = refusals(run)
    assert refused["files_readable"].count("binary, so no gate can read it") == 2, "the vocabulary is read"
    assert "a Hub token in tokenizer.model" in refused["no_secrets"]
    (templates / "n.gz").unlink()
    (checkpoint / "tokenizer.model").unlink()
    main(["check", str(checkpoint), "--json"])
    said = {verdict["gate"]: verdict for verdict in json.loads(capsys.readouterr().out)["verdicts"]}
    assert said["files_readable"]["outcome"] == "passed"
    assert "noted: n.txt.gz: binary, so no gate can read it" in said["files_readable"]["explanation"]
    (checkpoint / "blob").write_bytes(pickled(0))
    carry(checkpoint, tmp_path / "other")
    carried = read(tmp_path / "other")
    assert carried is not None
    assert carried.left_out == {
        "blob": "reading it can run code",
        "n.txt.gz": "binary, so no gate can read it",
    }


def test_words_in_the_header_of_weights_are_read_as_any_text(run: Path) -> None:
    from safetensors.torch import load_file
    from safetensors.torch import save_file as save

    file = run / "checkpoint" / "model.safetensors"
    words = {"format": "pt", "train_dir": "/home/alice/secret", "token": TOKEN, "author": "alice@hospital.org"}
    save(load_file(file), file, metadata=words)
    found = verdicts(run)
    for gate in ("no_secrets", "no_local_paths", "no_personal_data"):
        assert found[gate].outcome == "refused"
        assert "in model.safetensors, line" in found[gate].explanation
    assert TOKEN not in found["no_secrets"].model_dump_json()
