"""`release publish --space FLAVOUR`: the Space on the Hub, with the release, pinned to it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from release.__main__ import main
from release.hub_client import HubClient
from release.records import Receipt, ReleasePlan, SpaceBoot
from training.records import sha256_of_file


@pytest.mark.usefixtures("load_here")
def test_a_flavour_is_published_with_its_release_and_a_second_time_does_nothing(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["publish", "--run", str(run), "--repo", repo_id, "--space", "endpoint"]
    words += ["--space-url", "https://host.example/v1", "--space-hardware", "cpu-upgrade", "--json"]
    assert main(words) == 0
    tree = hub.tree(f"{repo_id}-chat", "main", "space")
    assert "endpoint_model.py" in tree
    assert "transformers_model.py" not in tree
    space = json.loads(Path(hub.api.hf_hub_download(f"{repo_id}-chat", "space.json", repo_type="space")).read_text())
    assert space["revision"] == hub.resolve(repo_id, "v1.0.0")
    assert space["backend_settings"]["url"] == "https://host.example/v1"
    tokenizer = run / "checkpoint" / "tokenizer.json"
    assert space["backend_settings"]["files"]["tokenizer.json"] == sha256_of_file(tokenizer)
    flavour = ReleasePlan.read(run / "plan.json").space_flavour
    assert flavour is not None
    assert flavour.backend == "endpoint"
    reason = "its server https://host.example/v1 cannot be reached from here (ConnectError)"
    summary = json.loads(capsys.readouterr().out)["summary"]
    assert f"not booted: {reason}" in summary
    assert f"choose cpu-upgrade in {hub.endpoint}/spaces/{repo_id}-chat/settings" in summary
    space_receipt = Receipt.read(run / "receipt.json").space
    assert space_receipt is not None
    assert space_receipt.boot == SpaceBoot(not_booted=reason)
    capsys.readouterr()
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["already_released"] is True


def test_options_of_the_space_without_one_and_a_flavour_that_is_none_are_usage_errors(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["check", "--run", str(run)]
    assert main([*words, "--space-url", "https://host.example"]) == 2
    assert "--space-url without --space" in capsys.readouterr().err
    assert main([*words, "--space", "gpu"]) == 2
    assert "no such flavour" in capsys.readouterr().err
    assert main([*words, "--space", "--space-precision", "Q8_0"]) == 2
    assert "--space-precision is of a flavour" in capsys.readouterr().err
    assert main([*words, "--space", "cpu", "--space-precision", "Q8_0"]) == 2
    assert f"python -m release export --run {run} --gguf Q8_0 --repo ORG/NAME-GGUF" in capsys.readouterr().err


def test_the_same_command_with_another_server_is_another_plan(run: Path) -> None:
    words = ["plan", "--run", str(run), "--repo", "org/name", "--space", "tgi", "--space-url"]
    assert main([*words, "https://one.example"]) == 0
    first = ReleasePlan.read(run / "plan.json")
    assert main([*words, "https://two.example"]) == 0
    second = ReleasePlan.read(run / "plan.json")
    assert first.files == second.files
    assert first.content_digest() != second.content_digest()


def test_the_next_command_asks_for_the_precision_that_was_planned(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "plan",
        "--run",
        str(run),
        "--repo",
        "org/name",
        "--space",
        "cpu",
        "--space-precision",
        "float32",
        "--json",
    ]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["plan"]["space_flavour"]["precision"] == "float32"
    assert "--space-hardware cpu-basic --space-precision float32" in printed["summary"]
