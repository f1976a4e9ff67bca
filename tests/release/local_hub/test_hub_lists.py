"""Lists of the real client: each of its filters narrows them or is refused, and none is passed over in silence."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import BadRequestError

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


def put(api: HfApi, repo: str, files: dict[str, bytes], kind: str = "model", **settings: Any) -> None:
    api.create_repo(repo, repo_type=kind, **settings)
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    api.create_commit(repo, operations, commit_message="1", repo_type=kind)


def weights(count: int) -> bytes:
    """A safetensors file that says it has so many parameters; only its header is looked at."""
    header = json.dumps({"w": {"dtype": "F32", "shape": [count], "data_offsets": [0, 4 * count]}}).encode()
    return len(header).to_bytes(8, "little") + header


@pytest.fixture
def full(api: HfApi) -> HfApi:
    card = b"---\nlicense: mit\nlanguage: en\ndatasets: [org/text]\npipeline_tag: text-generation\n"
    card += b"base_model: org/base\nbase_model_relation: finetune\n---\n"
    put(api, "slipway/small", {"README.md": card, "model.safetensors": weights(135_000_000)})
    put(api, "slipway/large", {"model.safetensors": weights(7_000_000_000)})
    put(api, "slipway/empty", {"a.txt": b"1"})
    api.update_repo_settings("slipway/large", gated="manual")
    card = b"---\nlanguage: [en, de]\ntask_categories: [question-answering]\ntask_ids: [open-domain-qa]\n---\n"
    put(api, "slipway/text", {"README.md": card}, "dataset")
    put(api, "slipway/other-text", {"a.txt": b"1"}, "dataset")
    card = b"---\nsdk: static\nmodels: [slipway/small]\n---\n"
    put(api, "slipway/page", {"README.md": card}, "space", space_sdk="static")
    put(api, "slipway/other", {"a.txt": b"1"}, "space", space_sdk="static")
    return api


ASKED_OF_ALL = {"filter", "author", "search", "sort", "limit"}
# What is asked for, and what is in the list; None: refused.
ASKED: list[tuple[str, dict[str, Any], set[str] | None]] = [
    ("models", {}, {"small", "large", "empty"}),
    ("models", {"gated": True}, {"large"}),
    ("models", {"gated": False}, {"small", "empty"}),
    ("models", {"num_parameters": "min:1B"}, {"large"}),
    ("models", {"num_parameters": "min:100M,max:0.2B"}, {"small"}),
    ("models", {"num_parameters": "max:128b"}, {"small", "large"}),
    ("models", {"num_parameters": "about 3"}, None),
    ("models", {"apps": "ollama"}, None),
    ("models", {"inference": "warm"}, None),
    ("models", {"inference_provider": "all"}, None),
    ("models", {"trained_dataset": "org/text"}, {"small"}),
    ("models", {"filter": ["license:mit", "en"]}, {"small"}),
    ("models", {"filter": "base_model:org/base"}, {"small"}),
    ("models", {"filter": "base_model:finetune:org/base"}, {"small"}),
    ("models", {"filter": "base_model:merge:org/base"}, set()),
    ("models", {"pipeline_tag": "text-generation"}, {"small"}),
    ("models", {"search": "slip mall"}, {"small"}),
    ("models", {"author": "nobody"}, set()),
    ("models", {"sort": "created_at", "limit": 5}, {"small", "large", "empty"}),
    ("models", {"sort": "colour"}, None),
    ("datasets", {"language": "de"}, {"text"}),
    ("datasets", {"task_categories": "question-answering", "task_ids": ["open-domain-qa"]}, {"text"}),
    ("datasets", {"multilinguality": "monolingual"}, set()),
    ("datasets", {"dataset_name": "text", "search": "other"}, {"other-text"}),
    ("datasets", {"benchmark": True}, set()),
    ("datasets", {"gated": True}, set()),
    ("spaces", {"models": "slipway/small"}, {"page"}),
    ("spaces", {"datasets": ["slipway/text"]}, set()),
    ("spaces", {"models": ["slipway/small", "slipway/large"]}, {"page"}),
]


def test_each_filter_narrows_or_is_refused(full: HfApi) -> None:
    for kind, asked, expected in ASKED:
        ask = getattr(full, f"list_{kind}")
        if expected is None:
            with pytest.raises(BadRequestError):
                list(ask(**asked))
        else:
            assert {one.id.partition("/")[2] for one in ask(**asked)} == expected, (kind, asked)


def test_what_is_asked_for_beside_is_told(full: HfApi) -> None:
    found = {model.id: model for model in full.list_models(full=True, cardData=True, fetch_config=True)}
    small = found["slipway/small"]
    assert "model.safetensors" in [file.rfilename for file in small.siblings]
    assert small.card_data.license == "mit"
    assert next(iter(full.list_models(author="slipway"))).siblings is None
    only = {model.id: model for model in full.list_models(expand=["safetensors"])}
    assert only["slipway/large"].safetensors.total == 7_000_000_000
    assert only["slipway/large"].sha is None
    assert {space.id: space.models for space in full.list_spaces(linked=True)}["slipway/page"] == ["slipway/small"]


def test_no_parameter_of_the_clients_lists_is_new(full: HfApi) -> None:
    """A parameter of a newer client has to be thought about: a line in the table, or a place here."""
    elsewhere = {"self", "token", "expand", "full", "cardData", "fetch_config", "linked", "emissions_thresholds"}
    elsewhere |= {"language_creators", "size_categories"}  # tags, as multilinguality
    for kind in ("models", "datasets", "spaces"):
        tried = {key for one, asked, _ in ASKED for key in asked if one == kind or key in ASKED_OF_ALL}
        assert set(inspect.signature(getattr(HfApi, f"list_{kind}")).parameters) <= tried | elsewhere, kind


def test_lists_of_collections_and_discussions_refuse_what_they_do_not_know(full: HfApi, ask: Any) -> None:
    for number in range(3):
        full.create_collection(f"List {number}")
    assert [one.title for one in full.list_collections(sort="lastModified", limit=2)] == ["List 2", "List 1"]
    for path in ("/api/collections?sort=colour", "/api/collections?colour=red", "/api/collections?limit=x"):
        assert ask("GET", path).status == 400
    for query in ("status=lost", "type=song", "colour=red"):
        assert ask("GET", f"/api/models/slipway/small/discussions?{query}").status == 400
