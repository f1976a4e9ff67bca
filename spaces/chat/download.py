"""Files of one commit of a repository, from the Hub or its cache, checked by their hashes before they are used.

folder = fetch("org/name", "3f2a...", patterns=["tokenizer.json"])    # Unavailable, in words, where it cannot
check_hashes(folder, {"tokenizer.json": "52a5..."})
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from chat_model import Unavailable
from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

try:
    from httpx2 import HTTPError as TransportError
except ImportError:  # huggingface_hub below 1, which the tgi flavour needs, speaks through requests
    from requests import RequestException as TransportError

# What the repository holds beside the model: it is not needed to answer.
NOT_NEEDED = ["*.md", "*.png", "*.svg", "*.sig", "samples/*", "baseline/*", "figures/*", ".eval_results/*"]


def fetch(repo_id: str, revision: str | None, patterns: Sequence[str] | None = None) -> Path:
    """The folder with the files of this commit. Without a revision `repo_id` is a folder: a page not yet published."""
    if revision is None:
        folder = Path(repo_id)
        if not folder.is_dir():
            raise Unavailable(f"There is no folder {folder}, and space.json names no revision of a repository.")
        return folder
    where = f"{repo_id} at revision {revision}"
    wanted = None if patterns is None else list(patterns)
    try:
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=wanted, ignore_patterns=NOT_NEEDED))
    except GatedRepoError as error:
        raise Unavailable(f"{where} is gated: accept its terms, and set HF_TOKEN as a secret of the Space.") from error
    except RevisionNotFoundError as error:
        raise Unavailable(f"The repository exists but has no revision {revision}.") from error
    except RepositoryNotFoundError as error:
        raise Unavailable(f"There is no {where}, or it is private and HF_TOKEN is not set.") from error
    except LocalEntryNotFoundError as error:
        raise Unavailable(f"{where} is not in the cache, and the Hub cannot be reached.") from error
    except HfHubHTTPError as error:
        raise Unavailable(f"The Hub refused {where}: {error}") from error
    except (OSError, TransportError) as error:
        raise Unavailable(f"{where} cannot be downloaded: {type(error).__name__}: {error}") from error


def check_hashes(folder: Path, expected: Mapping[str, str]) -> None:
    """Raises Unavailable where a file is missing or has another SHA-256 (hex) than it was published with."""
    for name, sha256 in expected.items():
        file = folder / name
        found = _sha256(file) if file.is_file() else "no such file"
        if found != sha256:
            raise Unavailable(
                f"{name} is not the file that this page was published for: expected SHA-256 {sha256}, found {found}. "
                "Publish the Space again, or download the model again."
            )


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
