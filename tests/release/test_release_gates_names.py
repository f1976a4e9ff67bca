"""The gate on file names: what a reader on another system would get in the place of what was checked."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
import yaml
from gate_verdicts import refusals, verdicts

from release.__main__ import main
from release.file_names import lookalikes, name_problem, shown
from release.policy import NEVER_WAIVED, policy_file

GATE = "file_names_portable"


@pytest.fixture
def only_names(tmp_path: Path) -> str:
    """The default policy with this gate alone, which loads no model."""
    return own_policy(tmp_path, [GATE])


def own_policy(folder: Path, gates: list[str]) -> str:
    own = folder / "names.yaml"
    own.write_text(yaml.safe_dump(yaml.safe_load(policy_file("default").read_text()) | {"gates": gates}))
    return str(own)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CONFIG.JSON", "CONFIG.JSON and config.json are one where case"),
        ("readme.md", "README.md and readme.md are one where case"),
        ("weights\x1b[2J.txt", "weights\\x1b[2J.txt: U+001B"),
        ("txt.\u202enosj.gifnoc", "txt.\\u202enosj.gifnoc: U+202E"),
        ("AUX.json", "AUX.json: Windows has a device of the name AUX"),
        ("notes./a.txt", "notes./a.txt: Windows leaves out a dot"),
        ("what?.txt", "what?.txt: Windows allows no ? in a name"),
    ],
)
def test_a_name_that_is_another_file_elsewhere_is_refused_with_what_to_do(
    name: str, said: str, run: Path, only_names: str
) -> None:
    assert verdicts(run, only_names)[GATE].outcome == "passed"
    file = run / "checkpoint" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("{}")
    verdict = verdicts(run, only_names)[GATE]
    assert verdict.outcome == "refused"
    assert said in verdict.explanation
    assert verdict.explanation.isprintable()
    assert verdict.remedy is not None
    assert "rename or delete" in verdict.remedy


def test_check_of_a_bare_checkpoint_refuses_such_names_in_one_readable_line(
    run: Path, only_names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = run / "checkpoint"
    (checkpoint / "Model.safetensors").write_bytes((checkpoint / "model.safetensors").read_bytes())
    (checkpoint / "x\u202ey").write_text("")
    assert main(["check", str(checkpoint), "--policy", only_names]) == 3
    said = capsys.readouterr()
    line = next(line for line in said.err.splitlines() if GATE in line)
    assert "x\\u202ey: U+202E" in line
    assert "Model.safetensors and model.safetensors are one" in line
    assert "\u202e" not in said.err + said.out


def test_a_name_that_is_no_unicode_is_refused_in_words(
    run: Path, only_names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path(os.fsdecode(bytes(run / "checkpoint") + b"/\xff.txt")).write_text("")
    assert main(["check", str(run / "checkpoint"), "--policy", only_names]) == 3
    assert "not valid Unicode" in capsys.readouterr().err


def test_a_waived_refusal_of_names_stays_with_its_reason(run: Path, tmp_path: Path) -> None:
    policy = own_policy(tmp_path, [GATE, *NEVER_WAIVED])
    (run / "checkpoint" / "AUX.json").write_text("{}")
    assert GATE in refusals(run, policy)
    words = ["plan", "--run", str(run), "--repo", "org/name", "--policy", policy]
    assert main([*words, "--waive", f"{GATE}=for Linux only"]) == 0
    assert "waived because: for Linux only" in (run / "plan.json").read_text()


def test_names_that_are_only_unusual_pass() -> None:
    composed = unicodedata.normalize("NFC", "Übung.txt")
    paths = [
        "a/b.json",
        "a/B2.json",
        composed,
        "コン.json",
        "\u0645\u06cc\u200c\u062e.txt",
        "console.json",
        "com10",
        ".hidden",
    ]
    assert [name_problem(path) for path in paths] == [None] * len(paths)
    assert lookalikes([*paths, "A/other.json"]) == [], "two folders become one, and no file is lost"
    assert lookalikes(["a", "A/b"]) == [("A", "a")] or lookalikes(["a", "A/b"]) == [("a", "A")]
    assert lookalikes([composed, unicodedata.normalize("NFD", composed)])
    assert shown("plain.json") == "plain.json"
