"""Collections through the unchanged client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from huggingface_hub.errors import HfHubHTTPError


@pytest.fixture
def family(api: Any) -> Any:
    """A collection of a model and its Space."""
    api.create_repo("slipway/tiny")
    api.create_repo("slipway/tiny-chat", repo_type="space", space_sdk="static")
    made = api.create_collection("Tiny family", description="Small, and aligned.")
    api.add_collection_item(made.slug, "slipway/tiny", "model", note="the model")
    return api.add_collection_item(made.slug, "slipway/tiny-chat", "space")


def test_a_collection_is_made_filled_found_and_changed(api: Any, family: Any) -> None:
    assert family.slug.startswith("slipway/tiny-family-")
    found = api.get_collection(family.slug)
    assert [(item.item_id, item.item_type, item.note) for item in found.items] == [
        ("slipway/tiny", "model", "the model"),
        ("slipway/tiny-chat", "space", None),
    ]
    assert (found.title, found.description, found.owner["name"]) == ("Tiny family", "Small, and aligned.", "slipway")
    assert [one.slug for one in api.list_collections(owner="slipway", item="models/slipway/tiny")] == [family.slug]
    assert not list(api.list_collections(item="models/slipway/other"))

    api.update_collection_item(family.slug, found.items[1].item_object_id, position=0, note="talk to it")
    assert [item.note for item in api.get_collection(family.slug).items] == ["talk to it", "the model"]
    api.delete_collection_item(family.slug, found.items[0].item_object_id)
    assert api.update_collection_metadata(family.slug, title="Tiny").title == "Tiny"
    assert [item.item_id for item in api.get_collection(family.slug).items] == ["slipway/tiny-chat"]
    api.delete_collection(family.slug)
    with pytest.raises(HfHubHTTPError, match="404"):
        api.get_collection(family.slug)


def test_the_same_commands_again_change_nothing(api: Any, family: Any) -> None:
    assert api.create_collection("Tiny family", exists_ok=True).slug == family.slug
    assert len(api.add_collection_item(family.slug, "Slipway/Tiny", "model", exists_ok=True).items) == 2
    with pytest.raises(HfHubHTTPError, match="409"):
        api.add_collection_item(family.slug, "slipway/tiny", "model")
    with pytest.raises(HfHubHTTPError, match="404"):
        api.add_collection_item(family.slug, "slipway/none", "model")


def test_strangers_see_of_a_collection_what_they_may_see_and_change_nothing(
    hub: Any, api: Any, family: Any, client: Callable[[str | bool], Any]
) -> None:
    stranger, nobody = client(hub.store.create_user("stranger")), client(False)
    api.update_repo_settings("slipway/tiny", private=True)
    assert [item.item_id for item in nobody.get_collection(family.slug).items] == ["slipway/tiny-chat"]
    assert [item.position for item in nobody.get_collection(family.slug).items] == [0]
    assert not list(nobody.list_collections(item="models/slipway/tiny"))
    assert [one.slug for one in nobody.list_collections(item="spaces/slipway/tiny-chat")] == [family.slug]
    with pytest.raises(HfHubHTTPError, match="403"):
        stranger.add_collection_item(family.slug, "slipway/tiny-chat", "space")
    with pytest.raises(HfHubHTTPError, match="403"):
        stranger.create_collection("Mine", namespace="slipway")
    api.update_collection_metadata(family.slug, private=True)
    for other in (stranger, nobody):
        with pytest.raises(HfHubHTTPError, match="404"):
            other.get_collection(family.slug)
        assert not list(other.list_collections(owner="slipway"))
    assert len(api.get_collection(family.slug).items) == 2


def test_a_collection_has_a_page_that_shows_what_the_caller_may_see(
    api: Any, hub: Any, client: Callable[..., Any], family: Any, token: str, ask: Any
) -> None:
    address = family.url.removeprefix(hub.endpoint)
    assert address == f"/collections/{family.slug}"
    page = ask("GET", address).body.decode()
    assert "Small, and aligned." in page
    assert '<a href="/slipway/tiny">' in page
    assert "the model" in page
    for listed in ("/slipway", "/collections"):
        assert f'href="{address}"' in ask("GET", listed).body.decode()

    api.update_repo_settings("slipway/tiny", private=True)
    assert "the model" not in ask("GET", address).body.decode()
    assert "the model" in ask("GET", address, token).body.decode()
    api.update_collection_metadata(family.slug, private=True)
    stranger = hub.store.create_user("stranger")
    for who in (None, stranger):
        answer = ask("GET", address, who, headers={"Accept": "text/html"})
        assert (answer.status, b"Small" in answer.body) == (404, False)
        for listed in ("/slipway", "/collections"):
            assert b"Tiny family" not in ask("GET", listed, who).body
    for listed in ("/slipway", "/collections"):
        assert b"Tiny family" in ask("GET", listed, token).body
