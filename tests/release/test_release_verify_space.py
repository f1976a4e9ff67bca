"""`release verify --receipt`: the Space of the receipt is there, holds its files, and serves a release of the model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from releases import next_release, release

from release.__main__ import main
from release.hub_client import HubClient
from release.hub_files import LocalFile
from release.records import Finding, Receipt
from release.space_check import check_space


@pytest.fixture
def receipt(run: Path, hub: HubClient, repo_id: str, load_here: None) -> Receipt:
    release(run, hub, repo_id, "v1")
    return Receipt.read(run / "receipt.json")


def edit(hub: HubClient, space: str, path: str, content: bytes) -> None:
    hub.api.upload_file(path_or_fileobj=content, path_in_repo=path, repo_id=space, repo_type="space")


def wrong(hub: HubClient, receipt: Receipt) -> list[Finding]:
    return [finding for finding in check_space(hub, receipt) if not finding.ok]


def test_a_space_that_was_deleted_is_exit_4_and_the_model_is_not_blamed(
    receipt: Receipt, run: Path, hub: HubClient, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["verify", receipt.repo_id, "--receipt", str(run / "receipt.json")]
    assert main(words) == 0
    assert f"{receipt.repo_id}-chat serves v1" in capsys.readouterr().out
    hub.api.delete_repo(f"{receipt.repo_id}-chat", repo_type="space")
    assert main(words) == 4
    said = capsys.readouterr().err
    assert f"space {receipt.repo_id}-chat: expected the Space at commit" in said
    assert "found no such Space, or none that you may see" in said
    assert "the model itself is as released" in said


def test_a_space_that_was_made_anew_is_not_that_of_the_receipt(receipt: Receipt, hub: HubClient) -> None:
    space = f"{receipt.repo_id}-chat"
    hub.api.delete_repo(space, repo_type="space")
    hub.create_repository(space, "space", private=False, sdk="gradio")
    (finding,) = wrong(hub, receipt)
    assert "in the history of main" in (finding.expected or "")


def test_files_that_were_changed_in_a_space_are_named_where_it_serves_this_release(
    receipt: Receipt, hub: HubClient
) -> None:
    edit(hub, f"{receipt.repo_id}-chat", "app.py", b"print('something else')\n")
    (finding,) = wrong(hub, receipt)
    assert finding.subject.endswith("/app.py")


def test_a_space_that_was_pointed_at_another_commit_or_model_is_found(receipt: Receipt, hub: HubClient) -> None:
    space = f"{receipt.repo_id}-chat"
    told = json.loads(hub.text(space, "main", "space.json", "space"))
    edit(hub, space, "space.json", json.dumps(told | {"revision": "0" * 40}).encode())
    assert [finding.found for finding in wrong(hub, receipt)] == [f"serves {receipt.repo_id} at {'0' * 40}"]
    edit(hub, space, "space.json", json.dumps(told | {"model_id": "slipway/other"}).encode())
    assert [finding.found for finding in wrong(hub, receipt)] == [f"serves slipway/other at {receipt.commit}"]


def test_a_space_that_has_gone_on_to_the_next_release_or_come_back_is_as_released(
    receipt: Receipt, run: Path, hub: HubClient
) -> None:
    next_release(run, hub, receipt.repo_id)
    assert [finding.found for finding in check_space(hub, receipt)] == ["serves v2"]
    assert main(["rollback", "--run", str(run)]) == 0
    assert [finding.found for finding in check_space(hub, receipt)] == ["serves v1"]
    files = {"app.py": LocalFile.of(b"# another\n")}
    main_now = hub.head(f"{receipt.repo_id}-chat", "main", "space")
    hub.commit(
        f"{receipt.repo_id}-chat",
        "main",
        parent=main_now,
        additions=files,
        deletions=[],
        title="Edit",
        message="",
        landed=lambda _: False,
        kind="space",
    )
    assert [finding.ok for finding in check_space(hub, receipt)] == [False]


def test_a_receipt_without_a_space_asks_for_none(receipt: Receipt, hub: HubClient) -> None:
    assert check_space(hub, receipt.model_copy(update={"space": None})) == []
