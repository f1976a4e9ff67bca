"""The salt of a published feedback Space: drawn once and set as its secret, so that a labeller stays one person for ever.

said = ensure_salt(hub, "org/feedback", "org/feedback-votes")      # what was done, or is left to do, in words

A Space on the Hub's default hardware has an empty disk at each start, where the page would draw another salt. The Hub gives no
secret back, so it is kept where spaces/serve.py keeps votes of this Space: a page that is run on this machine knows the same
labellers. LABELLER_SALT in this command's environment is taken instead of a drawn one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from pathlib import Path

from release.hub_client import HubClient
from release.hub_errors import translated
from training.errors import UsageError
from training.records import write_atomically

KEPT = Path(__file__).resolve().parent.parent / ".slipway"  # as in spaces/serve.py
VARIABLE = "LABELLER_SALT"
SALT_MARK = "labeller_salt.sha256"  # as spaces/chat/vote_dataset.py writes it at the first push


def ensure_salt(hub: HubClient, space: str, dataset: str | None) -> str:
    """Give the Space a salt where it has none and no vote was hashed with another; what there is to say of it.

    Raises UsageError where the environment's is not the one that the dataset names, HubError where the Hub refuses.
    """
    with translated(hub.endpoint, f"look at the secrets of {space}", hub.api.token):
        if VARIABLE in hub.api.get_space_secrets(space):
            return f"its secret {VARIABLE} is set, and stays"
    told, voted = _told(hub, dataset)
    given = os.environ.get(VARIABLE)
    if given and told is not None and told != hashlib.sha256(given.encode()).hexdigest():
        raise UsageError(
            f"{VARIABLE} is not the salt that the dataset's labellers were hashed with",
            where=f"dataset {dataset}, {SALT_MARK}",
            expected=f"SHA-256 {told}",
            found=hashlib.sha256(given.encode()).hexdigest(),
            next_step="set it to that salt, or name another dataset with --votes",
        )
    kept = _kept(space)
    if not given and kept.is_file():
        # Votes in a dataset that does not say their salt were hashed with this one where the page that gave them ran here.
        ours = any(kept.parent.glob("*.jsonl")) or not voted
        if told == hashlib.sha256(kept.read_bytes()).hexdigest() or (told is None and ours):
            given = kept.read_text()
    if not given and told is not None:
        return (
            f"warning: set its secret {VARIABLE} to the salt of SHA-256 {told[:12]}, which the labellers of {dataset} were hashed "
            "with, or the page does not start"
        )
    if not given and voted:
        return (
            f"warning: its secret {VARIABLE} is not set, and {dataset} has votes. Set it to the salt that they were hashed with "
            "(the file `salt` beside them, where the page kept them on a disk): without it, whoever voted is another labeller "
            "after a restart that loses the disk"
        )
    salt = given or secrets.token_hex(32)
    with translated(hub.endpoint, f"set the secret {VARIABLE} of {space}", hub.api.token):
        hub.api.add_space_secret(space, VARIABLE, salt)
    if os.environ.get(VARIABLE):
        return f"its secret {VARIABLE} was set from this environment"
    if given:
        return f"its secret {VARIABLE} was set to the salt in {kept.parent}"
    write_atomically(kept, salt.encode())
    kept.chmod(0o600)
    return f"its secret {VARIABLE} was drawn and set; the Hub shows it to nobody, {kept} keeps it"


def _kept(space: str) -> Path:
    """Where spaces/serve.py has the salt of this Space, or will look for it."""
    name = space.replace("/", "--")
    file = KEPT / "votes" / name / "salt"
    earlier = sorted((KEPT / "spaces" / name).glob("*/votes/salt"), key=lambda salt: salt.stat().st_mtime)
    return earlier[-1] if earlier and not file.is_file() else file


def _told(hub: HubClient, dataset: str | None) -> tuple[str | None, bool]:
    """The SHA-256 of the salt that the dataset names, and whether it has votes."""
    found = hub.repository(dataset, "dataset") if dataset is not None else None
    if dataset is None or found is None:
        return None, False
    files = hub.tree(dataset, found.main, "dataset")
    told = hub.text(dataset, found.main, SALT_MARK, "dataset").strip() if SALT_MARK in files else None
    return told, any(path.startswith("votes/") for path in files)
