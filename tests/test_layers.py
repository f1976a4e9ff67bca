"""The floors, the single owners, and what `--help` may cost."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ["training", "evals", "model_cards", "release"]  # from the lowest; each imports itself and what lies below
OWNERS = {
    # Tasks, backends, and the backend of ours: an lm-eval model is a class of lm-eval's.
    "lm_eval": {"evals/harness.py", "evals/task_definition.py", "evals/backends.py", "evals/prefix_tree.py"},
    # One launcher for each method; what they share (training/trl_run.py) is handed TRL's classes.
    "trl": {f"training/{method}.py" for method in ("sft", "reward", "dpo", "kto", "rloo", "grpo")},
    # zerogpu_model raises gradio's error, of which alone the platform carries the words from the process with the GPU.
    "gradio": {f"spaces/chat/{name}.py" for name in ("answers", "app", "display", "layout", "rating", "zerogpu_model")}
    | {f"spaces/feedback/{name}.py" for name in ("app", "page", "parts")},
    "model_signing": {"release/signature.py"},
    "vllm": {"training/vllm_rollouts.py"},
    "sigstore": {"release/keyless.py"},
    "detect_secrets": {"release/gates/private.py"},
    # llama.cpp runs what was exported, quantises, and answers in the cpu Space.
    "xllamacpp": {"release/exports/llama_cpp.py", "release/exports/quantisation.py", "spaces/chat/llama_model.py"},
    # The second reads it as a feature.
    "profanity_check": {"evals/metrics/profanity/profanity.py", "evals/toxicity_scorer.py"},
    "optuna": {"training/sweep.py", "training/sweep_study.py"},
    "deepspeed": {"training/zero3.py"},
    "codecarbon": {"training/energy.py"},
    "sklearn": {"evals/ngram_model.py"},
    "matplotlib": {"model_cards/plots.py", "training/isoflop_plot.py"},
    "nh3": {"release/local_hub/pages/markdown.py", "model_cards/page_parts.py"},
}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """The dotted name of every import anywhere in the file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_there_are_sources_to_look_at() -> None:
    assert all(len(sources(package)) > 5 for package in FLOORS)
    assert "training.errors.GateRefused" in {name for file in sources("release") for name in imports(file)}


@pytest.mark.parametrize("package", FLOORS)
def test_a_package_imports_only_downward(package: str) -> None:
    above = {*FLOORS[FLOORS.index(package) + 1 :], "spaces", "tests"}
    found = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in sources(package)
        for name in imports(file)
        if name.split(".")[0] in above
    ]
    assert found == []


def test_the_spaces_need_nothing_of_ours() -> None:
    """Each is published as a flat bundle that runs where Slipway is not installed. `spaces` is Hugging Face's own package there."""
    ours = {*FLOORS, "spaces", "tests"}
    found = [
        (file.name, name)
        for folder in ("spaces/chat", "spaces/feedback")
        for file in sources(folder)
        for name in imports(file)
        if name.split(".")[0] in ours
    ]
    assert found == [("zerogpu_model.py", "spaces")]


def test_spaces_is_no_package_for_gradio_imports_one_of_that_name() -> None:
    assert list((ROOT / "spaces").rglob("__init__.py")) == []
    assert not any(name.startswith("spaces") for name in _packages())


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_a_library_has_one_owner(library: str) -> None:
    users = {
        str(file.relative_to(ROOT))
        for package in (*FLOORS, "spaces")
        for file in sources(package)
        if any(name.split(".")[0] == library for name in imports(file))
    }
    assert users == OWNERS[library]


def test_the_hubs_client_is_held_in_one_module() -> None:
    users = {
        str(file.relative_to(ROOT))
        for package in (*FLOORS, "spaces")
        for file in sources(package)
        if any(isinstance(node, ast.Name) and node.id == "HfApi" for node in ast.walk(ast.parse(file.read_text())))
    }
    assert users == {"release/hub_reader.py"}


def test_no_file_of_tests_imports_from_another() -> None:
    """What several share is in a module of its own, so that a file can be divided or left out; and which conftest.py that name
    means depends on which files were asked for."""
    found = [
        f"{file.relative_to(ROOT)}: {name}"
        for file in sources("tests")
        for name in imports(file)
        if name.startswith("test_") or name.partition(".")[0] == "conftest"
    ]
    assert found == []


def test_init_files_are_docstrings() -> None:
    for package in FLOORS:
        for file in (ROOT / package).rglob("__init__.py"):
            body = ast.parse(file.read_text(encoding="utf-8")).body
            assert len(body) == 1, file
            assert isinstance(body[0], ast.Expr), file


@pytest.mark.parametrize("package", FLOORS)
def test_help_answers_without_torch(package: str) -> None:
    script = (
        "import runpy, sys\n"
        f"sys.argv = ['{package}', '--help']\n"
        "try:\n"
        f"    runpy.run_module('{package}', run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "heavy = {'torch', 'transformers', 'lm_eval', 'gradio', 'datasets', 'matplotlib', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "COMMAND" in finished.stdout


def test_every_package_is_listed_and_every_data_file_is_packed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    on_disk = {
        str(file.parent.relative_to(ROOT)).replace("/", ".")
        for package in FLOORS
        for file in (ROOT / package).rglob("__init__.py")
    }
    assert set(_packages()) == on_disk
    patterns = settings["package-data"]["*"]
    for package in on_disk:
        folder = ROOT / package.replace(".", "/")
        for file in _data_files(folder):
            name = str(file.relative_to(folder))
            assert any(fnmatch(name, pattern) for pattern in patterns), f"{file} would not be installed"


def _data_files(folder: Path) -> Iterator[Path]:
    """Data files that belong to this package: in it, or in folders of it that are no packages themselves."""
    for child in sorted(folder.iterdir()):
        if child.is_dir() and child.name != "__pycache__" and not (child / "__init__.py").exists():
            yield from (file for file in child.rglob("*") if file.is_file())
        elif child.is_file() and child.suffix not in (".py", ".pyc"):
            yield child


def _packages() -> list[str]:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return list(settings["tool"]["setuptools"]["packages"])
