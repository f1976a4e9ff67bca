"""One commit on main with exactly the files of an earlier commit, downloaded and compared before they are sent.

commit = return_to(hub, "org/name", main="3f2a...", old="9c1b...", name="v1.0.0")
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from release.bundle import files_of
from release.hub_client import HubClient, Kind
from release.hub_files import HUB_OWN_FILE, MEND, LocalFile, changes, difference
from training.command import log
from training.errors import VerificationMismatch


def return_to(hub: HubClient, repo_id: str, *, main: str, old: str, name: str, kind: Kind = "model") -> str:
    """The commit of main with the files of `old`, which `name` tells to people; `main` where it holds them already.

    Raises VerificationMismatch where they come back damaged, HubError.
    """
    wanted = hub.tree(repo_id, old, kind)
    with TemporaryDirectory(prefix="slipway-rollback-") as cache:
        log(f"downloading {repo_id} at {name}")
        snapshot = hub.download(repo_id, old, Path(cache), kind)
        files = {
            entry.path: LocalFile(snapshot / entry.path, entry.sha256)
            for entry in files_of(snapshot, without=(HUB_OWN_FILE,))
        }
        damaged = difference(files, wanted)
        if damaged is not None:
            raise VerificationMismatch(
                f"the files of {name} come back damaged; main is as it was",
                where=f"{hub.endpoint}/{repo_id}, commit {old}",
                expected="the files that the Hub lists",
                found=damaged,
                next_step="roll back to another tag with --to; or, to have this one again, "
                f"{MEND}, and then the same command again",
            )
        additions, deletions = changes(files, hub.tree(repo_id, main, kind))
        if not additions and not deletions:
            return main
        return hub.commit(
            repo_id,
            "main",
            parent=main,
            additions=additions,
            deletions=deletions,
            title=f"Roll back to {name}",
            message=f"The files of commit {old}",
            landed=lambda commit: difference(files, hub.tree(repo_id, commit, kind)) is None,
            kind=kind,
        )
