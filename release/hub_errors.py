"""What a Hub's refusals and failures mean, in the contract's words: HubError with the Hub, the finding and the next step.

with translated(endpoint, "create org/name", token):
    api.create_repo(...)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from release.content_digest import DAMAGED
from training.errors import HubError

PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers after which the same request may succeed


class HubFailure(HubError):
    """A HubError that remembers the answer's status (None: no whole answer came) and how long the Hub asked to wait."""

    def __init__(
        self,
        what: str,
        *,
        where: str,
        found: str | None = None,
        expected: str | None = None,
        next_step: str | None = None,
        status: int | None = None,
        wait: float | None = None,
    ) -> None:
        super().__init__(what, where=where, expected=expected, found=found, next_step=next_step)
        self.status, self.wait = status, wait


def is_passing(error: HubError) -> bool:
    """Whether the same request may succeed later."""
    return isinstance(error, HubFailure) and (error.status is None or error.status in PASSING)


def retry_after(error: HubError) -> float | None:
    return error.wait if isinstance(error, HubFailure) else None


@contextmanager
def translated(endpoint: str, doing: str, token: str | bool | None) -> Iterator[None]:
    """Turn what huggingface_hub raises into HubFailure; `token` is kept out of every message."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        yield
    except HfHubHTTPError as error:
        raise _from_answer(error, endpoint, doing, token) from error
    except LocalEntryNotFoundError as error:  # how snapshot_download says that the Hub did not answer
        cause = error.__cause__
        if isinstance(cause, HfHubHTTPError):
            raise _from_answer(cause, endpoint, doing, token) from error
        raise _unreachable(cause or error, endpoint, doing, token) from error
    except (httpx2.HTTPError, ConnectionError, TimeoutError) as error:
        raise _unreachable(error, endpoint, doing, token) from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise HubFailure(
            f"could not {doing}: the answer is not what a Hub says",
            where=endpoint,
            found=_clean(str(error), token),
            next_step="check that HF_ENDPOINT is a Hub; if it is, run the same command again",
        ) from error
    except RuntimeError as error:  # hf_xet's uploads and downloads
        if "xet" not in str(error).lower() and "cas" not in str(error).lower():
            raise
        raise HubFailure(
            f"could not {doing}: the transfer of a large file failed",
            where=endpoint,
            found=_clean(str(error), token),
            next_step="run the same command again; what was stored is not sent twice",
        ) from error


def _from_answer(error: Exception, endpoint: str, doing: str, token: str | bool | None) -> HubFailure:
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError

    assert isinstance(error, HfHubHTTPError)
    status: int | None = error.response.status_code
    assert status is not None
    said = _clean(error.server_message or str(error), token)
    what, next_step = f"could not {doing}: the Hub answered {status}", "run the same command again"
    if isinstance(error, RevisionNotFoundError):
        what, next_step = f"could not {doing}: there is no such revision", "give a branch, tag or commit that exists"
    elif isinstance(error, GatedRepoError):  # which to the client is a kind of RepositoryNotFoundError
        what = f"could not {doing}: its authors let in whom they choose, and " + (
            "the user of this token is not among them" if token else "nobody without a token"
        )
        page = _page_of(str(error.response.request.url), endpoint)
        next_step = f"ask for access at {page}, logged in as the user of the token, and set HF_TOKEN to that token"
    elif status == 401 and not isinstance(error, RepositoryNotFoundError):
        what = (
            f"could not {doing}: the Hub does not accept the token" if token else f"could not {doing} without a token"
        )
        next_step = "set HF_TOKEN to a valid token with write access (see the Hub's settings, or `hf auth login`)"
    elif isinstance(error, RepositoryNotFoundError) or status == 404:
        what = f"could not {doing}: there is no such repository, or this token may not see it"
        next_step = "check the id, and set HF_TOKEN if the repository is private"
    elif status == 403:
        what = f"could not {doing}: this token may not do that"
        next_step = "choose a --repo in a namespace of your own, or set HF_TOKEN to a token that may write to this one"
    elif status == 429:
        what, next_step = (
            f"could not {doing}: too many requests",
            "wait as the Hub asks, then run the same command again",
        )
    elif status == 410:
        what = f"could not {doing}: the Hub has lost a file that it lists"
        next_step = "send that file again (hf upload, from your own copy), then run the same command again"
    elif status in (409, 412):
        what, next_step = f"could not {doing}: it changed meanwhile", "run the same command again"
    elif status >= 500:
        what, next_step = (
            f"could not {doing}: the Hub failed ({status})",
            "wait a little, then run the same command again",
        )
    elif error.response.headers.get("X-Error-Code") == DAMAGED:
        what, status = f"could not {doing}: what was sent did not reach the Hub as it was", None
    elif status in (400, 413, 422):
        what, next_step = (
            f"could not {doing}: the Hub refuses the content ({status})",
            "mend what it names, then plan again",
        )
    return HubFailure(what, where=endpoint, found=said, next_step=next_step, status=status, wait=_wait(error))


def _page_of(url: str, endpoint: str) -> str:
    """The page of the repository that a request was about, where its access is asked for."""
    found = re.search(
        r"/(?:api/(?=models/|datasets/|spaces/))?(?:models/|(datasets|spaces)/)?([^/?]+/[^/?]+)", urlsplit(url).path
    )
    kind, repo_id = found.groups() if found else (None, None)
    return f"{endpoint}/{kind}/{repo_id}" if kind else f"{endpoint}/{repo_id or ''}"


def _unreachable(error: BaseException, endpoint: str, doing: str, token: str | bool | None) -> HubFailure:
    local = "127.0.0.1" in endpoint or "localhost" in endpoint
    start = "start it with `python -m release hub --root DIR --port N`" if local else "check the connection"
    return HubFailure(
        f"could not {doing}: the Hub cannot be reached",
        where=endpoint,
        found=f"{type(error).__name__}: {_clean(str(error), token)}",
        next_step=f"{start}, or set HF_ENDPOINT to another Hub, then run the same command again",
    )


def _wait(error: Exception) -> float | None:
    from huggingface_hub.errors import HfHubHTTPError

    headers = error.response.headers if isinstance(error, HfHubHTTPError) else {}
    value = headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


def _clean(message: str, token: str | bool | None) -> str:
    """One line without the token."""
    line = " ".join(message.split())[:400]
    return line.replace(token, "hf_***") if isinstance(token, str) and token else line
