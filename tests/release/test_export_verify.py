"""A repository of GGUF files, verified by somebody who has its id alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from exportable import make_run, release
from huggingface_hub import HfApi
from tiny_run import OWNER

from release.__main__ import main
from release.exports import parity
from release.exports import publish as publishing
from release.exports.card import render_card
from release.exports.export import Identity, export
from release.exports.publish import publish_export
from release.exports.record import ExportRecord
from release.hub_client import HubClient
from release.staging import Staging
from training.checkpoint import Checkpoint
from training.errors import UsageError

pytest.importorskip("xllamacpp")

BASE = f"{OWNER}/tiny-of-gguf"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "ANSWER_TOKENS", 6)
        folder = make_run(tmp_path_factory.mktemp("verify") / "tiny")
        export(folder, ["F16"], folder / "gguf", Identity("tiny", BASE, "apache-2.0"))
        yield folder


@pytest.fixture
def published(run: Path, hub: HubClient, repo_id: str) -> str:
    release(hub, BASE, run / "checkpoint")
    publish_export(run / "gguf", Checkpoint.open(run / "checkpoint"), repo_id, hub)
    return repo_id


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, dict[str, Any], str]]:
    """The command's exit code, its JSON, and what it said."""

    def run_command(*words: str) -> tuple[int, dict[str, Any], str]:
        capsys.readouterr()
        code = main(["verify", *words, "--json"])
        out, err = capsys.readouterr()
        return code, json.loads(out), err

    return run_command


def retype(hub: HubClient, repo_id: str, run: Path, loss: dict[str, Any] | None = None, **changes: Any) -> ExportRecord:
    """Somebody who may write changes figures of export.json."""
    record = ExportRecord.read(run / "gguf" / "export.json")
    (file,) = record.files
    typed = file.model_copy(update={"loss": file.loss.model_copy(update=loss or {}), **changes})
    record = record.model_copy(update={"files": [typed]})
    hub.api.upload_file(path_or_fileobj=record.to_json(), path_in_repo="export.json", repo_id=repo_id)
    return record


def test_every_file_is_held_against_the_commits_message_and_the_record(published: str, verify: Any) -> None:
    code, told, _ = verify(published)
    assert code == 0, told
    held = {finding["subject"] for finding in told["findings"] if finding["check"] == "file"}
    assert held == {"README.md", "export.json", "tiny-F16.gguf"}
    assert {finding["check"] for finding in told["findings"]} == {"file", "record", "card", "base"}


@pytest.mark.parametrize("path", ["README.md", "export.json", "tiny-F16.gguf", "another.txt"])
def test_a_file_that_is_not_as_it_was_exported_is_named(
    path: str, published: str, hub: HubClient, run: Path, verify: Any, tmp_path: Path
) -> None:
    """Changed by somebody who may write, with another commit: that has no message of ours, but the receipt tells."""
    content = (run / "gguf" / path).read_bytes() if path != "another.txt" else b"?"
    changed = content.replace(b'"name": "tiny"', b'"name": "nobody"') if path == "export.json" else content + b"!"
    hub.api.upload_file(path_or_fileobj=changed, path_in_repo=path, repo_id=published)
    code, told, _ = verify(published, "--receipt", str(run / "gguf" / "export-receipt.json"))
    assert code == 0, "the receipt's commit is what was exported"
    code, told, _ = verify(f"{published}@main", "--receipt", str(run / "gguf" / "export-receipt.json"))
    assert code == 4
    assert path in told["error"]["what"]
    if path in ("tiny-F16.gguf", "another.txt"):
        assert verify(published)[0] == 4, "and export.json alone is enough"


def test_the_losses_are_measured_again_beside_the_released_model(
    published: str, hub: HubClient, run: Path, verify: Any
) -> None:
    code, told, _ = verify(published, "--remeasure")
    assert code == 0
    assert {finding["check"] for finding in told["findings"]} == {"file", "record", "card", "base", "loss"}
    config = json.loads((run / "checkpoint" / "config.json").read_bytes())
    changed = json.dumps(config | {"rope_theta": 5.0}).encode()
    hub.api.upload_file(path_or_fileobj=changed, path_in_repo="config.json", repo_id=BASE)
    hub.api.delete_tag(BASE, tag="v1.0.0")
    code, told, _ = verify(published, "--remeasure")
    assert code == 4
    assert BASE in told["error"]["what"]
    hub.api.delete_repo(BASE)
    assert verify(published, "--remeasure")[0] == 5, "nobody can, where the model is not to be had"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"kl_max": 0.0}, "a largest divergence of 0 with a mean of"),
        ({"greedy_agreement": 0.9901}, "which is no share of 72"),
        ({"same_texts": 13}, "the same texts for 13 of 12 prompts"),
        ({"prompts": 400, "same_tokens": 400, "same_texts": 400}, "400 prompts; those that it names are 12"),
        ({"kl_mean": 0.5, "kl_max": 0.6}, "a file with this loss is not kept"),
    ],
)
def test_figures_that_no_measurement_gives_are_found_without_running_anything(
    typed: dict[str, Any], said: str, published: str, hub: HubClient, run: Path, verify: Any
) -> None:
    retype(hub, published, run, loss=typed)
    code, told, _ = verify(published)
    assert code == 4
    assert said in told["error"]["what"]


def test_figures_that_no_measurement_gives_are_not_published(run: Path, hub: HubClient, tmp_path: Path) -> None:
    release(hub, BASE, run / "checkpoint")
    typed = Path(shutil.copytree(run / "gguf", tmp_path / "gguf"))
    record = ExportRecord.read(typed / "export.json")
    (file,) = record.files
    loss = file.loss.model_copy(update={"kl_max": 0.5})
    record.model_copy(update={"files": [file.model_copy(update={"loss": loss})]}).write(typed / "export.json")
    with pytest.raises(UsageError, match="does not agree with itself"):
        publish_export(typed, Checkpoint.open(run / "checkpoint"), f"{OWNER}/never", hub)
    assert hub.repository(f"{OWNER}/never") is None


def test_tensors_and_a_card_that_are_not_the_files_are_found_without_running_anything(
    published: str, hub: HubClient, run: Path, verify: Any
) -> None:
    retype(hub, published, run, tensors={"F16": 99})
    assert "recorded as {'F16': 99}" in verify(published)[1]["error"]["what"]
    retype(hub, published, run)
    card = re.sub(r"\d+ of 12 \|", "2 of 12 |", (run / "gguf" / "README.md").read_text())
    hub.api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=published)
    code, told, _ = verify(published)
    assert code == 4
    assert "card README.md" in told["error"]["what"]


@pytest.mark.parametrize("typed", [{"same_texts": 2}, {"kl_max": 0.004, "kl_mean": 0.0009}])
def test_figures_that_only_a_run_can_tell_are_found_where_they_are_measured_again(
    typed: dict[str, Any], published: str, hub: HubClient, run: Path, verify: Any
) -> None:
    record = retype(hub, published, run, loss=typed)
    card = render_card(record, repo_id=published, endpoint=hub.endpoint).encode()
    hub.api.upload_file(path_or_fileobj=card, path_in_repo="README.md", repo_id=published)
    assert verify(published)[0] == 0, "nothing but a run could tell"
    code, told, _ = verify(published, "--remeasure")
    assert code == 4
    assert "loss tiny-F16.gguf" in told["error"]["what"]


def test_files_of_another_checkpoint_than_the_release_that_they_name_are_found_by_its_hashes(
    published: str, hub: HubClient, run: Path, verify: Any
) -> None:
    config = json.loads((run / "checkpoint" / "config.json").read_bytes())
    changed = json.dumps(config | {"rope_theta": 5.0}).encode()
    hub.api.upload_file(path_or_fileobj=changed, path_in_repo="config.json", repo_id=BASE)
    assert verify(published)[0] == 0, "the record names no revision, and v1.0.0 has these bytes"
    record = ExportRecord.read(run / "gguf" / "export.json").model_copy(update={"base_revision": "main"})
    hub.api.upload_file(path_or_fileobj=record.to_json(), path_in_repo="export.json", repo_id=published)
    code, told, _ = verify(published)
    assert code == 4
    assert f"base {BASE}@main" in told["error"]["what"]


def test_what_the_released_model_does_not_show_its_files_do_not_show(run: Path, hub: HubClient, repo_id: str) -> None:
    checkpoint = Checkpoint.open(run / "checkpoint")
    hub.api.delete_repo(BASE, missing_ok=True)
    with pytest.raises(UsageError, match="not on this Hub"):
        publish_export(run / "gguf", checkpoint, repo_id, hub)
    release(hub, BASE, run / "checkpoint")
    hub.api.update_repo_settings(BASE, private=True)
    with pytest.raises(UsageError, match="private, and they would show its weights"):
        publish_export(run / "gguf", checkpoint, repo_id, hub)
    hub.api.update_repo_settings(BASE, private=False, gated="manual")
    with pytest.raises(UsageError, match="gated, and they would show its weights"):
        publish_export(run / "gguf", checkpoint, repo_id, hub)
    hub.api.update_repo_settings(BASE, gated=False)
    hub.api.upload_file(path_or_fileobj=b"{}", path_in_repo="config.json", repo_id=BASE)
    with pytest.raises(UsageError, match="another checkpoint"):
        publish_export(run / "gguf", checkpoint, repo_id, hub)
    assert hub.repository(repo_id) is None
    hub.api.delete_repo(BASE)


def test_the_models_own_repository_is_not_replaced_by_its_files(run: Path, hub: HubClient) -> None:
    hub.api.delete_repo(BASE, missing_ok=True)
    release(hub, BASE, run / "checkpoint")
    before = hub.tree(BASE, "main")
    with pytest.raises(UsageError, match="holds something else than an export"):
        publish_export(run / "gguf", Checkpoint.open(run / "checkpoint"), BASE, hub)
    assert hub.tree(BASE, "main") == before
    hub.api.delete_repo(BASE)


def test_a_later_export_to_a_public_repository_is_staged_where_nobody_sees_it(
    published: str, run: Path, hub: HubClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A poller without a token sees main alone, and what was there, until the whole is on main."""
    anonymous, seen = HfApi(endpoint=hub.endpoint, token=False), []
    checked = publishing._check

    def look(hub: HubClient, staging: Staging, staged: str, files: Any) -> None:
        seen.append({branch.name for branch in anonymous.list_repo_refs(published).branches})
        seen.append({model.id for model in anonymous.list_models(author=OWNER)} & {staging.repo_id})
        checked(hub, staging, staged, files)

    monkeypatch.setattr(publishing, "_check", look)
    before = hub.api.list_repo_files(published)
    record = ExportRecord.read(run / "gguf" / "export.json")
    changed = Path(shutil.copytree(run / "gguf", run / "again"))
    record.model_copy(update={"created": "2026-11-28T00:00:00+00:00"}).write(changed / "export.json")
    publish_export(changed, Checkpoint.open(run / "checkpoint"), published, hub)
    assert seen == [{"main"}, set()]
    assert sorted(hub.api.list_repo_files(published)) == sorted(before)
    assert not [model for model in hub.api.list_models(author=OWNER) if "staging" in model.id]


def test_who_rolls_a_model_back_is_told_of_its_files_that_stay(published: str, run: Path, hub: HubClient) -> None:
    (line,) = publishing.exports_left(hub, run / "gguf")
    assert f"hf repos settings {published} --private" in line
    hub.api.update_repo_settings(published, private=True)
    assert publishing.exports_left(hub, run / "gguf") == []
    assert publishing.exports_left(hub, run / "elsewhere") == []


@pytest.mark.parametrize(
    ("words", "expected"), [(["--rescore", "2"], "--remeasure"), (["--key", "nobody.pub"], "nobody.pub")]
)
def test_what_is_for_releases_is_refused_in_words(
    words: list[str], expected: str, published: str, verify: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = verify(published, *words)
    assert code == 2
    assert expected in err
