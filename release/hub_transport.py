"""How requests travel to a Hub: limits to waiting, digests by which bytes that changed on their way are noticed, and no names
of files from a Hub that lead elsewhere.

    prepare_transport()        # from now on, for every request of huggingface_hub in this process

TLS notices a flipped bit; plain HTTP to a Hub of one's own does not. So bodies carry `Content-Digest` (RFC 9530), which
the embedded Hub checks, and answers that carry it are checked here. Other Hubs ignore the header.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from release.content_digest import HEADER, content_digest
from training.errors import VerificationMismatch

if TYPE_CHECKING:
    import httpx2

CONNECT_LIMIT = 10.0  # seconds
ANSWER_LIMIT = 120.0  # seconds without a byte
# hf_xet tries each request again by itself, silently and by default for minutes; hub_client.py tries the whole commit again.
XET_PATIENCE = {
    "HF_XET_CLIENT_RETRY_BASE_DELAY": "1s",
    "HF_XET_CLIENT_RETRY_MAX_ATTEMPTS": "3",
    "HF_XET_CLIENT_RETRY_MAX_DURATION": "20s",
}

NAMES = (
    "ETag",
    "X-Linked-Etag",
    "X-Repo-Commit",
)  # of these huggingface_hub makes names of files in its cache, unchecked
_NAME = re.compile(r"[A-Za-z0-9_=+-][A-Za-z0-9_=+.:-]{0,199}")


def prepare_transport() -> None:
    """Let huggingface_hub's connections end their waiting, and check digests. Repeating it changes nothing.

    hf_xet reads its variables when it first sends something; those that the user has set stay as they are.
    """
    for name, value in XET_PATIENCE.items():
        os.environ.setdefault(name, value)
    import httpx2
    from huggingface_hub import set_client_factory
    from huggingface_hub.utils._http import default_client_factory

    def factory() -> httpx2.Client:
        client = default_client_factory()
        # Stock, a Hub that accepts and never answers is waited for for ever.
        client.timeout = httpx2.Timeout(CONNECT_LIMIT, read=ANSWER_LIMIT, write=ANSWER_LIMIT, pool=None)
        hooks = client.event_hooks
        client.event_hooks = {
            "request": [*hooks.get("request", []), _add_digest],
            "response": [*hooks.get("response", []), _check_digest, _check_names],
        }
        return client

    set_client_factory(factory)


def _add_digest(request: httpx2.Request) -> None:
    """To bodies that are in memory; large files are streamed, and named by their SHA-256 anyway."""
    import httpx2

    if isinstance(request.stream, httpx2.ByteStream) and (
        content := request.read()
    ):  # one that is led elsewhere is not read yet
        request.headers[HEADER] = content_digest(content)


def _check_digest(response: httpx2.Response) -> None:
    """Raises RemoteProtocolError, after which a request that may be repeated is."""
    import httpx2

    promised = response.headers.get(HEADER)
    if promised is not None and response.request.method != "HEAD" and promised != content_digest(response.read()):
        raise httpx2.RemoteProtocolError(
            "the answer changed on its way: its digest is another", request=response.request
        )


def _check_names(response: httpx2.Response) -> None:
    """Raises VerificationMismatch where a file's metadata would have it written outside of the cache."""
    if response.request.method != "HEAD":
        return  # of other answers no names are made
    for header in NAMES:
        value = response.headers.get(header)
        if value and not _NAME.fullmatch(value.removeprefix("W/").strip('"')):
            raise VerificationMismatch(
                "the Hub names a file by what cannot be a name of a file; nothing of it was written",
                where=f"{response.request.url.copy_with(query=None)}, {header}",
                expected="a hash or a commit's id",
                found=ascii(value)[:200],
                next_step="check that HF_ENDPOINT (or --from) is the Hub that you mean",
            )
