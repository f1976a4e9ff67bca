"""What every command does with errors, whoever raises them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

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
