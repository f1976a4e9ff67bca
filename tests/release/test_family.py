"""The collection of a release's family, and the pointer from a superseded model to its successor."""

from __future__ import annotations

import json

import pytest

from release.__main__ import main
from release.hub_client import HubClient
from training.errors import UsageError

CARD = b"---\nlicense: apache-2.0\ntags:\n- ppo\n---\n\n# Old\n\nIts words stay.\n"


def test_a_model_its_space_and_its_exports_become_a_collection_once(
    hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.create_repository(repo_id, private=False)
    hub.create_repository(f"{repo_id}-chat", "space", private=False, sdk="static")
    words = ["family", repo_id, "--title", "A family", "--description", "Everything of it.", "--json"]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["items"] == [[repo_id, "model"], [f"{repo_id}-chat", "space"]]

    hub.create_repository(f"{repo_id}-GGUF", private=False)
    assert main(words) == 0
    collection = hub.api.get_collection(told["slug"])
    assert [item.item_id for item in collection.items] == [repo_id, f"{repo_id}-chat", f"{repo_id}-GGUF"]
    assert main(["family", f"{repo_id}-none", "--title", "Nothing"]) == 2


def test_the_card_of_a_superseded_model_names_its_successor_in_one_commit(hub: HubClient, repo_id: str) -> None:
    old, new = f"{repo_id}-1", f"{repo_id}-2"
    hub.create_repository(old, private=False)
    hub.api.upload_file(path_or_fileobj=CARD, path_in_repo="README.md", repo_id=old)
    assert main(["supersede", old, "--by", new]) == 2, "there is no such model yet"
    hub.create_repository(new, private=True)
    assert main(["supersede", old, "--by", new]) == 2, "readers could not see it"
    hub.set_private(new, False)

    before = hub.history(old)
    assert main(["supersede", old, "--by", new]) == 0
    assert main(["supersede", old, "--by", new]) == 0, "nothing is left to do"
    assert hub.api.model_info(old).card_data.new_version == new
    text = hub.text(old, "main", "README.md")
    assert text.endswith(CARD.decode().partition("---\n\n")[2])
    assert [commit.title for commit in hub.history(old)[: -len(before)]] == [f"Superseded by {new}"]


def test_models_that_would_supersede_each_other_are_refused(
    hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    names = [f"{repo_id}-{letter}" for letter in "abc"]
    for name in names:
        hub.create_repository(name, private=False)
        hub.api.upload_file(path_or_fileobj=CARD, path_in_repo="README.md", repo_id=name)
    a, b, c = names
    assert main(["supersede", a, "--by", a]) == 2
    assert main(["supersede", a, "--by", a.upper()]) == 2, "names are the same in any case"
    assert "cannot supersede itself" in capsys.readouterr().err
    assert main(["supersede", a, "--by", b]) == 0
    assert main(["supersede", b, "--by", c]) == 0
    assert main(["supersede", c, "--by", a]) == 2
    assert f"{c} -> {a} -> {b} -> {c}" in capsys.readouterr().err
    assert hub.api.model_info(c).card_data.get("new_version") is None
    loop = b"---\nnew_version: " + b.encode() + b"\n---\n"
    hub.api.upload_file(path_or_fileobj=loop, path_in_repo="README.md", repo_id=c)
    hub.create_repository(f"{repo_id}-d", private=False)
    assert main(["supersede", f"{repo_id}-d", "--by", b]) == 2, "b and c name each other: neither is the last"


def test_a_file_that_is_not_there_is_said_so(hub: HubClient, repo_id: str) -> None:
    hub.create_repository(repo_id, private=False)
    with pytest.raises(UsageError, match=r"there is no nothing\.md"):
        hub.text(repo_id, "main", "nothing.md")
