"""The files of a published chat Space."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.scorecard import EvaluatedModel, Interval, Score, Scorecard, Settings
from release import space_bundle
from release.space_bundle import build_space_bundle, check_front_matter, pinned_requirements
from training.errors import UsageError

DIGEST = "sha256:" + "ab" * 32


def _build(**changes: Any) -> dict[str, bytes]:
    arguments: dict[str, Any] = {
        "model_id": "org/name",
        "revision": "0123456789" * 4,
        "tag": "v1.0",
        "checkpoint_digest": DIGEST,
        "scorecard": None,
        "title": 'Name: the "chat"',
        "license": "apache-2.0",
        "verify_command": "python -m release verify org/name@v1.0",
    }
    return build_space_bundle(**(arguments | changes))


def _score(task: str, headline: bool) -> Score:
    return Score(
        task=task,
        metric="mc2",
        group="truthfulness",
        value=0.47,
        stderr=0.02,
        interval=Interval(low=0.43, high=0.51, method="bootstrap"),
        n=120,
        unscored=2,
        higher_is_better=True,
        headline=headline,
    )


def _scorecard(digest: str) -> Scorecard:
    settings = Settings(
        suite="starter",
        suite_sha256="0" * 64,
        backend="prefix_tree",
        dtype="bfloat16",
        device="cpu",
        batch_size=1,
        seed=0,
        tasks=[],
    )
    return Scorecard(
        model=EvaluatedModel(name="x", digest=digest, parameters=1),
        scores=[_score("first", False), _score("second", True)],
        settings=settings,
        samples={},
        packages={},
        git_revision=None,
        created="2026-11-24T00:00:00Z",
        seconds=1.0,
    )


def test_the_bundle_is_flat_complete_and_needs_nothing_of_slipway() -> None:
    files = _build()
    assert {"app.py", "requirements.txt", "README.md", "space.json"} <= files.keys()
    assert not [name for name in files if "/" in name or name.endswith(".jinja")]
    own = {name.removesuffix(".py") for name in files if name.endswith(".py")}
    pinned = {line.partition("==")[0] for line in files["requirements.txt"].decode().splitlines()}
    for name in (name for name in files if name.endswith(".py")):
        for module in _imported(files[name].decode()):
            known = module in own or module in sys.stdlib_module_names or module.replace("_", "-") in pinned
            assert known, f"{name} imports {module}, which the bundle neither holds nor requires"


def _imported(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def test_the_same_release_gives_the_same_bytes() -> None:
    assert _build() == _build()


def test_the_front_matter_pins_sdk_and_python_and_names_the_model() -> None:
    matter = yaml.safe_load(_build()["README.md"].decode().split("---\n")[1])
    assert matter["sdk_version"] == importlib.metadata.version("gradio")
    assert matter["python_version"] == f"3.{sys.version_info.minor}"
    assert matter["models"] == ["org/name"]
    assert matter["title"] == 'Name: the "chat"'
    assert matter["license"] == "apache-2.0"
    assert "license" not in yaml.safe_load(_build(license=None)["README.md"].decode().split("---\n")[1])


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("sdk_version", "sdk_version: latest"),
        ("sdk_version", "sdk_version: 6.3"),
        ("python_version", "python_version: 3.1"),
        ("colorFrom", "colorFrom: teal"),
        ("models", "models: [/tmp/checkpoint]"),
        ("short_description", f"short_description: {'x' * 61}"),
    ],
)
def test_front_matter_that_the_hub_would_not_build_is_refused_by_its_key(key: str, line: str) -> None:
    lines = _build()["README.md"].decode().splitlines()
    at = next(at for at, text in enumerate(lines) if text.startswith(f"{key}:"))
    until = at + 2 if key == "models" else at + 1
    with pytest.raises(UsageError, match=f"the Space's {key} is not valid"):
        check_front_matter("\n".join([*lines[:at], line, *lines[until:]]))


def test_requirements_pin_the_whole_closure_without_local_suffixes() -> None:
    pins = dict(pinned_requirements())
    assert pins["gradio"] == importlib.metadata.version("gradio")
    assert {"torch", "transformers", "tokenizers", "huggingface-hub", "pydantic", "starlette"} <= pins.keys()
    assert not [version for version in pins.values() if "+" in version]
    assert "trl" not in pins


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_id": "/tmp/checkpoint"}, "repository on the Hub"),
        ({"revision": "main"}, "a commit, not a branch"),
        ({"checkpoint_digest": "abc"}, "digest is not one"),
        ({"scorecard": _scorecard("sha256:" + "00" * 32)}, "another checkpoint"),
    ],
)
def test_what_a_published_page_cannot_name_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        _build(**changes)


def test_the_page_shows_the_headline_scores_with_their_intervals() -> None:
    space = json.loads(_build(scorecard=_scorecard(DIGEST))["space.json"])
    assert [(score["task"], score["low"], score["high"]) for score in space["scores"]] == [("second", 0.43, 0.51)]
    assert space["scored_in"] == "bfloat16 on cpu, suite starter"
    assert (space["model_id"], space["revision"]) == ("org/name", "0123456789" * 4)


def test_without_the_sources_beside_it_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(space_bundle, "CHAT", tmp_path / "none")
    with pytest.raises(UsageError, match="run Slipway from a checkout"):
        _build()


def test_spaces_can_never_be_imported_as_a_package() -> None:
    folder = Path(space_bundle.__file__).parent.parent / "spaces"
    assert not list(folder.rglob("__init__.py"))
