"""The files of the chat Space of one release: flat, pinned, and without any dependency on Slipway.

    files = build_space_bundle(model_id="org/name", revision="3f2a...", tag="v1.0", checkpoint_digest="sha256:...",
                               scorecard=card, title="name chat", license="apache-2.0",
                               verify_command="python -m release verify org/name@v1.0")
    files["app.py"], files["requirements.txt"], files["README.md"], files["space.json"]

The app is read from `spaces/chat` by path: `spaces` must never be importable, for gradio imports the Hub's own package
of that name. A flavour decides which file stands behind the page, and nothing else. requirements.txt pins the whole closure of
what the app imports, as installed here, where it was tested; a flavour that cannot be installed beside the others brings its own.
"""

from __future__ import annotations

import importlib.metadata
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evals.presentation import metric_label, metric_meaning, short_digests
from evals.scorecard import Score, Scorecard
from release.space_memory import HARDWARE
from training.errors import UsageError
from training.records import canonical_json

if TYPE_CHECKING:
    from release.space_flavour import SpaceFlavour

CHAT = Path(__file__).resolve().parent.parent / "spaces" / "chat"
DIRECT_REQUIREMENTS = ("gradio", "torch", "transformers", "huggingface_hub", "safetensors", "jinja2")
LIGHT_REQUIREMENTS = ("gradio", "huggingface_hub", "jinja2", "tokenizers")
REQUIREMENTS = {
    "transformers": DIRECT_REQUIREMENTS,
    "llama.cpp": (*LIGHT_REQUIREMENTS, "xllamacpp"),
    "endpoint": LIGHT_REQUIREMENTS,
}
OWN_REQUIREMENTS = ("tgi", "zerogpu")  # requirements-NAME.txt in spaces/chat: pins that were resolved apart
ZEROGPU_PYTHON = "3.12.12"  # the platform has this and 3.10.13, for which numpy and pandas of these pins have no wheel
PAGE = (
    "about",
    "answers",
    "app",
    "chat_model",
    "display",
    "download",
    "layout",
    "limits",
    "rating",
    "sessions",
    "visitors",
)
BEHIND_THE_PAGE = {
    "transformers": ("digest", "transformers_model"),
    "zerogpu": ("digest", "transformers_model", "zerogpu_model"),
    "llama.cpp": ("llama_model", "template"),
    "endpoint": ("endpoint_model", "server_answer", "template"),
    "tgi": ("server_answer", "template", "tgi_model"),
}
THUMBS = ("thumbs", "vote_dataset", "vote_files", "vote_log")  # not in tgi's, whose huggingface_hub is of before httpx
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "config.json")
SCORES_SHOWN = 12
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
SHORT_DESCRIPTION_MOST = 60  # the Hub's limit

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_PYTHON = re.compile(r"3\.\d+(\.\d+)?")


def build_space_bundle(
    *,
    model_id: str,
    revision: str,
    tag: str,
    checkpoint_digest: str,
    scorecard: Scorecard | None,
    title: str,
    license: str | None,
    verify_command: str,
    flavour: SpaceFlavour | None = None,
    files: Mapping[str, str] | None = None,
) -> dict[str, bytes]:
    """Path -> bytes of every file of the Space. Equal arguments on one installation give equal bytes.

    Without a flavour transformers answers. `files` are the release's hashes by path, of which a flavour that takes only the
    tokenizer pins what it downloads.

    Raises UsageError where the model, its revision or its digest is not what a published page can name, where the
    scorecard is another checkpoint's, or where `spaces/chat` is not beside this package.
    """
    _check("the model must be a repository on the Hub", "model_id", model_id, _HUB_ID, "ORG/NAME")
    _check("the Space must name a commit, not a branch or tag", "revision", revision, _COMMIT, "40 hexadecimal digits")
    _check("the checkpoint's digest is not one", "checkpoint_digest", checkpoint_digest, _DIGEST, "sha256:64 digits")
    if scorecard is not None and scorecard.model.digest != checkpoint_digest:
        raise UsageError(
            "the scorecard is of another checkpoint than the Space",
            expected=checkpoint_digest,
            found=scorecard.model.digest,
            next_step="python -m evals run CHECKPOINT --suite starter --out RUN",
        )
    backend = flavour.backend if flavour else "transformers"
    bundle = {file.name: file.read_bytes() for file in _app_files(backend)}
    space = {
        "schema_version": 1,
        "title": title,
        "model_id": model_id,
        "revision": revision,
        "tag": tag,
        "checkpoint_digest": checkpoint_digest,
        "license": license,
        "flavour": flavour.name if flavour else None,
        "hardware": flavour.hardware if flavour else None,
        "memory": flavour.memory if flavour else None,
        "precision": flavour.precision if flavour else "auto",
        "backend": backend,
        "backend_settings": _settings(flavour, files or {}),
        "scores": [] if scorecard is None else [_shown(score) for score in _chosen(scorecard.scores)],
        "scored_in": None if scorecard is None else _scored_in(scorecard),
        "verify_command": verify_command,
    }
    pinned = (
        dict(own_pins(backend)) if backend in OWN_REQUIREMENTS else dict(pinned_requirements(REQUIREMENTS[backend]))
    )
    sdk_version = pinned["gradio"]
    readme = _render(
        "README.md.jinja",
        **space,
        preloaded=sorted({model_id, flavour.gguf.repo_id} if flavour and flavour.gguf else {model_id}),
        sdk_version=sdk_version,
        python_version=ZEROGPU_PYTHON if backend == "zerogpu" else ".".join(platform.python_version_tuple()[:2]),
        short_description=f"Chat with {model_id}"[:SHORT_DESCRIPTION_MOST].rstrip(),
    )
    check_front_matter(readme)
    bundle["README.md"] = readme.encode()
    bundle["requirements.txt"] = _render("requirements.txt.jinja", packages=sorted(pinned.items())).encode()
    bundle["space.json"] = canonical_json(space)
    return bundle


def _settings(flavour: SpaceFlavour | None, files: Mapping[str, str]) -> dict[str, Any]:
    """What the file behind the page is told beside the model: which bytes to fetch, or which server to ask."""
    if flavour is None or flavour.backend in ("transformers", "zerogpu"):
        return {}
    told: dict[str, Any] = {"files": {name: files[name] for name in TOKENIZER_FILES if name in files}}
    if "tokenizer.json" not in told["files"] or "config.json" not in told["files"]:
        raise UsageError(
            f"the flavour {flavour.name} renders conversations by tokenizer.json, and the release has none",
            expected=", ".join(TOKENIZER_FILES),
            found=", ".join(told["files"]) or "none of them",
            next_step="save the tokenizer as a fast one, or publish with --space alone",
        )
    if flavour.gguf is not None:
        told["gguf"] = flavour.gguf.model_dump(mode="json")
    if flavour.url is not None:
        told["url"] = flavour.url
    return told


def own_pins(backend: str) -> list[tuple[str, str]]:
    """(name, version) of a flavour that has pins of its own."""
    from packaging.utils import canonicalize_name

    lines = (CHAT / f"requirements-{backend}.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("==") for line in lines if line and not line.startswith("#"))
    return sorted((canonicalize_name(name), version) for name, _, version in pairs)


def check_front_matter(readme: str) -> None:
    """Refuse front matter with which the Hub would not build the Space, or would build another than was tested.

    Raises UsageError naming the key.
    """
    import yaml

    where = "README.md of the Space, front matter"
    parts = readme.split("---\n", 2)
    try:
        matter = yaml.safe_load(parts[1]) if len(parts) == 3 and not parts[0] else None
    except yaml.YAMLError as error:
        raise UsageError("the front matter is not YAML", where=where, found=str(error)) from error
    if not isinstance(matter, dict):
        raise UsageError("the README has no front matter", where=where, expected="--- and YAML at its beginning")
    rules: dict[str, tuple[str, bool]] = {
        "title": ("a text", _is_text(matter.get("title"))),
        "sdk": ("gradio", matter.get("sdk") == "gradio"),
        "sdk_version": ("a released version such as 6.31.0", _matches(_VERSION, matter.get("sdk_version"))),
        "python_version": ('a text such as "3.11"', _matches(_PYTHON, matter.get("python_version"))),
        "app_file": ("app.py", matter.get("app_file") == "app.py"),
        "pinned": ("true or false", isinstance(matter.get("pinned"), bool)),
        "colorFrom": (f"one of {', '.join(COLOURS)}", matter.get("colorFrom") in COLOURS),
        "colorTo": (f"one of {', '.join(COLOURS)}", matter.get("colorTo") in COLOURS),
        "emoji": ("one emoji", _is_text(matter.get("emoji")) and not str(matter["emoji"]).isascii()),
        "models": ("a list of repositories", _all_match(_HUB_ID, matter.get("models"))),
        "preload_from_hub": ("a list of repositories", _all_match(_HUB_ID, matter.get("preload_from_hub"))),
        "short_description": (
            f"a text of at most {SHORT_DESCRIPTION_MOST} characters",
            _is_text(matter.get("short_description")) and len(matter["short_description"]) <= SHORT_DESCRIPTION_MOST,
        ),
        "suggested_hardware": (
            f"one of {', '.join(HARDWARE)}, or no such key",
            "suggested_hardware" not in matter or matter["suggested_hardware"] in HARDWARE,
        ),
        "license": ("a text, or no such key", "license" not in matter or _is_text(matter["license"])),
    }
    for key, (expected, kept) in rules.items():
        if not kept:
            found = repr(matter.get(key))
            raise UsageError(f"the Space's {key} is not valid", where=where, expected=expected, found=found)


def pinned_requirements(roots: tuple[str, ...] = DIRECT_REQUIREMENTS) -> list[tuple[str, str]]:
    """(name, version) of the roots and all that they require here, sorted, at the installed versions.

    A local version (2.13.0+cpu) is given without its suffix, for no index lists that under the plain name.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    todo = [Requirement(name) for name in roots]
    seen: set[tuple[str, str]] = set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        found[name] = _version(name).partition("+")[0]
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in importlib.metadata.requires(name) or []:
                child = Requirement(line)
                if child.marker is None or child.marker.evaluate({"extra": extra}):
                    todo.append(child)
    return sorted(found.items())


def _app_files(backend: str) -> list[Path]:
    files = [
        CHAT / f"{name}.py"
        for name in sorted((*PAGE, *BEHIND_THE_PAGE[backend], *(() if backend == "tgi" else THUMBS)))
    ]
    files += [CHAT / "markdown.css", CHAT / "page.css"]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise UsageError(
            "the chat Space's sources are not beside the release package",
            where=str(CHAT),
            expected=", ".join(missing),
            found="no such file",
            next_step="run Slipway from a checkout of its repository",
        )
    return files


def _render(template: str, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string((CHAT / template).read_text(encoding="utf-8")).render(**values)


def _chosen(scores: list[Score]) -> list[Score]:
    headline = [score for score in scores if score.headline]
    return (headline or scores)[:SCORES_SHOWN]


def _shown(score: Score) -> dict[str, Any]:
    names = ("task", "metric", "group", "value", "n", "unscored", "higher_is_better", "unit", "scorer")
    shown = {name: getattr(score, name) for name in names}
    shown["label"] = metric_label(score.metric, score.scorer)
    shown["meaning"] = metric_meaning(score.metric, score.description)
    shown["scorer"] = score.scorer and short_digests(score.scorer)
    low, high = score.interval.ends
    return {**shown, "low": low, "high": high, "interval_method": score.interval.method}


def _scored_in(scorecard: Scorecard) -> str:
    return f"{scorecard.settings.dtype} on {scorecard.settings.device}, suite {scorecard.settings.suite}"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError as error:
        raise UsageError(
            f"{name} is not installed, so the Space cannot pin it", next_step=f"pip install {name}"
        ) from error


def _check(what: str, where: str, value: str, pattern: re.Pattern[str], expected: str) -> None:
    if not pattern.fullmatch(value):
        raise UsageError(what, where=where, expected=expected, found=value)


def _matches(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, str) and pattern.fullmatch(value) is not None


def _all_match(pattern: re.Pattern[str], value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(_matches(pattern, item) for item in value)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
