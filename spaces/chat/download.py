"""Files of one commit of a repository, from the Hub or its cache, checked by their hashes before they are used.

folder = fetch("org/name", "3f2a...", patterns=["tokenizer.json"])    # Unavailable, in words, where it cannot
check_hashes(folder, {"tokenizer.json": "52a5..."})
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path

from chat_model import Unavailable
from huggingface_hub import get_token, snapshot_download
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
        raise _cannot(f"{where} is gated: accept its terms, and {_token_that('has done so')}.", error) from error
    except RevisionNotFoundError as error:
        raise _cannot(f"The repository exists but has no revision {revision}.", error) from error
    except RepositoryNotFoundError as error:
        raise _cannot(f"There is no {where}, or it is private: {_token_that('may read it')}.", error) from error
    except LocalEntryNotFoundError as error:
        raise _cannot(f"{where} is not in the cache, and the Hub cannot be reached.", error) from error
    except HfHubHTTPError as error:
        raise _cannot(f"The Hub refused {where}: {_refusal(error.response.status_code)}.", error) from error
    except (OSError, TransportError) as error:
        raise _cannot(f"{where} cannot be downloaded ({type(error).__name__}).", error) from error


def _cannot(words: str, error: Exception) -> Unavailable:
    """What a visitor is told; what the Hub said is for whoever runs the page, and goes into the log."""
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    return Unavailable(words)


def _token_that(may: str) -> str:
    """What is to be done about the token."""
    if get_token():
        return f"the HF_TOKEN that is set is not of an account that {may}"
    return f"set HF_TOKEN as a secret of the Space, of an account that {may}"


def _refusal(status: int) -> str:
    if status == HTTPStatus.UNAUTHORIZED and get_token():
        return "the HF_TOKEN that is set is not valid. Make a new one, and set it as a secret of the Space"
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return _token_that("may read it")
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return "too many requests. The page tries again"
    return f"status {status}"


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
