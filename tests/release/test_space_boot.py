"""Before a release is shown its Space is run from the Hub and asked, or a reason stands where that is not done."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from release.__main__ import main
from release.hub_client import HubClient
from release.publish import Publication
from release.records import Receipt, SpaceBoot
from release.space_boot import satisfied
from release.space_bundle import pinned_requirements


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def boot_of(run: Path) -> SpaceBoot | None:
    space = Receipt.read(run / "receipt.json").space
    assert space is not None
    return space.boot


def is_private(hub: HubClient, repo_id: str, kind: Any) -> bool:
    repository = hub.repository(repo_id, kind)
    assert repository is not None
    return repository.private


@pytest.mark.slow
@pytest.mark.usefixtures("load_here")
def test_the_space_answers_before_it_is_shown_and_is_not_asked_again_after_a_kill(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    words = ["publish", "--run", str(run), "--repo", repo_id, "--space"]
    with monkeypatch.context() as patch:
        patch.setattr(Publication, "_show", die)
        with pytest.raises(Killed):
            main(words)
    booted = [json.loads(line) for line in (run / "journal.jsonl").read_text().splitlines()][-1]
    assert booted["step"] == "booted"
    assert booted["boot"]["runtime"].startswith("transformers")
    assert booted["boot"]["not_booted"] is None
    assert booted["boot"]["isolated"] is False, "the pins are this installation's"
    assert is_private(hub, repo_id, "model")
    assert is_private(hub, f"{repo_id}-chat", "space")
    capsys.readouterr()
    assert main(["resume", "--run", str(run)]) == 0
    said = capsys.readouterr()
    assert "booting" not in said.err
    assert "asked 'How can I fall asleep more easily?' it answered" in said.out
    assert boot_of(run) == SpaceBoot.model_validate(booted["boot"])
    assert not is_private(hub, f"{repo_id}-chat", "space")


@pytest.mark.usefixtures("load_here")
def test_a_space_that_does_not_answer_is_not_shown_unless_somebody_says_why(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["publish", "--run", str(run), "--repo", repo_id, "--space", "endpoint", "--space-url", hub.endpoint]
    assert main(words) == 4  # the server is there, but answers no chat
    said = capsys.readouterr().err
    assert "the Space does not answer" in said
    assert "--no-boot REASON" in said
    assert str(hub.api.token) not in said
    assert is_private(hub, repo_id, "model")
    assert is_private(hub, f"{repo_id}-chat", "space")
    assert not (run / "receipt.json").exists()
    reason = "its server starts tomorrow"
    assert main(["resume", "--run", str(run), "--no-boot", reason]) == 0
    assert f"not booted: {reason}" in capsys.readouterr().out
    assert boot_of(run) == SpaceBoot(not_booted=reason)


def test_a_reason_without_a_space_and_a_space_without_a_reason_are_usage_errors(
    run: Path, hub: HubClient, repo_id: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["publish", "--run", str(run), "--repo", repo_id]
    assert main([*words, "--no-boot", "none"]) == 2
    assert "a release without a Space" in capsys.readouterr().err
    assert main([*words, "--space", "--no-boot", " "]) == 2
    assert hub.repository(repo_id) is None


def test_requirements_are_satisfied_by_exactly_these_versions() -> None:
    pins = "".join(f"{name}=={version}\n" for name, version in pinned_requirements())
    assert satisfied(f"# a comment\n{pins}")
    assert not satisfied(pins + "gradio==1.0.0\n")
    assert not satisfied(pins + "no-such-package==1.0\n")
