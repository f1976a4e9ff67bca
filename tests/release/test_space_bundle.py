"""The files of a published chat Space."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from evals.scorecard import EvaluatedModel, Interval, Score, Scorecard, Settings
from release import space_bundle
from release.space_bundle import build_space_bundle, check_front_matter, pinned_requirements
from release.space_flavour import PinnedGguf, SpaceFlavour
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


FILES = dict.fromkeys(
    ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json", "README.md"), "a" * 64
)


def _flavour(name: str) -> SpaceFlavour:
    gguf = PinnedGguf(
        repo_id="org/name-GGUF",
        revision="9" * 40,
        path="name-F16.gguf",
        sha256="cd" * 32,
        size=1,
        precision="F16",
        kl_mean=1e-5,
        greedy_agreement=1.0,
    )
    served = name in ("endpoint", "tgi")
    return SpaceFlavour(
        name=name,
        backend="llama.cpp" if name == "cpu" else name,
        precision="the server's" if served else "F16",
        hardware="cpu-basic",
        memory=None if served else "little",
        url=f"https://{name}.example" if served else None,
        gguf=gguf if name == "cpu" else None,
    )


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


@pytest.mark.parametrize("name", [None, "cpu", "zerogpu", "endpoint", "tgi"])
def test_the_bundle_is_flat_complete_and_needs_nothing_of_slipway(name: str | None) -> None:
    files = _build() if name is None else _build(flavour=_flavour(name), files=FILES)
    assert {"app.py", "requirements.txt", "README.md", "space.json"} <= files.keys()
    assert not [name for name in files if "/" in name or name.endswith(".jinja")]
    check_front_matter(files["README.md"].decode())
    own = {name.removesuffix(".py") for name in files if name.endswith(".py")}
    pinned = {line.partition("==")[0] for line in files["requirements.txt"].decode().splitlines()}
    for name in (name for name in files if name.endswith(".py")):
        for modules in _imported(files[name].decode()):
            known = [
                module in own or module in sys.stdlib_module_names or module.replace("_", "-") in pinned
                for module in modules
            ]
            assert any(known), f"{name} imports {modules}, which the bundle neither holds nor requires"


def _imported(source: str) -> list[set[str]]:
    """The imported modules, one by one; those of a `try` with its `except ImportError` together, for one of them is enough.

    Not those of types alone, nor those whose absence the app tells its owner of (`except ModuleNotFoundError`).
    """
    found: list[set[str]] = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for field in ("body", "orelse"):
            inner = getattr(node, field, None)
            if isinstance(inner, list):
                setattr(node, field, [each for each in inner if not _needs_nothing(each)])
    guarded = [node for node in ast.walk(tree) if isinstance(node, ast.Try) and "ImportError" in ast.unparse(node)]
    found += [set().union(*(_modules(part) for part in ast.walk(node))) for node in guarded]
    inside = {id(part) for node in guarded for part in ast.walk(node)}
    found += [{module} for node in ast.walk(tree) if id(node) not in inside for module in _modules(node)]
    return found


def _needs_nothing(node: ast.stmt) -> bool:
    if isinstance(node, ast.Try):
        return any(handler.type and ast.unparse(handler.type) == "ModuleNotFoundError" for handler in node.handlers)
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def _modules(node: ast.AST) -> set[str]:
    if isinstance(node, ast.Import):
        return {alias.name.partition(".")[0] for alias in node.names}
    if isinstance(node, ast.ImportFrom) and node.module:
        return {node.module.partition(".")[0]}
    return set()


def test_a_flavour_decides_what_stands_behind_the_page_and_nothing_else() -> None:
    plain = _build()
    behind = {"transformers_model.py", "digest.py", "llama_model.py", "template.py"}
    cpu = _build(flavour=_flavour("cpu"), files=FILES)
    assert {name for name in plain if plain[name] != cpu.get(name)} - behind == {
        "README.md",
        "requirements.txt",
        "space.json",
    }
    assert "torch" not in cpu["requirements.txt"].decode()
    told = json.loads(cpu["space.json"])["backend_settings"]
    assert told["gguf"]["sha256"] == "cd" * 32
    assert set(told["files"]) == set(FILES) - {"README.md"}
    matter = yaml.safe_load(cpu["README.md"].decode().split("---\n")[1])
    assert matter["preload_from_hub"] == ["org/name", "org/name-GGUF"]


def test_tgi_comes_with_the_package_text_generation_and_the_gradio_that_can_stand_beside_it() -> None:
    files = _build(flavour=_flavour("tgi"), files=FILES)
    pinned = files["requirements.txt"].decode().splitlines()
    assert "text-generation==0.7.0" in pinned
    assert "gradio==6.17.3" in pinned
    assert yaml.safe_load(files["README.md"].decode().split("---\n")[1])["sdk_version"] == "6.17.3"
    assert json.loads(files["space.json"])["backend_settings"]["url"] == "https://tgi.example"


def test_zerogpu_takes_a_torch_that_the_platform_knows() -> None:
    pins = dict(space_bundle.own_pins("zerogpu"))
    assert tuple(int(part) for part in pins["torch"].split(".")[:2]) <= (2, 11)
    assert "spaces" in pins
    readme = _build(flavour=_flavour("zerogpu"), files=FILES)["README.md"].decode()
    assert yaml.safe_load(readme.split("---\n")[1])["python_version"] == "3.12.12"  # the other that it has is 3.10


def test_a_release_without_a_fast_tokenizer_has_no_flavour_that_renders_by_it() -> None:
    with pytest.raises(UsageError, match=r"tokenizer\.json"):
        _build(flavour=_flavour("cpu"), files={"config.json": "0" * 64})


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


@pytest.mark.parametrize("hardware", ["cpu-basic", "zero-a10g", None])
def test_the_space_asks_for_the_hardware_that_its_memory_was_held_against(hardware: str | None) -> None:
    flavour = _flavour("zerogpu").model_copy(update={"hardware": hardware})
    readme = _build(flavour=flavour, files=FILES)["README.md"].decode()
    assert yaml.safe_load(readme.split("---\n")[1]).get("suggested_hardware") == hardware
    assert ("choose `zero-a10g` in its settings" in readme) == (hardware == "zero-a10g")


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("sdk_version", "sdk_version: latest"),
        ("sdk_version", "sdk_version: 6.3"),
        ("python_version", "python_version: 3.1"),
        ("colorFrom", "colorFrom: teal"),
        ("suggested_hardware", "suggested_hardware: cray-1"),
        ("models", "models: [/tmp/checkpoint]"),
        ("short_description", f"short_description: {'x' * 61}"),
    ],
)
def test_front_matter_that_the_hub_would_not_build_is_refused_by_its_key(key: str, line: str) -> None:
    lines = _build(flavour=_flavour("cpu"), files=FILES)["README.md"].decode().splitlines()
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


def test_a_figure_without_an_interval_is_json_that_anyone_reads() -> None:
    """Items that are all equal give no interval in an open unit, and JSON has no infinity."""
    scored = _scorecard(DIGEST)
    none = Interval(low=-math.inf, high=math.inf, method="none: all items are equal")
    open_ended = [score.model_copy(update={"interval": none}) for score in scored.scores]
    files = _build(scorecard=scored.model_copy(update={"scores": open_ended}))

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    space = json.loads(files["space.json"], parse_constant=refuse)
    assert [(score["low"], score["high"]) for score in space["scores"]] == [(None, None)]


def test_without_the_sources_beside_it_the_error_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(space_bundle, "CHAT", tmp_path / "none")
    with pytest.raises(UsageError, match="run Slipway from a checkout"):
        _build()


def test_spaces_can_never_be_imported_as_a_package() -> None:
    folder = Path(space_bundle.__file__).parent.parent / "spaces"
    assert not list(folder.rglob("__init__.py"))
