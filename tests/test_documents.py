"""What the documents say can be typed, opened and found."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
PACKAGES = ("training", "evals", "model_cards", "release")


def commands() -> list[tuple[str, str]]:
    """(document, command) of every `python -m PACKAGE ...` line in a fenced shell block; the log tells of past ones."""
    found = []
    for document in DOCUMENTS:
        if document.name == "log.md":
            continue
        for block in re.findall(r"```(?:sh|bash|console)\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                match = re.search(rf"python -m (?:{'|'.join(PACKAGES)}) .*", line)
                if match:
                    found.append((document.name, match.group(0).split(" #")[0]))
    return sorted(set(found))


@cache
def help_of(package: str, command: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", package, command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_the_readme_shows_commands_of_every_package_that_has_any() -> None:
    shown = {line.split()[2] for document, line in commands() if document == "README.md"}
    assert shown >= {"training", "evals", "release"}


@pytest.mark.parametrize(("document", "line"), commands(), ids=lambda value: value[:60])
def test_a_command_in_a_document_exists_with_its_options(document: str, line: str) -> None:
    _, _, package, command, *words = shlex.split(line)
    known = help_of(package, command)
    for word in words:
        if word.startswith("--"):
            assert re.search(rf"{re.escape(word.split('=')[0])}\b", known), f"{document}: {line}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_link_in_a_document_leads_to_a_file(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", document.read_text(encoding="utf-8")):
        assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_document_speaks_of_the_project_alone(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert not re.search(r"/(?:work|root|home|Users)/", text)


def test_the_map_of_the_architecture_names_every_module_and_no_other() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    for package in (*PACKAGES, "spaces"):
        section = re.search(rf"### {package}: .*?(?=\n### )", text, re.DOTALL)
        assert section, f"no section on {package}"
        rows = re.findall(r"^\| `([^`]+\.py)` \|", section.group(0), re.MULTILINE)
        assert len(rows) == len(set(rows)), (
            f"{package}: {sorted(row for row in rows if rows.count(row) > 1)} stand there twice"
        )
        named = set(rows)
        folder = ROOT / package
        there = {str(file.relative_to(folder)) for file in folder.rglob("*.py") if file.name != "__init__.py"}
        assert named == there, f"{package}: {named ^ there}"


def test_make_help_lines_name_targets_that_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    told = set(re.findall(r"\bmake ([a-z][a-z-]+)", makefile.split("PYTHON ?=")[0]))
    assert {"demo", "test", "check", "format", "clean"} <= told <= targets
