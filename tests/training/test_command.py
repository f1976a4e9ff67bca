"""What every command does with errors, whoever raises them."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from training.command import port, seed

SCRIPT = """
import resource, sys
import torch
from safetensors.torch import save_file
from training.command import Parser

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
tensors = {"a": torch.zeros(100_000)}
ways = {
    "safetensors": lambda out: save_file(tensors, out),
    "torch": lambda out: torch.save(tensors, out),
    "python": lambda out: open(out, "wb").write(bytes(400_000)),
    "bug": lambda out: {}["nothing"],
    "missing": lambda out: open(out),
    "ours": lambda out: open("/nowhere/of/ours"),
    "others": lambda out: __import__("subprocess").run(["echo", "hello"]) and {},
    "said": lambda out: {"summary": "line\\n" * 100_000},
}
parser = Parser("python -m test", "Write a file.")
parser.command("write", "Write.", lambda args: ways[args.way](args.out) or {}).add_argument("way")
parser.commands.choices["write"].add_argument("out")
sys.exit(parser.run(sys.argv[1:]))
"""


@pytest.mark.parametrize("way", ["safetensors", "torch", "python"])
def test_a_file_that_the_machine_does_not_take_is_no_bug_of_ours_whichever_library_writes_it(
    way: str, tmp_path: Path
) -> None:
    """The limit on a file's size stands in for a full disk: writing fails in the same places."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, "write", way, str(tmp_path / "file")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "no space left" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_bug_is_shown_in_full(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, "write", "bug", str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr
    assert "KeyError" in ended.stderr


def test_a_path_that_the_command_names_and_that_is_not_there_is_the_users_and_any_other_a_bug(tmp_path: Path) -> None:
    for way, code, said in (("missing", 2, "no such file"), ("ours", 1, "Traceback")):
        words = [sys.executable, "-c", SCRIPT, "write", way, str(tmp_path / "absent" / "file")]
        ended = subprocess.run(words, capture_output=True, text=True, check=False)
        assert ended.returncode == code, ended.stderr
        assert said in ended.stderr


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    words = [sys.executable, "-c", SCRIPT, "write", "said", str(tmp_path)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 0


@pytest.mark.parametrize("text", ["-1", "70000", "1e3", "²"])
def test_a_port_or_seed_that_is_none_is_said(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="whole number"):
        port(text)
    assert (port("0"), seed("70000")) == (0, 70_000)


def test_of_several_processes_launched_as_one_command_the_first_prints_the_result(tmp_path: Path) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT, "write", "safetensors", str(tmp_path / "out"), "--json"],
            env={**os.environ, "RANK": rank}, capture_output=True, text=True, check=False,
        ).stdout
        for rank in ("0", "1")
    ]  # fmt: skip
    assert json.loads(said[0])["exit_code"] == 2
    assert said[1] == ""


def test_what_other_programs_print_is_no_part_of_the_one_object(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, "write", "others", str(tmp_path / "out"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {}
    assert "hello" in done.stderr
