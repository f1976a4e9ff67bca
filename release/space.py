"""The Space of a release: its files in one commit of its own repository, pinned to the model's commit."""

from __future__ import annotations

from pathlib import Path

from evals.scorecard import Scorecard
from release.gates.paperwork import front_matter
from release.hub_client import HubClient
from release.hub_files import LocalFile
from release.records import ReleasePlan, SpaceReceipt
from release.space_commit import commit_space
from training.checkpoint import FileEntry

SERVE = "Serve "  # how the title of the Space's commit begins


def space_files(plan: ReleasePlan, bundle: Path, commit: str) -> dict[str, bytes]:
    """The Space's files for the model at `commit`. Raises UsageError where they cannot be made."""
    from release.space_bundle import build_space_bundle

    scorecard, card = bundle / "scorecard.json", front_matter(bundle / "README.md")
    return build_space_bundle(
        model_id=plan.repo_id,
        revision=commit,
        tag=plan.tag,
        checkpoint_digest=plan.checkpoint_digest,
        scorecard=Scorecard.read(scorecard) if scorecard.is_file() else None,
        title=f"{plan.repo_id.partition('/')[2]} chat",
        license=card.get("license"),
        verify_command=f"python -m release verify {plan.repo_id}@{plan.tag}",
        flavour=plan.space_flavour,
        files={entry.path: entry.sha256 for entry in plan.files},
    )


def publish_space(hub: HubClient, plan: ReleasePlan, bundle: Path, commit: str) -> SpaceReceipt:
    """Create the Space (private until the release is visible) and give it the files for the model at `commit`.

    Does nothing where it holds them already, so it may be called again after a kill.
    """
    assert plan.space is not None
    repo_id = plan.space
    files = {path: LocalFile.of(data) for path, data in space_files(plan, bundle, commit).items()}
    head, _ = commit_space(
        hub,
        repo_id,
        files,
        sdk="gradio",
        title=f"{SERVE}{plan.repo_id} {plan.tag}",
        message=f"Commit {commit} of {plan.repo_id}",
    )
    entries = [FileEntry(path=path, size=file.size, sha256=file.sha256) for path, file in sorted(files.items())]
    return SpaceReceipt(repo_id=repo_id, commit=head, files=entries)
