"""What the Hub says about a repository: the card's metadata, tags, files, and the size of a model.

repo_info(repository, repository.resolve("main"), with_blobs=True)["cardData"]["license"]
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from release.local_hub.commits import Commit
from release.local_hub.front_matter import parse_front_matter, split_card
from release.local_hub.plain_json import parsed_file
from release.local_hub.repository import Repository
from release.local_hub.safetensors_header import header_counts
from release.local_hub.space_status import RUNNING, STOPPED, SpaceStatus, read_status
from release.local_hub.storage import Blobs, pointer_of
from release.local_hub.tree import Entry, Tree

RELATIONS = ("adapter", "finetune", "merge", "quantized")  # of a model to the base that its card names
CARD_LIMIT = 1 << 20  # bytes of a README that are read
# Fields of a data set's card that are tags with their name in front.
DATASET_TAGS = (
    "task_categories", "task_ids", "size_categories", "multilinguality", "language_creators", "annotations_creators",
    "source_datasets", "benchmark",
)  # fmt: skip


def card_text(blobs: Blobs, tree: Tree) -> str:
    """Empty also where the Hub has lost it: what is left of the repository must be told, so that it can be sent again."""
    entry = tree.get("README.md")
    return blobs.read(entry.sha256, CARD_LIMIT).decode(errors="replace") if entry and blobs.has(entry.sha256) else ""


def lost_files(blobs: Blobs, tree: Tree) -> list[str]:
    """The paths whose content is not on this Hub any more."""
    return [path for path, entry in tree.items() if not blobs.has(entry.sha256, entry.size)]


def card_data(blobs: Blobs, tree: Tree) -> dict[str, Any]:
    """The card's metadata; empty when there is none or it is not valid. It is shared: not to be changed."""
    entry = tree.get("README.md")
    return _parsed_card(blobs, entry.sha256) if entry and blobs.has(entry.sha256) else {}


@lru_cache(maxsize=512)
def _parsed_card(blobs: Blobs, sha256: str) -> dict[str, Any]:
    """Read once: the metadata of one card may take seconds (256 kB of YAML), and stands in every list."""
    front, _ = split_card(blobs.read(sha256, CARD_LIMIT).decode(errors="replace"))
    try:
        plain = parse_front_matter(front) if front else {}
    except ValueError:
        return {}
    return plain if isinstance(plain, dict) else {}


def repo_info(repository: Repository, commit: Commit, *, with_blobs: bool = False) -> dict[str, Any]:
    """The answer to GET /api/models/ORG/NAME, and likewise for datasets and Spaces."""
    tree = commit.tree
    info = list_item(repository, commit)
    info["cardData"] = card_data(repository.blobs, tree) or None
    info["siblings"] = [_sibling(path, entry, with_blobs) for path, entry in sorted(tree.items())]
    info["usedStorage"] = sum({entry.sha256: entry.size for entry in tree.values()}.values())
    if repository.kind == "model":
        counts = parameter_counts(repository.blobs, tree)
        if counts:
            info["safetensors"] = {"parameters": counts, "total": sum(counts.values())}
        config = _config(repository.blobs, tree)
        if config:
            info["config"] = {key: config[key] for key in ("architectures", "model_type") if key in config}
            info["transformersInfo"] = {"auto_model": "AutoModelForCausalLM"} if _is_language_model(config) else None
    if repository.kind == "space":
        status = read_status(repository)
        info["runtime"] = runtime(repository, tree, status)
        info["host"] = status.address if status else None
        info["sdk"] = (info["cardData"] or {}).get("sdk") or repository.settings.get("sdk")
    return info


def list_item(repository: Repository, commit: Commit) -> dict[str, Any]:
    """What a list says of each repository."""
    settings, card = repository.settings, card_data(repository.blobs, commit.tree)
    item: dict[str, Any] = {
        "_id": repository.folder.name,
        "id": repository.id,
        "author": repository.namespace,
        "sha": commit.oid,
        "lastModified": commit.date,
        "createdAt": settings.get("created", commit.date),
        "private": settings.get("private", True),
        "gated": settings.get("gated", False),
        "disabled": False,
        "downloads": 0,
        "likes": 0,
    }
    if repository.kind == "model":
        config = _config(repository.blobs, commit.tree)
        library = card.get("library_name") or ("transformers" if config.get("model_type") else None)
        task = card.get("pipeline_tag") or ("text-generation" if _is_language_model(config) else None)
        item |= {"modelId": repository.id, "library_name": library, "pipeline_tag": task}
        formats = sorted({suffix for suffix in ("safetensors", "gguf") if _has_suffix(commit.tree, suffix)})
        item["tags"] = _distinct(
            [library, *formats, config.get("model_type"), task, *_card_tags(card, repository.kind)]
        )
    elif repository.kind == "space":
        item |= {"sdk": card.get("sdk") or settings.get("sdk")}
        item["tags"] = _distinct([item["sdk"], *_card_tags(card, repository.kind)])
    else:
        item["tags"] = _distinct(_card_tags(card, repository.kind))
    return item


def app_file(space: Repository, tree: Tree) -> str:
    """The file that a Space runs, or shows: the card's `app_file`, or what its sdk takes by itself."""
    card = card_data(space.blobs, tree)
    sdk = card.get("sdk") or space.settings.get("sdk")
    if sdk == "docker":
        return "Dockerfile"  # whatever the card names
    return str(card.get("app_file") or ("index.html" if sdk == "static" else "app.py"))


def runtime(space: Repository, tree: Tree, status: SpaceStatus | None) -> dict[str, Any]:
    """A Space's state; without a status no server runs Spaces, and it is what it was told, or stopped."""
    settings = space.settings
    idle = STOPPED if app_file(space, tree) in tree else "NO_APP_FILE"
    hardware = settings.get("hardware", "cpu-basic")
    runs = status is not None and status.stage == RUNNING
    found = {
        "stage": status.stage if status else settings.get("stage", idle),
        "hardware": {"current": hardware if runs else None, "requested": hardware},
        "storage": None,
        "gcTimeout": settings.get("sleep_time"),
        "replicas": {"current": int(runs), "requested": 1},
        "devMode": False,
    }
    if status is not None:
        found |= {"sha": status.commit, "errorMessage": status.error}
    return found


def _sibling(path: str, entry: Entry, with_blobs: bool) -> dict[str, Any]:
    if not with_blobs:
        return {"rfilename": path}
    sibling: dict[str, Any] = {"rfilename": path, "size": entry.size, "blobId": entry.oid}
    if entry.lfs:
        sibling["lfs"] = {"sha256": entry.sha256, "size": entry.size, "pointerSize": pointer_size(entry)}
    return sibling


def pointer_size(entry: Entry) -> int:
    return len(pointer_of(entry.sha256, entry.size))


def _card_tags(card: dict[str, Any], kind: str) -> list[Any]:
    """The card's own tags, then the ones that the Hub makes of its other fields."""
    tags = texts(card.get("tags"))
    language = "language:" if kind == "dataset" else ""
    for key, prefix in (("language", language), ("datasets", "dataset:"), ("base_model", "base_model:")):
        tags += [f"{prefix}{value}" for value in texts(card.get(key))]
    if (relation := card.get("base_model_relation")) in RELATIONS:
        tags += [f"base_model:{relation}:{value}" for value in texts(card.get("base_model"))]
    for key in ("license", *DATASET_TAGS) if kind == "dataset" else ("license",):
        tags += [f"{key}:{value}" for value in texts(card.get(key))]
    return tags


def texts(value: Any) -> list[str]:
    """The texts of a field that may hold one or several."""
    values = value if isinstance(value, list) else [value]
    return [text for text in values if isinstance(text, str)]


def _distinct(values: list[Any]) -> list[str]:
    return list(dict.fromkeys(value for value in values if isinstance(value, str) and value))


def _has_suffix(tree: Tree, suffix: str) -> bool:
    return any(path.endswith(f".{suffix}") for path in tree)


def _config(blobs: Blobs, tree: Tree) -> dict[str, Any]:
    entry = tree.get("config.json")
    readable = entry is not None and entry.size <= CARD_LIMIT and blobs.has(entry.sha256)
    return _parse_config(blobs, entry.sha256) if entry and readable else {}


@lru_cache(maxsize=256)
def _parse_config(blobs: Blobs, sha256: str) -> dict[str, Any]:
    try:
        value = parsed_file(blobs.read(sha256))
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _is_language_model(config: dict[str, Any]) -> bool:
    return any("ForCausalLM" in name for name in texts(config.get("architectures")))


def parameter_counts(blobs: Blobs, tree: Tree) -> dict[str, int]:
    """How many parameters of each dtype the safetensors files hold, from their headers."""
    counts: dict[str, int] = {}
    for path, entry in tree.items():
        if path.endswith(".safetensors") and "/" not in path and blobs.has(entry.sha256):
            for dtype, count in _header_counts(blobs, entry.sha256):
                counts[dtype] = counts.get(dtype, 0) + count
    return counts


@lru_cache(maxsize=4096)
def _header_counts(blobs: Blobs, sha256: str) -> tuple[tuple[str, int], ...]:
    with blobs.path(sha256).open("rb") as file:
        return tuple((header_counts(file) or {}).items())
